#pragma once

#include <string>

#include "data/options.h"
#include "data/stored/stored_dataset.h"

namespace dcs3gd::data {

/// IDX, the format of MNIST and Fashion-MNIST, plain or gzip. Numbers are 32-bit big endian:
///   images: 2051, count, height, width, then count × height × width bytes of grey
///   labels: 2049, count, then count bytes; labels must be below `classes`
///
/// `path` is the folder that holds the original files (train-images-idx3-ubyte and train-labels-idx1-ubyte, t10k-… for
/// Part::eval, each with or without .gz), or one images file whose name contains "images-idx3": the labels then lie
/// beside it under the name with "labels-idx1" instead. Throws Error{input} for everything wrong with them.
StoredImages read_idx(const std::string& path, Part part, int classes);

}  // namespace dcs3gd::data
