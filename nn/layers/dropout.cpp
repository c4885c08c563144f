#include "core/random_stream.h"
#include "nn/layers/layer.h"

namespace dcs3gd::nn {
namespace {

/// Multiplies `values` by the mask of one image: 0 with the given probability, else `scale`. The mask is a pure
/// function of the random stream and the element, so backward draws it again instead of keeping it.
void apply_mask(const RandomStream& random, std::size_t first_block, std::uint32_t drop_below, float scale,
                const float* src, float* dst, std::size_t count) {
  constexpr std::size_t kDraws = std::tuple_size_v<RandomStream::Block>;
  for (std::size_t i = 0; i < count; i += kDraws) {
    const RandomStream::Block draws = random.block(first_block + i / kDraws);
    for (std::size_t lane = 0; lane < kDraws && i + lane < count; ++lane) {
      dst[i + lane] = draws[lane] < drop_below ? 0 : scale * src[i + lane];
    }
  }
}

/// Masks in training, in place where it may; in evaluation it does nothing. It works in plain order, as the mask must
/// not depend on a format, which the instruction set decides.
class DropoutLayer final : public Layer {
 public:
  DropoutLayer(const Node& node, const Dropout& options) : node_(node), options_(options) {}

  Flow plan_forward(Planner& planner, const std::vector<Flow>& src) override {
    if (!planner.training()) return src[0];
    src_format_ = src[0].tensor->desc();
    return {append_mask(planner, node_.name, src[0])};
  }

  std::vector<Flow> plan_backward(Planner& planner, Flow diff_dst, bool /*needs_diff_src*/) override {
    return {{planner.in_format(append_mask(planner, node_.name + " diff_src", diff_dst), src_format_)}};
  }

 private:
  /// Returns the masked `src`, in plain order.
  Tensor* append_mask(Planner& planner, const std::string& name, Flow src) const {
    const onednn::Descriptor plain = onednn::plain(onednn::dims_of(src.tensor->desc()));
    Tensor* from = planner.in_format(src.tensor, plain);
    Tensor* to = planner.in_place_or_new(from, src.may_overwrite || from != src.tensor, name);
    const PassContext& context = planner.surroundings().context;
    const std::uint64_t seed = planner.surroundings().options.seed;
    const int batch = planner.surroundings().options.batch;
    const auto layer = static_cast<std::uint64_t>(node_.dst);
    const auto drop_below = static_cast<std::uint32_t>(static_cast<double>(options_.probability) * 0x1p32);
    const float scale = 1 / (1 - options_.probability);
    planner.append(name, node_.kind->label, {from, to}, [=, &context](const ImageRange& images) {
      const RandomStream random(seed, RandomPurpose::dropout, static_cast<std::uint64_t>(context.identity.step),
                                static_cast<std::uint64_t>(context.identity.worker), layer);
      const std::size_t count = from->stored_elements_per_image();
      const std::size_t blocks =
          (count + std::tuple_size_v<RandomStream::Block> - 1) / std::tuple_size_v<RandomStream::Block>;
#pragma omp parallel for schedule(static)
      for (int image = images.first; image < images.first + images.count; ++image) {
        apply_mask(random, static_cast<std::size_t>(context.identity.part * batch + image) * blocks, drop_below, scale,
                   from->values({image, 1}), to->values({image, 1}), count);
      }
    });
    return to;
  }

  const Node& node_;
  Dropout options_;
  onednn::Descriptor src_format_;
};

}  // namespace

void Dropout::read(AttributeReader& reader) { reader.number("probability", probability, 0, 1); }

LayerOutline Dropout::outline(const std::string& /*layer*/, SourceShapes src) const { return {.dst = src[0]}; }

std::unique_ptr<Layer> Dropout::make_layer(const Node& node, const ImageShape& /*src*/) const {
  return std::make_unique<DropoutLayer>(node, *this);
}

}  // namespace dcs3gd::nn
