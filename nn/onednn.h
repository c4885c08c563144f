#pragma once

#include <dnnl.hpp>

#include "nn/graph.h"

/// The one place that meets oneDNN's primitive-descriptor API, which differs between major versions. The layers see
/// planned primitives: what to execute and in which formats. Names are oneDNN's. Errors are dnnl::error.
namespace dcs3gd::nn::onednn {

using Descriptor = dnnl::memory::desc;

/// The engine and the stream of one network. Primitives run in order on the caller's OpenMP team.
struct Device {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
};

/// A primitive chosen by oneDNN, ready to run, and what it needs. Formats left `any` in the request are decided here.
/// For a backward primitive src, weights and dst are diff_src, diff_weights and diff_dst where it computes or reads
/// those.
struct Planned {
  dnnl::primitive primitive;
  std::string implementation;  ///< oneDNN's name, such as "jit:avx512_core"
  std::size_t scratchpad_bytes = 0;
  Descriptor src;
  Descriptor weights;
  Descriptor dst;
  Descriptor workspace;

  /// Whether the implementation is one of oneDNN's generated kernels, not a reference loop.
  bool is_generated() const;
};

enum class Algorithm { direct, winograd };

using Dims = dnnl::memory::dims;

Dims image_dims(int images, const ImageShape& shape);
/// oneDNN's linear layers read and write {N, C}; between layers every activation is {N, C, H, W}. The same bytes seen
/// as images of one pixel; other descriptors unchanged.
Descriptor as_images(const Descriptor& desc);
/// fp32 in plain order: C, NC, NCHW, OIHW.
Descriptor plain(const Dims& dims);
/// fp32 in a format for oneDNN to choose.
Descriptor any(const Dims& dims);

/// A convolution as a request: fp32, square sizes. `bias` adds one per output channel.
struct ConvolutionRequest {
  Algorithm algorithm = Algorithm::direct;
  Descriptor src;
  Descriptor weights;
  Descriptor dst;
  bool bias = false;
  int stride = 1;
  int padding = 0;
};
Planned convolution_forward(const Device& device, const ConvolutionRequest& request);
Planned convolution_backward_data(const Device& device, const ConvolutionRequest& request);
Planned convolution_backward_weights(const Device& device, const ConvolutionRequest& request);

/// A linear layer over {N, C, H, W}, whose weights are OIHW with the window of a whole image, or over {N, C}, with OI.
struct LinearRequest {
  Descriptor src;
  Descriptor weights;
  Descriptor dst;
  bool bias = false;
};
Planned linear_forward(const Device& device, const LinearRequest& request);
Planned linear_backward_data(const Device& device, const LinearRequest& request);
Planned linear_backward_weights(const Device& device, const LinearRequest& request);

enum class Statistics {
  batch,    ///< mean and variance are computed (training)
  running,  ///< mean and variance are given (evaluation)
};
Planned batch_norm_forward(const Device& device, const Descriptor& data, const BatchNorm& options,
                           Statistics statistics);
Planned batch_norm_backward(const Device& device, const Descriptor& data, const BatchNorm& options);

/// Windows as {height, width}: global pooling takes whole images, which need not be square.
struct PoolingRequest {
  Pooling::Kind kind = Pooling::Kind::max;
  Descriptor src;
  Descriptor dst;
  Dims kernel;
  Dims strides;
  Dims padding;
};
Planned pooling_forward(const Device& device, const PoolingRequest& request, bool training);
Planned pooling_backward(const Device& device, const PoolingRequest& request);

Planned reorder(const Device& device, const Descriptor& src, const Descriptor& dst);

}  // namespace dcs3gd::nn::onednn
