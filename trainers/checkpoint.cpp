#include "trainers/checkpoint.hpp"

#include <map>
#include <utility>
#include <vector>

#include "kernels/cpu/identity.hpp"
#include "kernels/errors.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "supernet/weights_file.hpp"
#include "trainers/trainer_state.hpp"
#include "version.hpp"

namespace elastiform {
namespace {

constexpr const char* kKind = "supernet";

/// A whole number of a file's root that must lie in [0, high].
std::int64_t count_attribute(const Hdf5Reader& file, const std::string& path, const std::string& name, std::int64_t high) {
  const std::int64_t value = file.integer_attribute("/", name);
  if (value < 0 || value > high)
    throw InputError({path + ": " + name, "0 to " + std::to_string(high), std::to_string(value), "use an earlier checkpoint"});
  return value;
}

BuildIdentity identity_of(const Hdf5Reader& file) {
  return {.commit = file.text_attribute("/", "commit"),
          .isa = file.text_attribute("/", "isa"),
          .compiler = file.text_attribute("/", "compiler"),
          .precision = file.text_attribute("/", "precision")};
}

Weights checked_weights(const Hdf5Reader& file, const std::string& path, std::shared_ptr<const WeightTable> table) {
  check_weights(file, "/weights", *table);
  Weights weights(std::move(table), DType::float32);
  read_weights(file, "/weights", weights);
  if (weights_hash(weights) != file.text_attribute("/", "weights_hash"))
    throw InputError({path, "weights with the stored hash", "other weights", "use an earlier checkpoint"});
  return weights;
}

}  // namespace

BuildIdentity this_build(const Backend& backend) {
  return {.commit = ELASTIFORM_COMMIT,
          .isa = backend.arithmetic(),
          .compiler = compiler_name(),
          .precision = std::string(name_of(backend.precision()))};
}

namespace {

struct Counters {
  std::int64_t step = 0, updates = 0, skipped = 0;
};

/// Everything but the optimizer's state.
void write_run_state(Hdf5Writer& file, const Weights& weights, const std::string& recipe_toml, const std::string& data_sha256,
                     std::uint64_t seed, const Counters& counters, const BuildIdentity& build) {
  const SearchSpace& space = weights.table().space();
  file.attribute("/", "version", std::string_view(ELASTIFORM_VERSION));
  file.attribute("/", "commit", std::string_view(build.commit));
  file.attribute("/", "isa", std::string_view(build.isa));
  file.attribute("/", "compiler", std::string_view(build.compiler));
  file.attribute("/", "precision", std::string_view(build.precision));
  file.attribute("/", "space", std::string_view(space.text()));
  file.attribute("/", "space_hash", std::string_view(space.hash()));
  file.attribute("/", "recipe", std::string_view(recipe_toml));
  file.attribute("/", "data_sha256", std::string_view(data_sha256));
  file.attribute("/", "weights_hash", std::string_view(weights_hash(weights)));
  file.attribute("/", "step", counters.step);
  file.attribute("/", "updates", counters.updates);
  file.attribute("/", "skipped", counters.skipped);
  // Random numbers are pure functions of (seed, purpose, step) and so is the place in the data: these two are all their state. load
  // takes the seed from the recipe, which the program compares with the one above.
  file.attribute("/", "seed", static_cast<std::int64_t>(seed));
  write_weights(file, "/weights", weights);
}

}  // namespace

void save_checkpoint(const Trainer& trainer, const std::string& recipe_toml, const std::string& data_sha256, const std::string& path) {
  const Trainer::State& state = trainer.state();
  Hdf5Writer file(path, kKind);
  write_run_state(file, state.weights, recipe_toml, data_sha256, trainer.options().seed, {state.next_step, state.updates, state.skipped},
                  this_build(trainer.backend()));
  for (const auto& [name, moment] : state.optimizer->moments()) write_weights(file, "/optimizer/" + name, *moment);
  for (const auto& [name, numbers] : state.optimizer->band_numbers()) file.dataset("/bands/" + name, std::span<const double>(*numbers));
  file.close();
}

void save_first_weights(const Weights& weights, const std::string& recipe_toml, const std::string& data_sha256, std::uint64_t seed,
                        const BuildIdentity& build, const std::string& path) {
  Hdf5Writer file(path, kKind);
  write_run_state(file, weights, recipe_toml, data_sha256, seed, {}, build);
  file.close();
}

BuildIdentity load_checkpoint(Trainer& trainer, const std::string& path) {
  const Hdf5Reader file(path, kKind);
  Trainer::State& state = trainer.state();
  const std::string space_hash = state.weights.table().space().hash();
  if (file.text_attribute("/", "space_hash") != space_hash)
    throw InputError({path, "the search space of the recipe (" + space_hash.substr(0, 8) + ")",
                      "another space (" + file.text_attribute("/", "space_hash").substr(0, 8) + ")", "resume with the run's own recipe"});
  // Everything is read and checked before the trainer changes: a bad file leaves it as it was.
  const std::int64_t steps = trainer.options().steps, step = count_attribute(file, path, "step", steps);
  const std::int64_t updates = count_attribute(file, path, "updates", step), skipped = count_attribute(file, path, "skipped", step);
  Weights weights = checked_weights(file, path, state.weights.shared_table());
  // First weights alone (save_first_weights): the optimizer's state is that of a fresh trainer.
  if (step == 0 && !file.has("/optimizer") && !file.has("/bands")) {
    state.weights.assign(weights);
    return identity_of(file);
  }
  const auto numbers = state.optimizer->band_numbers();
  std::map<std::string, std::vector<double>> bands;
  for (const auto& [name, held] : numbers) {
    std::vector<double> values = file.doubles("/bands/" + name);
    if (values.size() != held->size())
      throw InputError({path + ": /bands/" + name, std::to_string(held->size()) + " bands", std::to_string(values.size()), ""});
    bands[name] = std::move(values);
  }
  const auto moments = state.optimizer->moments();
  for (const auto& [name, moment] : moments) check_weights(file, "/optimizer/" + name, moment->table());

  for (const auto& [name, moment] : moments) read_weights(file, "/optimizer/" + name, *moment);
  for (const auto& [name, held] : numbers) *held = std::move(bands[name]);
  state.weights.assign(weights);
  state.next_step = step, state.updates = updates, state.skipped = skipped;
  return identity_of(file);
}

LoadedSupernet load_supernet(const std::string& path) {
  const Hdf5Reader file(path, kKind);
  SearchSpace space = SearchSpace::parse(file.text_attribute("/", "space"), path);
  Weights weights = checked_weights(file, path, std::make_shared<const WeightTable>(space));
  return {.space = std::move(space),
          .weights = std::move(weights),
          .recipe_toml = file.text_attribute("/", "recipe"),
          .data_sha256 = file.text_attribute("/", "data_sha256"),
          .weights_hash = file.text_attribute("/", "weights_hash"),
          .steps = count_attribute(file, path, "step", INT64_MAX),
          .identity = identity_of(file)};
}

}  // namespace elastiform
