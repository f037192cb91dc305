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
constexpr const char *kWeights = "/weights", *kAverage = "/average";

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

const char* hash_name(const char* group) { return group == kAverage ? "average_hash" : "weights_hash"; }

Weights checked_weights(const Hdf5Reader& file, const std::string& path, std::shared_ptr<const WeightTable> table,
                        const char* group = kWeights) {
  check_weights(file, group, *table);
  Weights weights(std::move(table), DType::float32);
  read_weights(file, group, weights);
  if (weights_hash(weights) != file.text_attribute("/", hash_name(group)))
    throw InputError({path, "weights with the stored hash", "other weights", "use an earlier checkpoint"});
  return weights;
}

/// What a checkpoint holds in the shape of the weights, beside them.
std::map<std::string, Weights*> state_moments(const Trainer::State& state) {
  std::map<std::string, Weights*> all;
  for (const auto& [name, moment] : state.optimizer->moments()) all["/optimizer/" + name] = moment;
  for (const auto& [name, moment] : state.rule->moments()) all["/rule/" + name] = moment;
  return all;
}

/// Lists of numbers: one a band, one a token.
std::map<std::string, std::vector<double>*> state_numbers(const Trainer::State& state) {
  std::map<std::string, std::vector<double>*> all;
  for (const auto& [name, numbers] : state.optimizer->band_numbers()) all["/bands/" + name] = numbers;
  if (state.average) all["/bands/average"] = &state.average->counts();
  for (const auto& [name, numbers] : state.tokens->state()) all["/tokens/" + name] = numbers;
  return all;
}

/// Arrays of an optimizer's state, whatever they hold, as one row each.
void write_array(Hdf5Writer& file, const std::string& name, const StateArray& array) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(array.bytes()));
  array.memory().copy(bytes.data(), array.data(), array.bytes());
  const auto count = static_cast<std::size_t>(array.count());
  if (array.dtype() == DType::uint8) file.dataset(name, std::span(reinterpret_cast<const std::uint8_t*>(bytes.data()), count));
  else file.dataset(name, std::span(reinterpret_cast<const float*>(bytes.data()), count));
}

/// The bytes that `array` will take, checked.
std::vector<std::byte> read_array(const Hdf5Reader& file, const std::string& name, const StateArray& array) {
  const auto as_bytes = [&](const auto& values) {
    if (static_cast<std::int64_t>(values.size()) != array.count())
      throw InputError({file.path() + ": " + name, std::to_string(array.count()) + " numbers", std::to_string(values.size()), ""});
    const auto* begin = reinterpret_cast<const std::byte*>(values.data());
    return std::vector<std::byte>(begin, begin + array.bytes());
  };
  return array.dtype() == DType::uint8 ? as_bytes(file.bytes(name)) : as_bytes(file.floats(name));
}

}  // namespace

BuildIdentity this_build(const Backend& backend) {
  return {.commit = ELASTIFORM_COMMIT,
          .isa = backend.arithmetic(),
          .compiler = compiler_name(),
          .precision = std::string(name_of(backend.precision()))};
}

void save_checkpoint(const Trainer& trainer, const std::string& recipe_toml, const std::string& data_sha256, const std::string& path) {
  const Trainer::State& state = trainer.state();
  Hdf5Writer file(path, kKind);
  const SearchSpace& space = state.weights.table().space();
  const BuildIdentity build = this_build(trainer.backend());
  file.attribute("/", "version", std::string_view(ELASTIFORM_VERSION));
  file.attribute("/", "commit", std::string_view(build.commit));
  file.attribute("/", "isa", std::string_view(build.isa));
  file.attribute("/", "compiler", std::string_view(build.compiler));
  file.attribute("/", "precision", std::string_view(build.precision));
  file.attribute("/", "space", std::string_view(space.text()));
  file.attribute("/", "space_hash", std::string_view(space.hash()));
  file.attribute("/", "recipe", std::string_view(recipe_toml));
  file.attribute("/", "data_sha256", std::string_view(data_sha256));
  file.attribute("/", "weights_hash", std::string_view(weights_hash(state.weights)));
  file.attribute("/", "step", state.next_step);
  file.attribute("/", "updates", state.updates);
  file.attribute("/", "skipped", state.skipped);
  // Random numbers are pure functions of (seed, purpose, step) and so is the place in the data: these two are all their state. load
  // takes the seed from the recipe, which the program compares with the one above.
  file.attribute("/", "seed", static_cast<std::int64_t>(trainer.options().seed));
  write_weights(file, "/weights", state.weights);
  for (const auto& [name, moment] : state_moments(state)) write_weights(file, name, *moment);
  for (const auto& [name, array] : state.optimizer->arrays()) write_array(file, "/optimizer/" + name, *array);
  for (const auto& [name, numbers] : state_numbers(state)) file.dataset(name, std::span<const double>(*numbers));
  if (state.average) {
    write_weights(file, kAverage, state.average->weights());
    file.attribute("/", "average_hash", std::string_view(weights_hash(state.average->weights())));
  }
  if (trainer.options().noise_scale) {
    file.attribute("/", "noise_signal", state.noise.signal);
    file.attribute("/", "noise_trace", state.noise.trace);
  }
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
  const auto numbers = state_numbers(state);
  std::map<std::string, std::vector<double>> bands;
  for (const auto& [name, held] : numbers) {
    std::vector<double> values = file.doubles(name);
    if (values.size() != held->size())
      throw InputError({path + ": " + name, std::to_string(held->size()) + " numbers", std::to_string(values.size()), ""});
    bands[name] = std::move(values);
  }
  const auto moments = state_moments(state);
  for (const auto& [name, moment] : moments) check_weights(file, name, moment->table());
  const auto arrays = state.optimizer->arrays();
  std::map<std::string, std::vector<std::byte>> contents;
  for (const auto& [name, array] : arrays) contents[name] = read_array(file, "/optimizer/" + name, *array);

  std::optional<Weights> average;
  GradientNoise noise;
  if (state.average) average.emplace(checked_weights(file, path, state.weights.shared_table(), kAverage));
  if (trainer.options().noise_scale) noise = {file.real_attribute("/", "noise_signal"), file.real_attribute("/", "noise_trace")};

  for (const auto& [name, array] : arrays) array->memory().copy(array->data(), contents[name].data(), array->bytes());
  for (const auto& [name, moment] : moments) read_weights(file, name, *moment);
  for (const auto& [name, held] : numbers) *held = std::move(bands[name]);
  state.weights.assign(weights);
  if (average) state.average->weights().assign(*average);
  state.noise = noise;
  state.next_step = step, state.updates = updates, state.skipped = skipped;
  return identity_of(file);
}

LoadedSupernet load_supernet(const std::string& path, Which which) {
  const Hdf5Reader file(path, kKind);
  if (which == Which::average && !file.has(kAverage))
    throw InputError({path, "a running average of the weights", "none", "train with train.ema, or use the trained weights"});
  SearchSpace space = SearchSpace::parse(file.text_attribute("/", "space"), path);
  const char* const group = which == Which::average ? kAverage : kWeights;
  Weights weights = checked_weights(file, path, std::make_shared<const WeightTable>(space), group);
  return {.space = std::move(space),
          .weights = std::move(weights),
          .recipe_toml = file.text_attribute("/", "recipe"),
          .data_sha256 = file.text_attribute("/", "data_sha256"),
          .weights_hash = file.text_attribute("/", hash_name(group)),
          .steps = count_attribute(file, path, "step", INT64_MAX),
          .identity = identity_of(file)};
}

}  // namespace elastiform
