#include "app/model/random_batch.h"

#include <algorithm>

#include "core/random_stream.h"

namespace dcs3gd::app {

RandomBatch::RandomBatch(int images, const nn::ImageShape& shape, int classes, std::uint64_t id)
    : images_(static_cast<std::size_t>(images) * static_cast<std::size_t>(shape.element_count())),
      labels_(static_cast<std::size_t>(images)) {
  RandomStream random(1, RandomPurpose::test, id);
  std::ranges::generate(images_, [&] { return random.normal(); });
  std::ranges::generate(labels_,
                        [&] { return static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(classes))); });
}

}  // namespace dcs3gd::app
