#include "nn/onednn/onednn.h"

#include <array>

#include "core/format.h"

namespace dcs3gd::nn::onednn {
namespace {

using dnnl::algorithm;
using dnnl::prop_kind;
using Tag = dnnl::memory::format_tag;
using DataType = dnnl::memory::data_type;

DataType data_type(Precision precision) { return precision == Precision::bf16 ? DataType::bf16 : DataType::f32; }

/// Scratch memory comes from the caller, so that primitives share one block and a step allocates nothing.
dnnl::primitive_attr user_scratchpad() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

algorithm convolution_algorithm(ConvolutionAlgorithm choice) {
  return choice == ConvolutionAlgorithm::winograd ? algorithm::convolution_winograd : algorithm::convolution_direct;
}

algorithm pooling_algorithm(PoolingAlgorithm choice) {
  return choice == PoolingAlgorithm::max ? algorithm::pooling_max : algorithm::pooling_avg_include_padding;
}

template <typename Request>
Descriptor bias_desc(const Request& request) {
  return request.bias ? plain({request.dst.dims()[1]}) : Descriptor();
}

template <typename Primitive, typename PrimitiveDescriptor>
Planned planned(const PrimitiveDescriptor& descriptor) {
  return {.primitive = Primitive(descriptor),
          .implementation = descriptor.impl_info_str(),
          .scratchpad = descriptor.scratchpad_desc()};
}

}  // namespace

bool Planned::is_generated() const { return implementation.find("ref") == std::string::npos; }

Descriptor as_images(const Descriptor& desc) {
  const Dims dims = desc.dims();
  return dims.size() == 2 ? desc.reshape({dims[0], dims[1], 1, 1}) : desc;
}

Descriptor plain(const Dims& dims, Precision precision) {
  static constexpr Tag kTags[] = {Tag::undef, Tag::a, Tag::ab, Tag::abc, Tag::abcd};
  return {dims, data_type(precision), kTags[dims.size()]};
}

Descriptor any(const Dims& dims, Precision precision) { return {dims, data_type(precision), Tag::any}; }

Precision precision_of(const Descriptor& desc) {
  return desc.data_type() == DataType::bf16 ? Precision::bf16 : Precision::fp32;
}

Descriptor in_precision(const Descriptor& desc, Precision precision) {
  Descriptor converted = desc;
  converted.data.data_type = dnnl::memory::convert_to_c(data_type(precision));
  return converted;
}

std::optional<ChannelLayout> channel_layout(const Descriptor& desc) {
  const Dims dims = desc.dims();
  const auto channels = static_cast<std::size_t>(dims[1]);
  const auto is = [&](Tag tag) { return desc == Descriptor(dims, desc.data_type(), tag); };
  if (dims.size() == 2) return is(Tag::ab) ? std::optional(ChannelLayout{1, channels, 1}) : std::nullopt;
  const auto pixels = static_cast<std::size_t>(dims[2] * dims[3]);
  if (is(Tag::acdb)) return ChannelLayout{pixels, channels, 1};
  if (is(Tag::abcd)) return ChannelLayout{pixels, 1, channels};
  if (is(Tag::aBcd8b)) return ChannelLayout{pixels, 8, (channels + 7) / 8};
  if (is(Tag::aBcd16b)) return ChannelLayout{pixels, 16, (channels + 15) / 16};
  return std::nullopt;
}

std::optional<WeightsLayout> weights_layout(const Descriptor& desc) {
  const Dims dims = desc.dims();
  const bool has_kernel = dims.size() == 4;
  if (desc.data.format_kind != dnnl_blocked || desc.data.offset0 != 0 || !(has_kernel || dims.size() == 2)) {
    return std::nullopt;
  }
  const dnnl_blocking_desc_t& blocking = desc.data.format_desc.blocking;
  if (has_kernel && blocking.strides[2] != blocking.strides[3] * dims[3]) return std::nullopt;
  std::array<std::size_t, 2> tile{1, 1};
  for (int block = 0; block < blocking.inner_nblks; ++block) {
    const auto dimension = static_cast<std::size_t>(blocking.inner_idxs[block]);
    if (dimension >= tile.size()) return std::nullopt;
    tile[dimension] *= static_cast<std::size_t>(blocking.inner_blks[block]);
  }
  WeightsLayout layout{.oc = static_cast<std::size_t>(dims[0]),
                       .ic = static_cast<std::size_t>(dims[1]),
                       .positions = has_kernel ? static_cast<std::size_t>(dims[2] * dims[3]) : 1,
                       .tile_oc = tile[0],
                       .tile_ic = tile[1],
                       .oc_stride = static_cast<std::size_t>(blocking.strides[0]),
                       .ic_stride = static_cast<std::size_t>(blocking.strides[1]),
                       .position_stride = has_kernel ? static_cast<std::size_t>(blocking.strides[3]) : 0,
                       .in_tile = {}};
  for (std::size_t index = 0; index < tile[0] * tile[1]; ++index) {
    // The inner blocks are the digits of a channel, the last one the lowest.
    std::array<std::size_t, 2> left{index / tile[1], index % tile[1]};
    std::size_t offset = 0;
    std::size_t stride = 1;
    for (int block = blocking.inner_nblks - 1; block >= 0; --block) {
      auto& channel = left[static_cast<std::size_t>(blocking.inner_idxs[block])];
      const auto size = static_cast<std::size_t>(blocking.inner_blks[block]);
      offset += channel % size * stride;
      channel /= size;
      stride *= size;
    }
    layout.in_tile.push_back(static_cast<std::uint32_t>(offset));
  }
  return layout;
}

std::string version() {
  const dnnl_version_t* version = dnnl_version();
  return format("{}.{}.{}", version->major, version->minor, version->patch);
}

namespace {

dnnl::convolution_forward::primitive_desc convolution_forward_desc(const Device& device,
                                                                   const ConvolutionRequest& request) {
  const Dims strides{request.stride, request.stride};
  const Dims padding{request.padding, request.padding};
  const dnnl::convolution_forward::desc desc(prop_kind::forward_training, convolution_algorithm(request.algorithm),
                                             request.src, request.weights, bias_desc(request), request.dst, strides,
                                             padding, padding);
  return {desc, user_scratchpad(), device.engine};
}

/// Backward primitives are described with a forward one as a hint; its formats play no part, but it must exist: the
/// weights' gradient is fp32 where the weights are bf16.
ConvolutionRequest forward_hint(ConvolutionRequest request) {
  request.weights = any(request.weights.dims(), precision_of(request.src));
  request.dst = any(request.dst.dims(), precision_of(request.src));
  request.src = any(request.src.dims(), precision_of(request.src));
  return request;
}

LinearRequest forward_hint(LinearRequest request) {
  request.weights = any(request.weights.dims(), precision_of(request.src));
  request.dst = any(request.dst.dims(), precision_of(request.src));
  return request;
}

dnnl::inner_product_forward::primitive_desc linear_forward_desc(const Device& device, const LinearRequest& request) {
  const dnnl::inner_product_forward::desc desc(prop_kind::forward_training, request.src, request.weights,
                                               bias_desc(request), request.dst);
  return {desc, user_scratchpad(), device.engine};
}

dnnl::pooling_forward::primitive_desc pooling_forward_desc(const Device& device, const PoolingRequest& request,
                                                           bool training) {
  const auto kind = training ? prop_kind::forward_training : prop_kind::forward_inference;
  const dnnl::pooling_forward::desc desc(kind, pooling_algorithm(request.algorithm), request.src, request.dst,
                                         request.strides, request.kernel, request.padding, request.padding);
  return {desc, user_scratchpad(), device.engine};
}

}  // namespace

namespace {

Planned convolution_forward(const Device& device, const ConvolutionRequest& request) {
  const auto descriptor = convolution_forward_desc(device, request);
  Planned result = planned<dnnl::convolution_forward>(descriptor);
  result.src = descriptor.src_desc();
  result.weights = descriptor.weights_desc();
  result.dst = descriptor.dst_desc();
  return result;
}

Planned convolution_backward_data(const Device& device, const ConvolutionRequest& request) {
  const Dims strides{request.stride, request.stride};
  const Dims padding{request.padding, request.padding};
  const dnnl::convolution_backward_data::desc desc(convolution_algorithm(request.algorithm), request.src,
                                                   request.weights, request.dst, strides, padding, padding);
  const dnnl::convolution_backward_data::primitive_desc descriptor(
      desc, user_scratchpad(), device.engine, convolution_forward_desc(device, forward_hint(request)));
  Planned result = planned<dnnl::convolution_backward_data>(descriptor);
  result.src = descriptor.diff_src_desc();
  result.weights = descriptor.weights_desc();
  result.dst = descriptor.diff_dst_desc();
  return result;
}

Planned convolution_backward_weights(const Device& device, const ConvolutionRequest& request) {
  const Dims strides{request.stride, request.stride};
  const Dims padding{request.padding, request.padding};
  const dnnl::convolution_backward_weights::desc desc(convolution_algorithm(request.algorithm), request.src,
                                                      request.weights, bias_desc(request), request.dst, strides,
                                                      padding, padding);
  const dnnl::convolution_backward_weights::primitive_desc descriptor(
      desc, user_scratchpad(), device.engine, convolution_forward_desc(device, forward_hint(request)));
  Planned result = planned<dnnl::convolution_backward_weights>(descriptor);
  result.src = descriptor.src_desc();
  result.weights = descriptor.diff_weights_desc();
  result.dst = descriptor.diff_dst_desc();
  return result;
}

}  // namespace

Planned convolution(const Device& device, ConvolutionDirection direction, const ConvolutionRequest& request) {
  switch (direction) {
    case ConvolutionDirection::forward:
      return convolution_forward(device, request);
    case ConvolutionDirection::backward_data:
      return convolution_backward_data(device, request);
    case ConvolutionDirection::backward_weights:
      return convolution_backward_weights(device, request);
  }
  return {};
}

std::optional<Planned> convolution_if_implemented(const Device& device, ConvolutionDirection direction,
                                                  const ConvolutionRequest& request) {
  try {
    return convolution(device, direction, request);
  } catch (const dnnl::error& error) {
    if (error.status != dnnl_unimplemented) throw;
    return std::nullopt;
  }
}

Planned linear_forward(const Device& device, const LinearRequest& request) {
  const auto descriptor = linear_forward_desc(device, request);
  Planned result = planned<dnnl::inner_product_forward>(descriptor);
  result.src = descriptor.src_desc();
  result.weights = descriptor.weights_desc();
  result.dst = descriptor.dst_desc();
  return result;
}

Planned linear_backward_data(const Device& device, const LinearRequest& request) {
  const dnnl::inner_product_backward_data::desc desc(request.src, request.weights, request.dst);
  const dnnl::inner_product_backward_data::primitive_desc descriptor(
      desc, user_scratchpad(), device.engine, linear_forward_desc(device, forward_hint(request)));
  Planned result = planned<dnnl::inner_product_backward_data>(descriptor);
  result.src = descriptor.diff_src_desc();
  result.weights = descriptor.weights_desc();
  result.dst = descriptor.diff_dst_desc();
  return result;
}

Planned linear_backward_weights(const Device& device, const LinearRequest& request) {
  const dnnl::inner_product_backward_weights::desc desc(request.src, request.weights, bias_desc(request), request.dst);
  const dnnl::inner_product_backward_weights::primitive_desc descriptor(
      desc, user_scratchpad(), device.engine, linear_forward_desc(device, forward_hint(request)));
  Planned result = planned<dnnl::inner_product_backward_weights>(descriptor);
  result.src = descriptor.src_desc();
  result.weights = descriptor.diff_weights_desc();
  result.dst = descriptor.diff_dst_desc();
  return result;
}

Planned pooling_forward(const Device& device, const PoolingRequest& request, bool training) {
  const auto descriptor = pooling_forward_desc(device, request, training);
  Planned result = planned<dnnl::pooling_forward>(descriptor);
  result.src = descriptor.src_desc();
  result.dst = descriptor.dst_desc();
  result.workspace = descriptor.workspace_desc();
  return result;
}

Planned pooling_backward(const Device& device, const PoolingRequest& request) {
  const dnnl::pooling_backward::desc desc(pooling_algorithm(request.algorithm), request.src, request.dst,
                                          request.strides, request.kernel, request.padding, request.padding);
  const dnnl::pooling_backward::primitive_desc descriptor(desc, user_scratchpad(), device.engine,
                                                          pooling_forward_desc(device, request, true));
  Planned result = planned<dnnl::pooling_backward>(descriptor);
  result.src = descriptor.diff_src_desc();
  result.dst = descriptor.diff_dst_desc();
  return result;
}

Planned reorder(const Device& device, const Descriptor& src, const Descriptor& dst) {
  const dnnl::reorder::primitive_desc descriptor(device.engine, src, device.engine, dst, user_scratchpad());
  Planned result = planned<dnnl::reorder>(descriptor);
  result.src = descriptor.src_desc();
  result.dst = descriptor.dst_desc();
  return result;
}

}  // namespace dcs3gd::nn::onednn
