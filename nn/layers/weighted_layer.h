#pragma once

#include "nn/layers/layer.h"

namespace dcs3gd::nn {

/// Reads the attribute of convolutions and linear layers that chooses their first weights.
void read_initialization(AttributeReader& reader, Initialization& init);
/// The outline of a convolution or linear layer: `weights` in torchvision's shape, {oc, fan-in…}, and a bias of oc
/// values if asked.
LayerOutline weighted_outline(const ImageShape& dst, Shape weights, bool bias, Initialization init);

/// Appends the primitives of convolutions and linear layers, with the reorders of their weights and gradients. Backward
/// computes the weights' gradient first, so that it can travel while the data gradient is computed.
class WeightedLayer : public Layer {
 protected:
  WeightedLayer(const Node& node, std::int64_t oc, bool bias) : node_(node), oc_(oc), bias_(bias) {}

  const Node& node() const { return node_; }
  const onednn::Dims& weight_dims() const { return weight_dims_; }
  /// OIHW of the weights; set before anything else is planned.
  void set_weight_dims(onednn::Dims dims) { weight_dims_ = std::move(dims); }

  /// Appends dst = planned(src) and remembers src for backward.
  Tensor* append_forward(Planner& planner, const onednn::Planned& planned, Tensor* src);
  void append_backward_weights(Planner& planner, const onednn::Planned& planned, Tensor* diff_dst);
  /// Returns diff_src in the format that src came in.
  Flow append_backward_data(Planner& planner, const onednn::Planned& planned, Tensor* diff_dst);
  /// The format of src as it is kept for backward.
  const onednn::Descriptor& src_desc() const { return src_->desc(); }

 private:
  /// Converts diff_dst once if both backward primitives want the same format.
  Tensor* diff_dst_in(Planner& planner, Tensor* diff_dst, const onednn::Descriptor& desc);

  const Node& node_;
  std::int64_t oc_;
  bool bias_;
  onednn::Dims weight_dims_;
  onednn::Descriptor original_src_;
  Tensor* src_ = nullptr;
  Tensor* weights_ = nullptr;   ///< as forward reads them; backward's are made from them when needed
  Tensor* diff_dst_ = nullptr;  ///< as the weights' gradient read it
};

}  // namespace dcs3gd::nn
