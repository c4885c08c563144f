#include <algorithm>

#include "nn/layers/layer.h"

namespace dcs3gd::nn {
namespace {

/// The pixels of window `index` of `size` along an axis of `pixels`.
struct Window {
  Window(int index, int size, int pixels)
      : begin(index * pixels / size), end(((index + 1) * pixels + size - 1) / size) {}
  int begin, end;
  int length() const { return end - begin; }
};

/// Calls body(pixel of src, pixel of dst, 1 / pixels of the window) for all pixels of all windows of one channel.
template <typename Body>
void for_each_pair(const ImageShape& src, int size, Body body) {
  for (int oh = 0; oh < size; ++oh) {
    const Window rows(oh, size, src.height);
    for (int ow = 0; ow < size; ++ow) {
      const Window columns(ow, size, src.width);
      const float share = 1.0F / static_cast<float>(rows.length() * columns.length());
      for (int h = rows.begin; h < rows.end; ++h) {
        for (int w = columns.begin; w < columns.end; ++w) body(h * src.width + w, oh * size + ow, share);
      }
    }
  }
}

/// Averages windows in plain order and fp32, which costs nothing where few pixels are left.
class AdaptiveAveragePoolingLayer final : public Layer {
 public:
  AdaptiveAveragePoolingLayer(const Node& node, const ImageShape& src, const AdaptiveAveragePooling& options)
      : node_(node), src_shape_(src), size_(options.size) {}

  Flow plan_forward(Planner& planner, const std::vector<Flow>& src) override {
    src_format_ = src[0].tensor->desc();
    Tensor* from = planner.in_format(src[0].tensor, onednn::plain(onednn::dims_of(src_format_)));
    Tensor* to =
        planner.activation(node_.name, onednn::plain({planner.range_images(), src_shape_.channels, size_, size_}));
    append(planner, " forward", from, to, {from, to},
           [](const float* s, float* d, int pixel, int window, float share) { d[window] += share * s[pixel]; });
    return {to};
  }

  std::vector<Flow> plan_backward(Planner& planner, Flow diff_dst, bool /*needs_diff_src*/) override {
    Tensor* to = planner.activation(node_.name + " diff_src", onednn::plain(onednn::dims_of(src_format_)));
    append(planner, " backward", diff_dst.tensor, to, {diff_dst.tensor, to},
           [](const float* s, float* d, int pixel, int window, float share) { d[pixel] += share * s[window]; });
    return {{planner.in_format(to, src_format_)}};
  }

 private:
  template <typename Transfer>
  void append(Planner& planner, const char* what, Tensor* from, Tensor* to, std::vector<Tensor*> tensors,
              Transfer transfer) const {
    const int channels = src_shape_.channels;
    planner.append(node_.name + what, node_.kind->label, std::move(tensors),
                   [=, shape = src_shape_, size = size_](const ImageRange& images) {
                     const std::size_t from_plane =
                         from->stored_elements_per_image() / static_cast<std::size_t>(channels);
                     const std::size_t to_plane = to->stored_elements_per_image() / static_cast<std::size_t>(channels);
                     const std::ptrdiff_t planes = std::ptrdiff_t{images.count} * channels;
#pragma omp parallel for schedule(static)
                     for (std::ptrdiff_t plane = 0; plane < planes; ++plane) {
                       const float* s = from->values(images) + static_cast<std::size_t>(plane) * from_plane;
                       float* d = to->values(images) + static_cast<std::size_t>(plane) * to_plane;
                       std::fill_n(d, to_plane, 0.0F);
                       for_each_pair(shape, size,
                                     [&](int pixel, int window, float share) { transfer(s, d, pixel, window, share); });
                     }
                   });
  }

  const Node& node_;
  ImageShape src_shape_;
  int size_;
  onednn::Descriptor src_format_;
};

/// Passes images and their gradients on: the windows are one pixel each.
class IdentityLayer final : public Layer {
 public:
  Flow plan_forward(Planner& /*planner*/, const std::vector<Flow>& src) override { return src[0]; }
  std::vector<Flow> plan_backward(Planner& /*planner*/, Flow diff_dst, bool /*needs_diff_src*/) override {
    return {diff_dst};
  }
};

}  // namespace

void AdaptiveAveragePooling::read(AttributeReader& reader) { reader.integer("size", size, 1); }

LayerOutline AdaptiveAveragePooling::outline(const std::string& /*layer*/, SourceShapes src) const {
  return {.dst = {src[0].channels, size, size}};
}

std::unique_ptr<Layer> AdaptiveAveragePooling::make_layer(const Node& node, const ImageShape& src) const {
  if (src.height == size && src.width == size) return std::make_unique<IdentityLayer>();
  return std::make_unique<AdaptiveAveragePoolingLayer>(node, src, *this);
}

}  // namespace dcs3gd::nn
