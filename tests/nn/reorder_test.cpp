#include "nn/plan/reorder.h"

#include <cmath>
#include <cstring>
#include <vector>

#include <doctest/doctest.h>

#include "core/aligned_buffer.h"
#include "core/random_stream.h"
#include "tests/nn/network_test_support.h"

using namespace dcs3gd;
using namespace dcs3gd::nn;

// Each of our reorders against oneDNN's, bit for bit.

namespace {

using Tag = dnnl::memory::format_tag;
using DataType = dnnl::memory::data_type;

/// A tensor with memory of its own, filled with something that is no zero.
class Filled {
 public:
  explicit Filled(const onednn::Descriptor& desc)
      : tensor_("tensor", desc, Tensor::Memory::external), memory_(desc.get_size()) {
    std::memset(memory_.data(), 0x55, memory_.size());
    tensor_.place(memory_.data());
  }

  Tensor* tensor() { return &tensor_; }
  const AlignedBuffer<std::byte>& memory() const { return memory_; }
  bool operator==(const Filled& other) const {
    return std::memcmp(memory_.data(), other.memory_.data(), memory_.size()) == 0;
  }

 private:
  Tensor tensor_;
  AlignedBuffer<std::byte> memory_;
};

void reorder_by_onednn(Tensor* src, Tensor* dst) {
  const onednn::Device device;
  onednn::Planned planned = onednn::reorder(device, src->desc(), dst->desc());
  Filled scratchpad(planned.scratchpad);
  std::vector<PrimitiveOperation::Argument> arguments{{DNNL_ARG_FROM, src}, {DNNL_ARG_TO, dst}};
  if (scratchpad.memory().size() > 0) arguments.push_back({DNNL_ARG_SCRATCHPAD, scratchpad.tensor()});
  PrimitiveOperation operation("reorder", "reorder", device, std::move(planned), std::move(arguments));
  operation.bind();
  operation.run({});
}

/// Random values of every size in the format `desc`, its padding as oneDNN leaves it.
Filled random_values(const onednn::Descriptor& desc) {
  Filled plain(onednn::plain(onednn::dims_of(desc)));
  RandomStream random(1, RandomPurpose::initialization, 0);
  float* const values = plain.tensor()->values();
  for (std::size_t i = 0; i < plain.memory().size() / sizeof(float); ++i) {
    values[i] = random.uniform(-1, 1) * std::exp2(random.uniform(-20, 20));
  }
  Filled filled(desc);
  reorder_by_onednn(plain.tensor(), filled.tensor());
  return filled;
}

void check_like_onednn(const onednn::Descriptor& from, const onednn::Descriptor& to) {
  Filled src = random_values(from);
  Filled expected(to);
  reorder_by_onednn(src.tensor(), expected.tensor());
  test::for_threads_1_and_2([&](int) {
    Filled dst(to);
    const auto kernel = own_reorder(src.tensor(), dst.tensor());
    REQUIRE(kernel);
    kernel({});
    CHECK(dst == expected);
  });
}

}  // namespace

TEST_CASE("gradients of weights come out of every kind of tile, whole and padded") {
  struct Case {
    onednn::Dims dims;
    Tag tag;
  };
  const std::vector<Case> cases{
      {{64, 32, 3, 3}, Tag::OIhw16i16o},  {{64, 32, 1, 1}, Tag::OIhw16o16i},
      {{48, 16, 5, 5}, Tag::OIhw8i16o2i}, {{32, 64, 1, 1}, Tag::OIhw4i16o4i},
      {{40, 24, 3, 3}, Tag::OIhw8i8o},    {{64, 3, 7, 7}, Tag::Ohwi16o},
      {{24, 20, 3, 3}, Tag::OIhw16i16o},  {{7, 5, 2, 3}, Tag::OIhw8o8i},
      {{10, 3, 1, 1}, Tag::OIhw8o16i2o},  {{1, 1, 1, 1}, Tag::OIhw16i16o},
      {{33, 17, 3, 3}, Tag::Oihw16o},     {{12, 9, 3, 3}, Tag::hwio},
      {{20, 18, 3, 3}, Tag::ohwi},        {{130, 70}, Tag::AB16b64a},
      {{10, 512}, Tag::AB16b16a},         {{1000, 48}, Tag::ba},
  };
  for (const Case& weights : cases) {
    CAPTURE(static_cast<int>(weights.tag));
    check_like_onednn({weights.dims, DataType::f32, weights.tag}, onednn::plain(weights.dims));
  }
}

TEST_CASE("activations change their precision, padding and all, or are copied") {
  for (const Tag tag : {Tag::nChw16c, Tag::nChw8c, Tag::nhwc, Tag::nchw}) {
    for (const onednn::Dims& dims : {onednn::Dims{2, 19, 5, 3}, onednn::Dims{3, 64, 28, 28}}) {
      CAPTURE(static_cast<int>(tag));
      const onednn::Descriptor fp32(dims, DataType::f32, tag);
      const onednn::Descriptor bf16(dims, DataType::bf16, tag);
      check_like_onednn(fp32, bf16);
      check_like_onednn(bf16, fp32);
      check_like_onednn(fp32, fp32);
      check_like_onednn(bf16, bf16);
    }
  }
  check_like_onednn(onednn::plain({1000}), onednn::plain({1000}));
}

TEST_CASE("the rest is left to oneDNN") {
  const auto is_own = [](const onednn::Descriptor& from, const onednn::Descriptor& to) {
    Filled src(from);
    Filled dst(to);
    return static_cast<bool>(own_reorder(src.tensor(), dst.tensor()));
  };
  const onednn::Dims dims{32, 32, 3, 3};
  const onednn::Descriptor plain = onednn::plain(dims);
  const onednn::Descriptor tiles(dims, DataType::f32, Tag::OIhw16i16o);
  const onednn::Descriptor bf16_tiles(dims, DataType::bf16, Tag::OIhw16i16o);
  CHECK(is_own(tiles, plain));
  CHECK_FALSE(is_own(plain, tiles));
  CHECK_FALSE(is_own(bf16_tiles, plain));
  CHECK_FALSE(is_own(tiles, onednn::plain(dims, Precision::bf16)));
  CHECK_FALSE(is_own(tiles, {dims, DataType::f32, Tag::OIhw16o16i}));
  const onednn::Dims large{2, 16, 256, 256};  // its tiles would need a table larger than the caches
  CHECK_FALSE(is_own({large, DataType::f32, Tag::nChw16c}, onednn::plain(large)));
}
