#pragma once

#include <string>

namespace dcs3gd::app {

/// `dcs3gd-data index`: writes beside every tar file of the folder, or of its parts `train` and `val`, where its images
/// lie (data/photos/tar_shards.h), so that training need not walk over them at every start. Every index appears whole
/// or not at all; those that are there and right stay. Throws Error{input} for what is wrong with the tar files,
/// Error{failure} if an index cannot be written.
void index_tars(const std::string& path, int threads);

}  // namespace dcs3gd::app
