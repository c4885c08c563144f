#pragma once

#include <string>

#include "data/options.h"
#include "data/stored/stored_dataset.h"

namespace dcs3gd::data {

/// The binary version of CIFAR-10 and CIFAR-100 (Krizhevsky 2009): records without a header, each of the label bytes
/// and 3072 bytes of pixels (32×32, planes R, G, B). CIFAR-10 has one label byte; CIFAR-100 has the coarse label (0 …
/// 19, checked but not used) and the fine label. Labels must be below `classes`.
///
/// `path` is one such file, or the folder that holds the original files: data_batch_1.bin … data_batch_5.bin and
/// test_batch.bin for CIFAR-10, train.bin and test.bin for CIFAR-100. Throws Error{input} for everything wrong with
/// them.
StoredImages read_cifar10(const std::string& path, Part part, int classes);
StoredImages read_cifar100(const std::string& path, Part part, int classes);

}  // namespace dcs3gd::data
