#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include <dnnl.hpp>

/// What differs between the major versions of oneDNN, as version 2 has it: the fields of a memory descriptor, and how a
/// primitive is described. The build takes the folder of the version that it finds (nn/CMakeLists.txt); the header of
/// another version defines the same names. All other code uses what the versions share.
namespace dcs3gd::nn::onednn {

using Descriptor = dnnl::memory::desc;
using DataType = dnnl::memory::data_type;
using Dims = dnnl::memory::dims;

inline Dims dims_of(const Descriptor& desc) { return desc.dims(); }
inline DataType data_type_of(const Descriptor& desc) { return desc.data_type(); }

/// The same dimensions in the same order, of another type.
inline Descriptor with_data_type(Descriptor desc, DataType type) {
  desc.data.data_type = dnnl::memory::convert_to_c(type);
  return desc;
}

/// The same format for another number of images.
inline Descriptor with_images(Descriptor desc, int images) {
  desc.data.dims[0] = images;
  desc.data.padded_dims[0] = images;
  return desc;
}

/// Where a blocked format puts its elements.
struct Blocking {
  struct Block {
    std::size_t dimension;
    std::size_t size;
  };
  Dims strides;               ///< by dimension: from one block to the next
  std::vector<Block> blocks;  ///< inner blocks, the outermost first
};

/// Null for formats of another kind, and for a part of a larger memory.
inline std::optional<Blocking> blocking_of(const Descriptor& desc) {
  if (desc.data.format_kind != dnnl_blocked || desc.data.offset0 != 0) return std::nullopt;
  const dnnl_blocking_desc_t& from = desc.data.format_desc.blocking;
  Blocking blocking{.strides = Dims(from.strides, from.strides + desc.data.ndims), .blocks = {}};
  for (int i = 0; i < from.inner_nblks; ++i) {
    blocking.blocks.push_back(
        {static_cast<std::size_t>(from.inner_idxs[i]), static_cast<std::size_t>(from.inner_blks[i])});
  }
  return blocking;
}

/// A primitive of the forward pass: `arguments` are those of its operation descriptor (in version 3, of its primitive
/// descriptor).
template <typename Primitive, typename... Arguments>
typename Primitive::primitive_desc describe(const dnnl::engine& engine, const dnnl::primitive_attr& attributes,
                                            const Arguments&... arguments) {
  return {typename Primitive::desc(arguments...), attributes, engine};
}

/// A primitive of the backward pass; `hint` describes the forward one that it belongs to.
template <typename Primitive, typename Hint, typename... Arguments>
typename Primitive::primitive_desc describe_backward(const dnnl::engine& engine, const dnnl::primitive_attr& attributes,
                                                     const Hint& hint, const Arguments&... arguments) {
  return {typename Primitive::desc(arguments...), attributes, engine, hint};
}

/// Calls `describe_with` with what a pooling's descriptor is told of its windows (in version 3, their dilation too).
template <typename Describe>
auto with_windows(const Describe& describe_with, const Dims& strides, const Dims& kernel, const Dims& padding) {
  return describe_with(strides, kernel, padding, padding);
}

}  // namespace dcs3gd::nn::onednn
