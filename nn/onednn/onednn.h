#pragma once

#include <functional>
#include <optional>
#include <string>

#include "nn/kernels/channel_layout.h"
#include "nn/kernels/precision.h"
#include "nn/kernels/weights_layout.h"
#include "nn/onednn/algorithm.h"
#include "nn/onednn/version.h"

/// Plans oneDNN's primitives: what to execute and in which formats. Names are oneDNN's. Errors are dnnl::error.
namespace dcs3gd::nn::onednn {

/// The engine and the stream of one network. Primitives run in order on the caller's OpenMP team.
struct Device {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};

/// The arguments of a kernel of our own, by oneDNN's DNNL_ARG_…; null: there is none.
using Arguments = std::function<void*(int)>;

/// A primitive chosen by oneDNN, ready to run, and what it needs. Formats left `any` in the request are decided here.
/// For a backward primitive src, weights and dst are diff_src, diff_weights and diff_dst where it computes or reads
/// those.
struct Planned {
  dnnl::primitive primitive;
  std::function<void(const Arguments&)> own_kernel;  ///< of ours, in the primitive's place; empty: none
  std::string implementation;                        ///< oneDNN's name, such as "jit:avx512_core", or "winograd"
  Descriptor src;
  Descriptor weights;
  Descriptor dst;
  Descriptor workspace;
  Descriptor scratchpad;  ///< of size 0 if it needs none

  /// Whether the implementation is one of oneDNN's generated kernels, not a reference loop.
  bool is_generated() const;
};

/// Describes the same bytes as images of one pixel if they are {N, C}, as oneDNN's linear layers have them; between
/// layers every activation is {N, C, H, W}. Other descriptors are returned unchanged.
Descriptor as_images(const Descriptor& desc);
/// Describes an array in plain order: C, NC, NCHW, OIHW.
Descriptor plain(const Dims& dims, Precision precision = Precision::fp32);
/// Describes images in blocks of 8 or 16 neighbouring channels.
Descriptor blocked(const Dims& dims, std::size_t channels, Precision precision);
/// Leaves the format to oneDNN.
Descriptor any(const Dims& dims, Precision precision);
Precision precision_of(const Descriptor& desc);
/// Describes the same values in the same order as fp32 or bf16.
Descriptor in_precision(const Descriptor& desc, Precision precision);
/// Finds where the channels of {N, C, H, W} or {N, C} lie; none for formats of another form.
std::optional<ChannelLayout> channel_layout(const Descriptor& desc);
/// Finds where the weights of OIHW or OI lie; none for formats of another form.
std::optional<WeightsLayout> weights_layout(const Descriptor& desc);

/// A convolution as a request: square sizes. `bias` adds one per output channel, in fp32.
struct ConvolutionRequest {
  Descriptor src;
  Descriptor weights;
  Descriptor dst;
  bool bias = false;
  int stride = 1;
  int padding = 0;
};
/// Computes it directly. None if oneDNN has no such primitive.
std::optional<Planned> convolution(const Device& device, ConvolutionDirection direction,
                                   const ConvolutionRequest& request);

/// A linear layer over {N, C, H, W}, whose weights are OIHW with the window of a whole image, or over {N, C}, with OI.
struct LinearRequest {
  Descriptor src;
  Descriptor weights;
  Descriptor dst;
  bool bias = false;
};
Planned linear(const Device& device, ConvolutionDirection direction, const LinearRequest& request);

/// A pooling as a request, its windows as {height, width}: global pooling takes whole images, which need not be square.
struct PoolingRequest {
  PoolingAlgorithm algorithm = PoolingAlgorithm::max;
  Descriptor src;
  Descriptor dst;
  Dims kernel;
  Dims strides;
  Dims padding;
};
Planned pooling_forward(const Device& device, const PoolingRequest& request, bool training);
Planned pooling_backward(const Device& device, const PoolingRequest& request);

Planned reorder(const Device& device, const Descriptor& src, const Descriptor& dst);

/// The version of the loaded library, such as "2.6.3".
std::string version();

}  // namespace dcs3gd::nn::onednn
