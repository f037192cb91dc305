// Methods compose: random recipes of three methods train, give the same bits on 1 and 2 threads and after a checkpoint, or are refused in one
// line. ./dev experiment compose runs a thousand.
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <map>

#include "experiments/elastiform/recipe.hpp"
#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "supernet/data/text_data.hpp"
#include "tests/experiments/program.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/spaces.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/frozen_teacher.hpp"

namespace elastiform {
namespace {

/// Settings of one method; those of one group exclude each other.
struct Method {
  std::string group;
  std::vector<std::string> settings;
};

// A tuning begins with weights that it does not name otherwise; here with random ones.
const std::string kBase = "tune.base=" + std::string(64, '0');

const std::vector<Method> kMethods = {
    {"policy", {"train.policy=dense"}},
    {"policy", {"train.policy=lazy-global"}},
    {"policy", {"train.policy=catch-up"}},
    {"schedule", {"train.schedule=cosine"}},
    {"schedule", {"train.schedule=constant"}},
    {"accumulation", {"train.accumulation=2"}},
    {"accumulation", {"train.accumulation=2", "train.noise_scale=true"}},
    {"accumulation", {"train.accumulation=3"}},
    {"scale_rate", {"train.scale_rate=linear"}},
    {"scale_rate", {"train.scale_rate=sqrt"}},
    {"objective", {"stage.1.sampler=sandwich", "stage.1.objective=labels+largest"}},
    {"objective", {"stage.1.sampler=sandwich", "stage.1.random=2"}},
    {"objective", {"stage.1.objective=labels+teacher", "teacher.subnet=e40:2xh2f48", "teacher.weights=0"}},
    {"objective", {"stage.0.objective=teacher", "stage.1.objective=labels+teacher", "teacher.subnet=e16:h1f24", "teacher.weights=0"}},
    {"optimizer", {"train.optimizer=sgd"}},
    {"optimizer", {"train.optimizer=sgd", "train.nesterov=true"}},
    {"optimizer", {"train.optimizer=lion"}},
    {"optimizer", {"train.optimizer=lars"}},
    {"optimizer", {"train.optimizer=lamb"}},
    {"optimizer", {"train.optimizer=adafactor"}},
    {"optimizer", {"train.optimizer=adamw8bit"}},
    {"step_rule", {"train.step_rule=sam"}},
    {"step_rule", {"train.step_rule=sam", "train.adaptive=true", "train.rho=0.5"}},
    {"step_rule", {"train.step_rule=looksam", "train.look_every=2"}},
    {"step_rule", {"train.step_rule=esam"}},
    {"step_rule", {"train.step_rule=esam", "train.uphill_share=1", "train.sharp_share=0.25"}},
    {"ema", {"train.ema=0.9"}},
    {"residual", {"model.residual=branch_scale_by_depth"}},
    {"residual", {"model.residual=layerscale"}},
    {"residual", {"model.residual=rezero"}},
    {"residual", {"model.residual=skipinit"}},
    {"residual", {"model.residual=fixup", "model.tied=false"}},
    {"residual", {"model.residual=t_fixup"}},
    {"residual", {"model.residual=deepnorm"}},
    {"residual", {"model.residual=admin"}},
    {"tokens", {"train.tokens=random_ltd", "train.tokens_step=4"}},
    {"tokens", {"train.tokens=importance", "train.tokens_step=4"}},
    {"dropout", {"train.dropout=0.1"}},
    {"init", {"train.init=gpt2"}},
    {"precision", {"train.precision=bf16"}},
    {"precision", {"train.precision=bf16-pure"}},
    {"precision", {"train.precision=fp16"}},
    {"precision", {"train.precision=fp8", "train.fp8_window=2"}},
    {"activations", {"train.activations=8bit"}},
    {"activations", {"train.activations=4bit"}},
    {"activations", {"train.activations=2bit"}},
    {"activations", {"train.activations=auto"}},
    {"tuning", {"tune.method=bitfit", kBase, "model.biases=true"}},
    {"tuning", {"tune.method=lora", "tune.rank=2", kBase}},
    {"tuning", {"tune.method=prefix", "tune.keys=4", kBase}},
    {"tuning", {"tune.method=lora", "tune.ranks=1,2,4", kBase}},
    {"tuning", {"tune.method=adapter", "tune.width=4", kBase}},
    {"tuning", {"tune.method=ssf", kBase}},
    {"tuning", {"tune.method=prompt", "tune.tokens=4", kBase}},
    {"family", {"model.preset=gpt2"}},
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
    const auto trainer = [&] {
      std::unique_ptr<const Weights> teacher;
      if (recipe.train.teacher)
        teacher =
            std::make_unique<const Weights>(random_weights(teacher_space(recipe.space.model(), *recipe.train.teacher), DType::float32, 1));
      return std::make_unique<Trainer>(recipe.space, recipe.train, recipe.stages, data, *backend, std::nullopt, alone(), nullptr,
                                       std::move(teacher));
    };
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
