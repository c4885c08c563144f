#include "app/predict/photo_predictor.h"

#include <algorithm>
#include <utility>

#include "app/job/threads.h"
#include "app/model/tuning.h"
#include "core/format.h"
#include "data/batch_loader.h"
#include "data/photos/photo_dataset.h"
#include "data/read_buffers.h"
#include "data/transform/crop.h"

namespace dcs3gd::app {
namespace {

/// Below this many batches timing the convolutions of an unknown network costs more than it saves.
constexpr std::uint32_t kBatchesWorthTuning = 16;

data::DatasetProperties properties_of(const ModelCard& card, std::uint32_t size) {
  return {.size = size,
          .classes = card.settings.classes,
          .channels = card.settings.channels,
          .height = card.settings.image_size,
          .width = card.settings.image_size,
          .description = "photos",
          .fingerprint = ""};
}

/// Photos as the model's evaluation saw its images, whatever their size.
class CroppedPhotos final : public data::Dataset {
 public:
  CroppedPhotos(const ModelCard& card, std::unique_ptr<const data::PhotoSource> photos)
      : Dataset(properties_of(card, photos->size())),
        crop_rule_(data::CropRule::center(card.settings.image_size, card.photo_resize)),
        photos_(std::move(photos)) {}

  std::string file(std::uint32_t index) const override { return photos_->name(index); }
  data::ReadResult read(std::uint32_t index, const data::CropRule& /*crop_rule*/, data::ReadBuffers& buffers,
                        std::span<std::uint8_t> pixels) const override {
    std::string problem = photos_->fetch(index, buffers.file);
    if (problem.empty()) {
      problem = data::decode_photo(buffers.file, crop_rule_, channels(), buffers.image, pixels);
    }
    if (problem.empty()) return {};
    return {.problem = format("{}: {}", file(index), problem)};
  }

 private:
  const data::CropRule crop_rule_;
  const std::unique_ptr<const data::PhotoSource> photos_;
};

}  // namespace

std::int64_t predict_photos(const std::string& file, const ModelCard& card,
                            std::unique_ptr<const data::PhotoSource> photos, const PredictOptions& options,
                            comm::Communicator& communicator, const PhotoPredicted& predicted) {
  const ThreadPlan threads = use_threads(options.threads, communicator);
  const auto dataset = std::make_shared<const CroppedPhotos>(card, std::move(photos));
  Configuration configuration;
  configuration.algorithm.batch_per_worker =
      static_cast<int>(std::min<std::uint32_t>(static_cast<std::uint32_t>(options.batch), dataset->size()));
  configuration.model.precision = options.precision;
  configuration.data.loader.on_bad_image = data::OnBadImage::skip_all;
  const int batch = configuration.algorithm.batch_per_worker;
  if (dataset->size() / static_cast<std::uint32_t>(batch) < kBatchesWorthTuning) {
    configuration.model.convolution = ConvolutionMode::direct;
  }

  nn::Graph graph = build_graph(card);
  const nn::ConvolutionChoices convolutions = tune_convolutions(graph, configuration, communicator);
  Model model(std::move(graph), network_options(configuration, convolutions), InitialWeights{.file = file},
              communicator.rank());
  model.network.set_weights(model.weights);
  model.network.set_running_statistics(model.statistics.local());

  const data::DataOptions data = data_for(card, configuration.data);
  data::BatchLoader loader(dataset, data, {.part = data::Part::eval, .batch_per_worker = batch},
                           data::loader_thread_count(data.loader.threads, threads.spare));
  const auto classes = static_cast<std::size_t>(model.network.classes());
  while (const data::Batch* images = loader.next()) {
    model.network.evaluate({images->images.data(), images->labels.data(), images->count});
    for (std::size_t i = 0; i < static_cast<std::size_t>(images->count); ++i) {
      predicted(dataset->file(images->indices[i]), model.network.logits().subspan(i * classes, classes));
    }
  }
  return loader.bad_images();
}

}  // namespace dcs3gd::app
