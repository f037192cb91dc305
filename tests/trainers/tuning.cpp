// Trainings of which a part of the weights learns.
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "supernet/parametrizations/merge.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/cpu.hpp"
#include "tests/support/tuned_spaces.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/samplers/sampler.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

SearchSpace biased_space() {
  const SearchSpace tiny = tiny_space("gpt2");
  ModelConfig model = tiny.model();
  model.vocabulary = 256;
  return SearchSpace(model, tiny.embed(), tiny.depth(), tiny.blocks());
}

/// A base that has learned a little, and the recipe of its tuning.
struct Tuned : Fixture {
  Cpu cpu{2};
  std::optional<LoadedSupernet> base;

  explicit Tuned(const SearchSpace& plain, const Tuning& tuning) {
    Trainer first(plain, options, stages, *data, cpu.backend);
    while (first.next_step() < 20) first.step();
    Weights weights(first.weights().shared_table(), DType::float32);
    weights.assign(first.weights());
    std::string hash = weights_hash(weights);
    base.emplace(LoadedSupernet{plain, std::move(weights), "recipe", data->sha256(), std::move(hash), 20, this_build(cpu.backend)});
    space = with_tuning(plain, tuning);
    options.seed = 5;
  }
  std::unique_ptr<Trainer> begin() {
    auto trainer = std::make_unique<Trainer>(space, options, stages, *data, cpu.backend);
    copy_by_name(trainer->state().weights, base->weights);
    return trainer;
  }
};

Tuned tuning_of(const std::string& method) {
  if (method == "bitfit") return Tuned(biased_space(), bitfit());
  if (method == "adapter") return Tuned(byte_space(), adapters(4));
  if (method == "ranks") return Tuned(byte_space(), elastic_lora(byte_space().model(), {1, 2, 4}, 8));
  if (method == "prefix") return Tuned(byte_space(), prefixes(4));
  if (method == "prompt") return Tuned(byte_space(), prompts(4));
  if (method == "ssf") return Tuned(biased_space(), ssf(biased_space().model()));
  return Tuned(byte_space(), lora(byte_space().model(), 4, 8));
}

TEST_CASE("tuning learns and leaves frozen weights bitwise as they were", "[trainers][tuning]") {
  const std::string method = GENERATE("bitfit", "lora", "ssf", "adapter", "prompt", "prefix", "ranks");
  CAPTURE(method);
  Tuned f = tuning_of(method);
  const auto begun = f.begin();
  Trainer& trainer = *begun;
  const double first = trainer.step().losses.front().label_loss;
  StepReport last;
  while (!trainer.done()) last = trainer.step();
  CHECK(last.losses.front().label_loss < first);
  CHECK(trainer.skipped_steps() == 0);
  int moved = 0;
  for (const TensorSpec& tensor : trainer.weights().table().tensors()) {
    CAPTURE(tensor.name);
    if (!tensor.trained) CHECK(same_bits(trainer.weights().view(tensor), f.base->weights.view(tensor.name)));
    else if (f.base->weights.table().has(tensor.name))
      moved += same_bits(trainer.weights().view(tensor), f.base->weights.view(tensor.name)) ? 0 : 1;
    else if (tensor.role != Role::low_rank)
      moved += trainer.weights().view(tensor).row<float>(0)[0] != (tensor.role == Role::gain ? 1 : 0) ? 1 : 0;
  }
  CHECK(moved > 0);
}

TEST_CASE("what is frozen has neither gradients nor optimizer state, and the plan says so", "[trainers][tuning][memory]") {
  Tuned f = tuning_of(GENERATE("bitfit", "lora", "ssf", "adapter", "prompt", "prefix", "ranks"));
  const auto begun = f.begin();
  const Trainer& trainer = *begun;
  const Trainer::Memory planned = Trainer::plan(f.space, f.options, f.stages, f.cpu.backend), held = trainer.memory();
  const WeightTable table(f.space);
  CHECK(planned.weights == held.weights);
  CHECK(planned.gradients == held.gradients);
  CHECK(planned.optimizer == held.optimizer);
  CHECK(planned.arena == held.arena);
  CHECK(held.gradients == 4 * table.trained_elements());
  CHECK(held.optimizer == 8 * table.trained_elements() + 8 * table.band_count());
  CHECK(table.trained_elements() < table.elements() / 2);
}

TEST_CASE("a tuning that is killed and resumed has the bits of one that was not", "[trainers][tuning][bits]") {
  const std::string method = GENERATE("bitfit", "lora", "ssf", "adapter", "prompt", "prefix", "ranks");
  CAPTURE(method);
  Tuned f = tuning_of(method);
  const auto whole = f.begin();
  while (!whole->done()) whole->step();
  const auto killed = f.begin();
  while (killed->next_step() < 23) killed->step();
  save_base(*f.base, f.folder / "base.h5");
  save_checkpoint(*killed, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  const auto resumed = f.begin();
  load_checkpoint(*resumed, f.folder / "supernet.h5");
  CHECK(resumed->next_step() == 23);
  CHECK(weights_hash(resumed->weights()) == weights_hash(killed->weights()));
  while (!resumed->done()) resumed->step();
  CHECK(weights_hash(resumed->weights()) == weights_hash(whole->weights()));
}

TEST_CASE("a tuning's checkpoint holds what learns, and loads merged into its base", "[trainers][tuning]") {
  Tuned f = tuning_of("lora");
  const auto begun = f.begin();
  Trainer& trainer = *begun;
  while (trainer.next_step() < 5) trainer.step();
  std::filesystem::create_directory(f.folder / "checkpoints");
  save_base(*f.base, f.folder / "base.h5");
  for (const char* name : {"supernet.h5", "checkpoints/step-000005.h5"}) {
    save_checkpoint(trainer, "recipe", f.data->sha256(), f.folder / name);
    CHECK(base_path(f.folder / name) == f.folder / "base.h5");
    const LoadedSupernet loaded = load_supernet(f.folder / name);
    CHECK(loaded.space == f.base->space);
    CHECK(weights_hash(loaded.weights) == weights_hash(merged(trainer.weights())));
    CHECK(loaded.weights_hash == weights_hash(trainer.weights()));
  }
  // Another base is noticed, and so is none.
  LoadedSupernet other = load_supernet(f.folder / "base.h5");
  CHECK(other.weights_hash == f.base->weights_hash);
  other.weights.view("final.norm.gain").row<float>(0)[0] += 1;
  other.weights_hash = weights_hash(other.weights);
  save_base(other, f.folder / "base.h5");
  CHECK_THROWS_AS(load_supernet(f.folder / "supernet.h5"), InputError);
  std::filesystem::remove(f.folder / "base.h5");
  CHECK_THROWS_AS(load_supernet(f.folder / "supernet.h5"), InputError);
}

TEST_CASE("every step draws a rank for each subnet, a teacher has the largest", "[trainers][tuning][ranks]") {
  const SearchSpace space = with_tuning(byte_space(), elastic_lora(byte_space().model()));
  Stage stage;
  const auto counts = [&](bool teaches, std::size_t place) {
    const auto sampler = with_ranks(make_sampler(space, stage, 3), space, 3, teaches);
    std::map<int, int> found;
    for (std::uint64_t step = 0; step < 900; ++step) {
      const std::vector<Subnet> subnets = sampler->sample(step, step);
      CHECK(subnets == sampler->sample(step, step));
      for (const Subnet& subnet : subnets) CHECK(space.contains(subnet));
      ++found[subnets.at(place).rank];
    }
    return found;
  };
  for (const auto& [rank, count] : counts(false, 0)) {
    CAPTURE(rank);
    CHECK(std::abs(count - 300) < 60);  // 4 σ
  }
  CHECK(counts(false, 0).size() == 3);
  stage.sampler = "sandwich";
  CHECK(counts(true, 0) == std::map<int, int>{{0, 900}});
  CHECK(counts(true, 1).size() == 3);
  CHECK(counts(false, 0).size() == 3);
  CHECK(make_sampler(byte_space(), stage, 3)->sample(5, 5).front().rank == 0);
}

TEST_CASE("a step at a small rank leaves the rest of A and B, and their moments, as they were", "[trainers][tuning][ranks]") {
  Tuned f = tuning_of("ranks");
  f.stages = {{.share = 1, .steps = 0, .sampler = "largest"}};
  resolve_stages(f.stages, f.options.steps);
  const auto begun = f.begin();
  Trainer& trainer = *begun;
  std::set<int> seen;
  while (!trainer.done()) {
    const auto values = [&](const Weights& weights, const char* name) {
      std::vector<std::vector<float>> rows;
      const ConstView view = weights.view(name);
      for (std::int64_t row = 0; row < view.rows; ++row) rows.emplace_back(view.row<float>(row), view.row<float>(row) + view.columns);
      return rows;
    };
    const auto all = [&] {
      std::vector<std::vector<std::vector<float>>> state{values(trainer.weights(), "block.0.ffn.up.lora_b")};
      for (const auto& [name, moment] : trainer.state().optimizer->moments()) state.push_back(values(*moment, "block.0.ffn.up.lora_b"));
      return state;
    };
    const auto before = all();
    const StepReport report = trainer.step();
    const auto after = all();
    const int rank = report.subnets.front().rank;
    seen.insert(rank);
    for (std::size_t i = 0; i < before.size(); ++i)
      for (std::size_t row = 0; row < before[i].size(); ++row)
        CHECK((before[i][row] == after[i][row]) == (rank > 0 && static_cast<int>(row) >= rank));
  }
  CHECK(seen == std::set<int>{0, 1, 2});
}

TEST_CASE("a checkpoint of several ranks loads at each of them, as other weights", "[trainers][tuning][ranks]") {
  Tuned f = tuning_of("ranks");
  const auto begun = f.begin();
  while (begun->next_step() < 25) begun->step();
  save_base(*f.base, f.folder / "base.h5");
  save_checkpoint(*begun, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  const std::string path = f.folder / "supernet.h5";
  const LoadedSupernet largest = load_supernet(path), two = load_supernet(path, Which::trained, 2),
                       four = load_supernet(path, Which::trained, 4);
  CHECK(weights_hash(two.weights) == weights_hash(merged(begun->weights(), 2)));
  CHECK(weights_hash(two.weights) != weights_hash(largest.weights));
  CHECK(two.weights_hash != largest.weights_hash);
  CHECK(two.weights_hash.size() == largest.weights_hash.size());
  CHECK(four.weights_hash == largest.weights_hash);
  CHECK(weights_hash(four.weights) == weights_hash(largest.weights));
  CHECK_THROWS_WITH(load_supernet(path, Which::trained, 3), Catch::Matchers::Contains("one of 1, 2, 4"));
  CHECK_THROWS_WITH(load_supernet(f.folder / "base.h5", Which::trained, 3), Catch::Matchers::Contains("a run that lora has tuned"));
}

}  // namespace
}  // namespace elastiform
