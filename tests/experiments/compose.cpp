// Methods compose: random recipes of three methods train, give the same bits on 1 and 2 threads and after a checkpoint, or are refused in one
// line. ./dev experiment compose runs a thousand.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "experiments/elastiform/recipe.hpp"
#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "tests/experiments/program.hpp"
#include "tests/support/catch.hpp"
#include "trainers/checkpoint.hpp"

namespace elastiform {
namespace {

/// Settings of one method; those of one group exclude each other.
struct Method {
  std::string group;
  std::vector<std::string> settings;
};

const std::vector<Method> kMethods = {
    {"policy", {"train.policy=dense"}},
    {"policy", {"train.policy=lazy-global"}},
    {"policy", {"train.policy=catch-up"}},
    {"schedule", {"train.schedule=cosine"}},
    {"schedule", {"train.schedule=constant"}},
    {"accumulation", {"train.accumulation=2"}},
    {"accumulation", {"train.accumulation=3"}},
    {"objective", {"stage.1.sampler=sandwich", "stage.1.objective=labels+largest"}},
    {"objective", {"stage.1.sampler=sandwich", "stage.1.random=2"}},
    {"precision", {"train.precision=bf16"}},
};

constexpr const char* kRecipe = R"(
data = { text = "text.txt", splits = [80, 10, 10], split_block = 4096 }
model = { preset = "llama", context = 24, head_dim = 8 }
space = { embed = [16, 24, 32], depth = [1, 2, 3], heads = [1, 2], ffn_ratio = [1, 2] }
train = { steps = 3, sequences = 4, rate = 1e-2 }
stage = [ { share = 0.34, sampler = "largest" }, { share = 0.66, sampler = "balanced" } ]
)";

/// The settings of recipe number `index`: one method of each of three groups.
std::vector<std::string> drawn(std::uint64_t index) {
  RandomStream random(7, Purpose::test, index);
  std::vector<std::string> settings, groups;
  while (groups.size() < 3) {
    const Method& method = kMethods[random.below(kMethods.size())];
    if (std::ranges::find(groups, method.group) != groups.end()) continue;
    groups.push_back(method.group);
    settings.insert(settings.end(), method.settings.begin(), method.settings.end());
  }
  return settings;
}

struct Bench {
  const TemporaryFolder& micro = micro_folder();
  TemporaryFolder folder;

  /// The digest-worthy bytes of the checkpoint after all steps; "refused: why" for a recipe that cannot be.
  std::string trained(const std::vector<std::string>& settings, int threads, bool interrupted) {
    const Recipe recipe = Recipe::parse(kRecipe, "compose.toml", settings);
    const TextData data(micro.path() + "/text.txt", recipe.data, recipe.space.model().context);
    const ThreadPool pool(threads);
    const auto backend = make_backend(training_compute(recipe, Device::cpu), pool);
    const std::string path = folder.path() + "/state.h5";
    const auto trainer = [&] { return std::make_unique<Trainer>(recipe.space, recipe.train, recipe.stages, data, *backend); };
    auto running = trainer();
    while (!running->done()) {
      running->step();
      if (!interrupted) continue;
      save_checkpoint(*running, recipe.text(), data.sha256(), path);
      running = trainer();
      load_checkpoint(*running, path);
    }
    save_checkpoint(*running, recipe.text(), data.sha256(), path);
    return content_of(path);
  }
};

}  // namespace

TEST_CASE("random recipes of three methods train to the same bits on any threads and after any kill", "[experiments][compose]") {
  const char* const asked = std::getenv("ELASTIFORM_COMPOSE");
  const std::uint64_t recipes = asked == nullptr ? 50 : std::strtoull(asked, nullptr, 10);
  Bench bench;
  std::map<std::string, int> refusals;
  std::uint64_t valid = 0;
  for (std::uint64_t i = 0; i < recipes; ++i) {
    const auto settings = drawn(i);
    std::string shown;
    for (const std::string& one : settings) shown += " --set " + one;
    INFO("recipe " << i << ":" << shown);
    std::string plain;
    try {
      plain = bench.trained(settings, 1, false);
    } catch (const InputError& error) {
      const std::string line = error.what();
      CHECK(line.find('\n') == std::string::npos);
      CHECK(line.size() > 20);
      ++refusals[line];
      continue;
    }
    ++valid;
    CHECK((plain == bench.trained(settings, 2, true)));
  }
  CHECK(valid > recipes / 2);
  if (asked == nullptr) return;
  fmt::print("{{\"recipes\": {}, \"valid\": {}, \"methods\": {}}}\n", recipes, valid, kMethods.size());
  for (const auto& [line, count] : refusals) fmt::print("{} x {}\n", count, line);
}

}  // namespace elastiform
