#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include <dnnl.hpp>

/// What differs between the major versions of oneDNN, as version 3 has it; v2/version.h says what each name stands for.
namespace dcs3gd::nn::onednn {

using Descriptor = dnnl::memory::desc;
using DataType = dnnl::memory::data_type;
using Dims = dnnl::memory::dims;

inline Dims dims_of(const Descriptor& desc) { return desc.get_dims(); }
inline DataType data_type_of(const Descriptor& desc) { return desc.get_data_type(); }

/// Version 3 hides the fields of a descriptor: the format is the tag that makes the same descriptor again.
inline Descriptor in_same_format(const Descriptor& desc, const Dims& dims, DataType type) {
  if (desc.get_format_kind() == dnnl::memory::format_kind::any) return {dims, type, dnnl::memory::format_tag::any};
  for (int tag = dnnl_format_tag_any + 1; tag < dnnl_format_tag_last; ++tag) {
    const auto format = static_cast<dnnl::memory::format_tag>(tag);
    const Descriptor same(desc.get_dims(), desc.get_data_type(), format, /*allow_empty=*/true);
    if (same && same == desc) return {dims, type, format};
  }
  throw dnnl::error(dnnl_unimplemented, "a format without a name cannot be had in another type or size");
}

inline Descriptor with_data_type(const Descriptor& desc, DataType type) {
  return desc.get_data_type() == type ? desc : in_same_format(desc, desc.get_dims(), type);
}

inline Descriptor with_images(const Descriptor& desc, int images) {
  Dims dims = desc.get_dims();
  if (dims[0] == images) return desc;
  dims[0] = images;
  return in_same_format(desc, dims, desc.get_data_type());
}

struct Blocking {
  struct Block {
    std::size_t dimension;
    std::size_t size;
  };
  Dims strides;
  std::vector<Block> blocks;
};

inline std::optional<Blocking> blocking_of(const Descriptor& desc) {
  if (desc.get_format_kind() != dnnl::memory::format_kind::blocked || desc.get_submemory_offset() != 0) {
    return std::nullopt;
  }
  Blocking blocking{.strides = desc.get_strides(), .blocks = {}};
  const Dims dimensions = desc.get_inner_idxs();
  const Dims sizes = desc.get_inner_blks();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    blocking.blocks.push_back({static_cast<std::size_t>(dimensions[i]), static_cast<std::size_t>(sizes[i])});
  }
  return blocking;
}

template <typename Primitive, typename... Arguments>
typename Primitive::primitive_desc describe(const dnnl::engine& engine, const dnnl::primitive_attr& attributes,
                                            const Arguments&... arguments) {
  return {engine, arguments..., attributes};
}

template <typename Primitive, typename Hint, typename... Arguments>
typename Primitive::primitive_desc describe_backward(const dnnl::engine& engine, const dnnl::primitive_attr& attributes,
                                                     const Hint& hint, const Arguments&... arguments) {
  return {engine, arguments..., hint, attributes};
}

template <typename Describe>
auto with_windows(const Describe& describe_with, const Dims& strides, const Dims& kernel, const Dims& padding) {
  const Dims dilation(kernel.size(), 0);
  return describe_with(strides, kernel, dilation, padding, padding);
}

}  // namespace dcs3gd::nn::onednn
