#include "core/parameter_arena.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <utility>

#include "core/aligned_buffer.h"
#include "core/error.h"
#include "core/format.h"

namespace dcs3gd {

ParameterLayout::ParameterLayout(std::vector<ParameterSlice> slices) : slices_(std::move(slices)) {
  std::set<std::string_view> names;
  for (ParameterSlice& slice : slices_) {
    if (!names.insert(slice.name).second) {
      throw Error(ErrorKind::failure, format("parameter layout: the name '{}' stands twice", slice.name));
    }
    slice.offset = element_count_;
    slice.count = slice.shape.element_count();
    element_count_ += slice.count;
  }
}

const ParameterSlice* ParameterLayout::find(std::string_view name) const {
  const auto found = std::ranges::find(slices_, name, &ParameterSlice::name);
  return found == slices_.end() ? nullptr : &*found;
}

std::shared_ptr<const ParameterLayout> ParameterLayout::part(bool is_frozen) const {
  std::vector<ParameterSlice> slices;
  std::ranges::copy_if(slices_, std::back_inserter(slices),
                       [&](const ParameterSlice& slice) { return slice.is_frozen == is_frozen; });
  return std::make_shared<const ParameterLayout>(std::move(slices));
}

ParameterArena::ParameterArena(std::shared_ptr<const ParameterLayout> layout) : layout_(std::move(layout)) {
  const auto values = std::make_shared<AlignedBuffer<float>>(layout_->element_count());
  memory_ = {values, values->data()};
}

ParameterArena ParameterArena::copy() const {
  ParameterArena twin(layout_);
  std::ranges::copy(values(), twin.values().begin());
  return twin;
}

void copy_tensors(const ParameterArena& from, ParameterArena& to) {
  for (const ParameterSlice& slice : from.layout().slices()) {
    if (const ParameterSlice* same = to.layout().find(slice.name)) {
      std::ranges::copy(from.slice(slice), to.slice(*same).begin());
    }
  }
}

}  // namespace dcs3gd
