#pragma once

#include "supernet/data/image_data.hpp"
#include "tests/trainers/fixture.hpp"

namespace elastiform {

/// Images of 6 x 8 with 3 channels: stripes whose phase and slope differ, so that a patch follows from its neighbours.
inline std::string stripes(int images) {
  std::string text;
  RandomStream random(1, Purpose::test);
  for (int i = 0; i < images; ++i) {
    const auto phase = static_cast<int>(random.below(8)), slope = static_cast<int>(random.below(3));
    for (int p = 0; p < 6 * 8; ++p)
      for (int c = 0; c < 3; ++c) text += std::to_string(((p % 8 + slope * (p / 8) + phase + c) % 8) * 30) + ",";
    text += std::to_string(slope) + "\n";
  }
  return text;
}

/// A stage that guesses 9 of 12 hidden patches, and one that learns labels.
struct MaskedFixture {
  TemporaryFolder folder;
  SearchSpace space = with_decoder(true);
  TrainOptions options;
  std::vector<Stage> stages;
  std::unique_ptr<ImageData> data;

  static SearchSpace with_decoder(bool present) {
    const SearchSpace base = tiny_space("vit");
    ModelConfig model = base.model();
    if (present) model.decoder = {.embed = 16, .depth = 1, .heads = 2};
    return {model, base.embed(), base.depth(), base.blocks()};
  }

  MaskedFixture() {
    folder.write("stripes.csv", stripes(200));
    DataOptions images;
    images.splits = {80, 10, 10};
    images.image.images = folder / "stripes.csv";
    data = std::make_unique<ImageData>(images, space.model(), options.augmentation);
    options.steps = 60;
    options.sequences = 24;
    options.rate = 1e-2;
    stages = {{.share = 0.5, .sampler = "balanced", .objective = "masked_patches", .largest = 0.25, .smallest = 0.25},
              {.share = 0.5, .sampler = "sandwich", .objective = "labels+largest"}};
    resolve_stages(stages, options.steps);
  }

  std::unique_ptr<Trainer> trainer(Backend& backend, Communicator& ranks = alone(), std::optional<std::int64_t> limit = {}) const {
    return std::make_unique<Trainer>(space, options, stages, *data, backend, limit, ranks);
  }
};

}  // namespace elastiform
