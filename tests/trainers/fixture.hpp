#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/random.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/temporary_folder.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/trainer.hpp"

namespace elastiform {

inline SearchSpace byte_space() {
  const SearchSpace tiny = tiny_space("llama");
  ModelConfig model = tiny.model();
  model.vocabulary = 256;
  return SearchSpace(model, tiny.embed(), tiny.depth(), tiny.blocks());
}

/// So wide that a product costs more than to compress what it computes, or to send it away: else plans do the product again.
inline SearchSpace wide_space(const SearchSpace& narrow) {
  ModelConfig model = narrow.model();
  model.head_dim = 32;
  const SearchSpace::Block block{{4, 8}, {.widths = {}, .ratios = {2, 4}}};
  return SearchSpace(model, {192, 256}, {1, 2}, {block, block});
}

/// Text that is worth learning: words of a small vocabulary in random order.
inline std::string words(std::size_t bytes) {
  static constexpr const char* kWords[] = {"the ", "light ", "of ", "heaven ", "and ", "earth ", "was ", "good.\n"};
  RandomStream random(1, Purpose::test);
  std::string text;
  while (text.size() < bytes) text += kWords[random.below(8)];
  return text;
}

/// A space, a text and a recipe of 50 steps in three stages: largest, balanced, sandwich with a teacher.
struct Fixture {
  TemporaryFolder folder;
  SearchSpace space = byte_space();
  TrainOptions options;
  std::vector<Stage> stages;
  std::unique_ptr<TextData> data;

  Fixture() {
    folder.write("text.txt", words(60000));
    data = std::make_unique<TextData>(folder / "text.txt",
                                      DataOptions{.text = "text.txt", .tokenizer = "bytes", .splits = {80, 10, 10}, .split_block = 4096},
                                      space.model().context);
    options.steps = 50;
    options.sequences = 24;  // 576 rows: two whole panels and a short one
    options.rate = 1e-2;
    stages = {{.share = 0.2, .steps = 0, .sampler = "largest"},
              {.share = 0.4, .steps = 0, .sampler = "balanced", .objective = "labels", .largest = 0.25, .smallest = 0.125},
              {.share = 0.4, .steps = 0, .sampler = "sandwich", .objective = "labels+largest"}};
    resolve_stages(stages, options.steps);
  }
};

/// A training to the end that another trainer took up from the checkpoint after `stop` steps.
inline std::unique_ptr<Trainer> resumed(const Fixture& f, std::int64_t stop, Backend& before, Backend& after) {
  {
    Trainer first(f.space, f.options, f.stages, *f.data, before);
    while (first.next_step() < stop) first.step();
    save_checkpoint(first, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  }
  auto second = std::make_unique<Trainer>(f.space, f.options, f.stages, *f.data, after);
  load_checkpoint(*second, f.folder / "supernet.h5");
  while (!second->done()) second->step();
  return second;
}

}  // namespace elastiform
