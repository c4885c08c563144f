#include "core/shape.h"

#include <vector>

#include <doctest/doctest.h>

using dcs3gd::Shape;

TEST_CASE("a shape knows its elements, axes and text") {
  const Shape shape{64, 3, 7, 5};
  CHECK(shape.rank() == 4);
  CHECK(shape[1] == 3);
  CHECK(shape.element_count() == 64 * 3 * 7 * 5);
  CHECK(shape.to_string() == "64x3x7x5");
  CHECK(Shape{10}.to_string() == "10");
}

TEST_CASE("a shape without dimensions is a scalar, one with a zero is empty") {
  CHECK(Shape{}.element_count() == 1);
  CHECK(Shape{}.to_string() == "scalar");
  CHECK(Shape{4, 0, 2}.element_count() == 0);
}

TEST_CASE("element counts beyond 32 bits are exact") {
  CHECK(Shape{65536, 65536, 3}.element_count() == 12884901888ULL);
}

TEST_CASE("shapes are equal when all dimensions are") {
  CHECK(Shape{2, 3} == Shape(std::vector<std::int64_t>{2, 3}));
  CHECK(Shape{2, 3} != Shape{3, 2});
  CHECK(Shape{2, 3} != Shape{2, 3, 1});
}
