#include "nn/onednn/onednn.h"

#include <array>

#include "core/format.h"

namespace dcs3gd::nn::onednn {
namespace {

using dnnl::algorithm;
using dnnl::prop_kind;
using Tag = dnnl::memory::format_tag;

DataType data_type(Precision precision) { return precision == Precision::bf16 ? DataType::bf16 : DataType::f32; }

/// Lets scratch memory come from the caller, so that primitives share one block and a step allocates nothing.
dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

algorithm pooling_algorithm(PoolingAlgorithm choice) {
  return choice == PoolingAlgorithm::max ? algorithm::pooling_max : algorithm::pooling_avg_include_padding;
}

template <typename Request>
Descriptor bias_desc(const Request& request) {
  return request.bias ? plain({dims_of(request.dst)[1]}) : Descriptor();
}

template <typename Primitive>
Planned planned(const typename Primitive::primitive_desc& descriptor) {
  // oneDNN answers with an empty descriptor for what a primitive does not have.
  const auto gradient_or_value = [&](dnnl::query gradient, dnnl::query value) {
    const Descriptor desc = descriptor.query_md(gradient);
    return desc.get_size() > 0 ? desc : descriptor.query_md(value);
  };
  return {.primitive = Primitive(descriptor),
          .own_kernel = {},
          .implementation = descriptor.impl_info_str(),
          .src = gradient_or_value(dnnl::query::diff_src_md, dnnl::query::src_md),
          .weights = gradient_or_value(dnnl::query::diff_weights_md, dnnl::query::weights_md),
          .dst = gradient_or_value(dnnl::query::diff_dst_md, dnnl::query::dst_md),
          .workspace = descriptor.query_md(dnnl::query::workspace_md),
          .scratchpad = descriptor.scratchpad_desc()};
}

template <typename Primitive, typename Hint, typename... Arguments>
Planned plan_backward(const Device& device, const Hint& hint, const Arguments&... arguments) {
  return planned<Primitive>(describe_backward<Primitive>(device.engine, user_scratchpad(), hint, arguments...));
}

/// The forward primitive that a backward one is described with, as a hint. Its formats play no part, but it must exist:
/// the weights' gradient is fp32 where the weights are bf16.
template <typename Request>
Request forward_hint(Request request) {
  const Precision precision = precision_of(request.src);
  for (Descriptor* desc : {&request.src, &request.weights, &request.dst}) *desc = any(dims_of(*desc), precision);
  return request;
}

}  // namespace

bool Planned::is_generated() const { return implementation.find("ref") == std::string::npos; }

Descriptor as_images(const Descriptor& desc) {
  const Dims dims = dims_of(desc);
  return dims.size() == 2 ? desc.reshape({dims[0], dims[1], 1, 1}) : desc;
}

Descriptor plain(const Dims& dims, Precision precision) {
  static constexpr Tag kTags[] = {Tag::undef, Tag::a, Tag::ab, Tag::abc, Tag::abcd};
  return {dims, data_type(precision), kTags[dims.size()]};
}

Descriptor blocked(const Dims& dims, std::size_t channels, Precision precision) {
  return {dims, data_type(precision), channels == 16 ? Tag::aBcd16b : Tag::aBcd8b};
}

Descriptor any(const Dims& dims, Precision precision) { return {dims, data_type(precision), Tag::any}; }

Precision precision_of(const Descriptor& desc) {
  return data_type_of(desc) == DataType::bf16 ? Precision::bf16 : Precision::fp32;
}

Descriptor in_precision(const Descriptor& desc, Precision precision) {
  return with_data_type(desc, data_type(precision));
}

std::optional<ChannelLayout> channel_layout(const Descriptor& desc) {
  const Dims dims = dims_of(desc);
  const auto channels = static_cast<std::size_t>(dims[1]);
  const auto is = [&](Tag tag) { return desc == Descriptor(dims, data_type_of(desc), tag); };
  if (dims.size() == 2) return is(Tag::ab) ? std::optional(ChannelLayout{1, channels, 1}) : std::nullopt;
  const auto pixels = static_cast<std::size_t>(dims[2] * dims[3]);
  if (is(Tag::acdb)) return ChannelLayout{pixels, channels, 1};
  if (is(Tag::abcd)) return ChannelLayout{pixels, 1, channels};
  if (is(Tag::aBcd8b)) return ChannelLayout{pixels, 8, (channels + 7) / 8};
  if (is(Tag::aBcd16b)) return ChannelLayout{pixels, 16, (channels + 15) / 16};
  return std::nullopt;
}

std::optional<WeightsLayout> weights_layout(const Descriptor& desc) {
  const Dims dims = dims_of(desc);
  const bool has_kernel = dims.size() == 4;
  const std::optional<Blocking> blocking = blocking_of(desc);
  if (!blocking || !(has_kernel || dims.size() == 2)) return std::nullopt;
  const auto stride = [&](std::size_t dimension) { return static_cast<std::size_t>(blocking->strides[dimension]); };
  if (has_kernel && blocking->strides[2] != blocking->strides[3] * dims[3]) return std::nullopt;
  std::array<std::size_t, 2> tile{1, 1};
  for (const auto& [dimension, size] : blocking->blocks) {
    if (dimension >= tile.size()) return std::nullopt;
    tile[dimension] *= size;
  }
  WeightsLayout layout{.oc = static_cast<std::size_t>(dims[0]),
                       .ic = static_cast<std::size_t>(dims[1]),
                       .positions = has_kernel ? static_cast<std::size_t>(dims[2] * dims[3]) : 1,
                       .tile_oc = tile[0],
                       .tile_ic = tile[1],
                       .oc_stride = stride(0),
                       .ic_stride = stride(1),
                       .position_stride = has_kernel ? stride(3) : 0,
                       .in_tile = {}};
  for (std::size_t index = 0; index < tile[0] * tile[1]; ++index) {
    // The inner blocks are the digits of a channel, the last one the lowest.
    std::array<std::size_t, 2> left{index / tile[1], index % tile[1]};
    std::size_t offset = 0;
    std::size_t block_stride = 1;
    for (std::size_t i = blocking->blocks.size(); i-- > 0;) {
      const auto& [dimension, size] = blocking->blocks[i];
      offset += left[dimension] % size * block_stride;
      left[dimension] /= size;
      block_stride *= size;
    }
    layout.in_tile.push_back(static_cast<std::uint32_t>(offset));
  }
  return layout;
}

std::string version() {
  const dnnl_version_t* version = dnnl_version();
  return format("{}.{}.{}", version->major, version->minor, version->patch);
}

std::optional<Planned> convolution(const Device& device, ConvolutionDirection direction,
                                   const ConvolutionRequest& request) {
  constexpr algorithm kDirect = algorithm::convolution_direct;
  const Dims strides{request.stride, request.stride};
  const Dims padding{request.padding, request.padding};
  const auto forward = [&](const ConvolutionRequest& of) {
    return describe<dnnl::convolution_forward>(device.engine, user_scratchpad(), prop_kind::forward_training, kDirect,
                                               of.src, of.weights, bias_desc(of), of.dst, strides, padding, padding);
  };
  try {
    switch (direction) {
      case ConvolutionDirection::forward:
        return planned<dnnl::convolution_forward>(forward(request));
      case ConvolutionDirection::backward_data:
        return plan_backward<dnnl::convolution_backward_data>(device, forward(forward_hint(request)), kDirect,
                                                              request.src, request.weights, request.dst, strides,
                                                              padding, padding);
      case ConvolutionDirection::backward_weights:
        return plan_backward<dnnl::convolution_backward_weights>(device, forward(forward_hint(request)), kDirect,
                                                                 request.src, request.weights, bias_desc(request),
                                                                 request.dst, strides, padding, padding);
    }
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented) throw;
  }
  return std::nullopt;
}

Planned linear(const Device& device, ConvolutionDirection direction, const LinearRequest& request) {
  const auto forward = [&](const LinearRequest& of) {
    return describe<dnnl::inner_product_forward>(device.engine, user_scratchpad(), prop_kind::forward_training, of.src,
                                                 of.weights, bias_desc(of), of.dst);
  };
  switch (direction) {
    case ConvolutionDirection::forward:
      return planned<dnnl::inner_product_forward>(forward(request));
    case ConvolutionDirection::backward_data:
      return plan_backward<dnnl::inner_product_backward_data>(device, forward(forward_hint(request)), request.src,
                                                              request.weights, request.dst);
    case ConvolutionDirection::backward_weights:
      return plan_backward<dnnl::inner_product_backward_weights>(device, forward(forward_hint(request)), request.src,
                                                                 request.weights, bias_desc(request), request.dst);
  }
  return {};
}

namespace {

dnnl::pooling_forward::primitive_desc pooling_forward_desc(const Device& device, const PoolingRequest& request,
                                                           prop_kind kind) {
  return with_windows(
      [&](const auto&... windows) {
        return describe<dnnl::pooling_forward>(device.engine, user_scratchpad(), kind,
                                               pooling_algorithm(request.algorithm), request.src, request.dst,
                                               windows...);
      },
      request.strides, request.kernel, request.padding);
}

}  // namespace

Planned pooling_forward(const Device& device, const PoolingRequest& request, bool training) {
  const auto kind = training ? prop_kind::forward_training : prop_kind::forward_inference;
  return planned<dnnl::pooling_forward>(pooling_forward_desc(device, request, kind));
}

Planned pooling_backward(const Device& device, const PoolingRequest& request) {
  return with_windows(
      [&](const auto&... windows) {
        return plan_backward<dnnl::pooling_backward>(
            device, pooling_forward_desc(device, request, prop_kind::forward_training),
            pooling_algorithm(request.algorithm), request.src, request.dst, windows...);
      },
      request.strides, request.kernel, request.padding);
}

Planned reorder(const Device& device, const Descriptor& src, const Descriptor& dst) {
  return planned<dnnl::reorder>({device.engine, src, device.engine, dst, user_scratchpad()});
}

}  // namespace dcs3gd::nn::onednn
