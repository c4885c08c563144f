#include "nn/plan/convolution.h"

#include <algorithm>

#include <omp.h>

#include "nn/kernels/winograd.h"
#include "nn/onednn/cpu.h"

namespace dcs3gd::nn {
namespace {

using onednn::Descriptor;

/// In rows of `lanes` channels, if the caller leaves it to us or has it so.
std::optional<Descriptor> in_rows(const Descriptor& wanted, std::size_t lanes) {
  const onednn::Dims dims = onednn::dims_of(wanted);
  const Precision precision = onednn::precision_of(wanted);
  Descriptor desc = onednn::blocked(dims, lanes, precision);
  if (wanted == desc || wanted == onednn::any(dims, precision)) return desc;
  return std::nullopt;
}

float* floats(void* address) { return static_cast<float*>(address); }

Winograd::Activation activation(const Descriptor& desc) {
  const onednn::Dims dims = onednn::dims_of(desc);
  return {.channels = static_cast<std::size_t>(dims[1]),
          .height = static_cast<std::size_t>(dims[2]),
          .width = static_cast<std::size_t>(dims[3])};
}

std::optional<onednn::Planned> plan_winograd(ConvolutionDirection direction,
                                             const onednn::ConvolutionRequest& request) {
  const std::size_t lanes = has_avx512() ? 16 : 8;
  const onednn::Dims weights = onednn::dims_of(request.weights);
  const auto src = in_rows(request.src, lanes);
  const auto dst = in_rows(request.dst, lanes);
  if (!src || !dst || onednn::precision_of(*src) != onednn::precision_of(*dst) || weights[2] != 3 || weights[3] != 3 ||
      request.stride != 1 || request.padding > 2 ||
      std::min(weights[0], weights[1]) < static_cast<std::int64_t>(lanes)) {
    return std::nullopt;
  }
  const Winograd winograd({.precision = onednn::precision_of(*src),
                           .lanes = lanes,
                           .images = static_cast<std::size_t>(onednn::dims_of(*src)[0]),
                           .src = activation(*src),
                           .dst = activation(*dst),
                           .padding = static_cast<std::size_t>(request.padding)},
                          omp_get_max_threads());
  std::size_t scratch = 0;
  std::function<void(const onednn::Arguments&)> kernel;
  switch (direction) {
    case ConvolutionDirection::forward:
      scratch = winograd.forward_scratch();
      kernel = [=](const onednn::Arguments& of) {
        winograd.forward(of(DNNL_ARG_SRC), floats(of(DNNL_ARG_WEIGHTS)), floats(of(DNNL_ARG_BIAS)), of(DNNL_ARG_DST),
                         floats(of(DNNL_ARG_SCRATCHPAD)));
      };
      break;
    case ConvolutionDirection::backward_data:
      scratch = winograd.backward_data_scratch();
      kernel = [=](const onednn::Arguments& of) {
        winograd.backward_data(of(DNNL_ARG_DIFF_DST), floats(of(DNNL_ARG_WEIGHTS)), of(DNNL_ARG_DIFF_SRC),
                               floats(of(DNNL_ARG_SCRATCHPAD)));
      };
      break;
    case ConvolutionDirection::backward_weights:
      scratch = winograd.backward_weights_scratch();
      kernel = [=](const onednn::Arguments& of) {
        winograd.backward_weights(of(DNNL_ARG_SRC), of(DNNL_ARG_DIFF_DST), floats(of(DNNL_ARG_DIFF_WEIGHTS)),
                                  floats(of(DNNL_ARG_DIFF_BIAS)), floats(of(DNNL_ARG_SCRATCHPAD)));
      };
      break;
  }
  return onednn::Planned{.primitive = {},
                         .own_kernel = std::move(kernel),
                         .implementation = "winograd",
                         .src = *src,
                         .weights = onednn::plain(weights),
                         .dst = *dst,
                         .workspace = {},
                         .scratchpad = onednn::plain({static_cast<std::int64_t>(scratch)})};
}

}  // namespace

std::optional<onednn::Planned> plan_convolution(const onednn::Device& device, ConvolutionDirection direction,
                                                ConvolutionAlgorithm algorithm,
                                                const onednn::ConvolutionRequest& request) {
  if (algorithm == ConvolutionAlgorithm::winograd) return plan_winograd(direction, request);
  return onednn::convolution(device, direction, request);
}

}  // namespace dcs3gd::nn
