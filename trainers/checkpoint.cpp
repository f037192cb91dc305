#include "trainers/checkpoint.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <map>
#include <optional>
#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels/cpu/identity.hpp"
#include "kernels/errors.hpp"
#include "supernet/parametrizations/merge.hpp"
#include "supernet/sha256.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "supernet/weights_file.hpp"
#include "trainers/rank_hash.hpp"
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

/// Of a tuning, part of whose weights stand in its base's file. Where all are in this one, its own SHA-256, which covers them and their hash, was
/// checked when it was opened.
void check_hash(const Hdf5Reader& file, const std::string& path, const Weights& weights, const char* group) {
  if (weights.table().trained_elements() == weights.table().elements()) return;
  if (weights_hash(weights) != file.text_attribute("/", hash_name(group)))
    throw InputError({path, "weights with the stored hash", "other weights", "use an earlier checkpoint"});
}

/// `start` with what the file holds: everything, or of a tuning what learns.
Weights checked_weights(const Hdf5Reader& file, const std::string& path, Weights start, const char* group = kWeights) {
  read_weights(file, group, start, Held::trained);
  check_hash(file, path, start, group);
  return start;
}

Weights copy_of(const Weights& weights) {
  Weights copy(weights.shared_table(), weights.dtype());
  copy.assign(weights);
  return copy;
}

void write_identity(Hdf5Writer& file, const BuildIdentity& build, const SearchSpace& space) {
  file.attribute("/", "version", std::string_view(ELASTIFORM_VERSION));
  file.attribute("/", "commit", std::string_view(build.commit));
  file.attribute("/", "isa", std::string_view(build.isa));
  file.attribute("/", "compiler", std::string_view(build.compiler));
  file.attribute("/", "precision", std::string_view(build.precision));
  file.attribute("/", "space", std::string_view(space.text()));
  file.attribute("/", "space_hash", std::string_view(space.hash()));
}

/// The weights that a tuning in `space` began with.
Weights base_weights(const SearchSpace& space, const std::string& path) {
  const Hdf5Reader file(path, kKind);
  const SearchSpace plain = without_tuning(space);
  if (file.text_attribute("/", "space_hash") != plain.hash())
    throw InputError({path, "the space of the run's checkpoints (" + plain.hash().substr(0, 8) + ")",
                      "another space (" + file.text_attribute("/", "space_hash").substr(0, 8) + ")", "restore the run's base.h5"});
  const auto table = std::make_shared<const WeightTable>(plain);
  check_weights(file, "/weights", *table);
  return checked_weights(file, path, Weights(table, DType::float32));
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
  for (const auto& [name, numbers] : state.rule->band_numbers()) all["/bands/" + name] = numbers;
  if (state.average) all["/bands/average"] = &state.average->counts();
  for (const auto& [name, numbers] : state.tokens->state()) all["/tokens/" + name] = numbers;
  return all;
}

/// Arrays of an optimizer's state, whatever they hold, as one row each.
void write_array(Hdf5Writer& file, const std::string& name, const StateArray& array) {
  std::vector<std::byte> bytes(static_cast<std::size_t>(array.bytes()));
  array.memory().copy(bytes.data(), array.data(), array.bytes());
  const auto write = [&](const auto* values) { file.dataset(name, std::span(values, static_cast<std::size_t>(array.count()))); };
  if (array.dtype() == DType::uint8) write(reinterpret_cast<const std::uint8_t*>(bytes.data()));
  else if (array.dtype() == DType::float64) write(reinterpret_cast<const double*>(bytes.data()));
  else if (array.dtype() == DType::float32) write(reinterpret_cast<const float*>(bytes.data()));
  else throw std::logic_error(name + ": no such type in a checkpoint");
}

/// The bytes that `array` will take, checked.
std::vector<std::byte> read_array(const Hdf5Reader& file, const std::string& name, const StateArray& array) {
  const auto as_bytes = [&](const auto& values) {
    if (static_cast<std::int64_t>(values.size()) != array.count())
      throw InputError({file.path() + ": " + name, std::to_string(array.count()) + " numbers", std::to_string(values.size()), ""});
    const auto* begin = reinterpret_cast<const std::byte*>(values.data());
    return std::vector<std::byte>(begin, begin + array.bytes());
  };
  if (array.dtype() == DType::uint8) return as_bytes(file.bytes(name));
  return array.dtype() == DType::float64 ? as_bytes(file.doubles(name)) : as_bytes(file.floats(name));
}

/// What the file holds of each, on the host.
std::map<std::string, Weights> read_moments(const Hdf5Reader& file, const std::map<std::string, Weights*>& held) {
  std::map<std::string, Weights> moments;
  for (const auto& [name, moment] : held) {
    check_weights(file, name, moment->table(), Held::trained);
    Weights& values = moments.try_emplace(name, moment->shared_table(), moment->dtype(), host_memory(), moment->held()).first->second;
    values.assign(*moment);  // of a tuning the file has what learns
    read_weights(file, name, values, Held::trained);
  }
  return moments;
}

/// As many as are held, of each name.
std::map<std::string, std::vector<double>> read_numbers(const Hdf5Reader& file, const std::string& path, const std::string& group,
                                                        const std::map<std::string, std::vector<double>*>& held) {
  std::map<std::string, std::vector<double>> numbers;
  for (const auto& [name, vector] : held) {
    std::vector<double> values = file.doubles(group + name);
    if (values.size() != vector->size())
      throw InputError({path + ": " + group + name, std::to_string(vector->size()) + " numbers", std::to_string(values.size()), ""});
    numbers[name] = std::move(values);
  }
  return numbers;
}

}  // namespace

BuildIdentity this_build(const Backend& backend) {
  return {.commit = ELASTIFORM_COMMIT,
          .isa = backend.arithmetic(),
          .compiler = compiler_name(),
          .precision = std::string(name_of(backend.precision()))};
}

namespace {

/// Where a run stands, beside its weights.
struct Position {
  std::uint64_t seed = 0;
  std::int64_t step = 0, updates = 0, skipped = 0;
  std::string weights_hash;
};

/// Everything but what optimizer, rules and average keep.
void write_run_state(Hdf5Writer& file, const Weights& weights, const std::string& recipe_toml, const std::string& data_sha256,
                     const Position& position, const BuildIdentity& build) {
  write_identity(file, build, weights.table().space());
  file.attribute("/", "recipe", std::string_view(recipe_toml));
  file.attribute("/", "data_sha256", std::string_view(data_sha256));
  file.attribute("/", "weights_hash", std::string_view(position.weights_hash));
  file.attribute("/", "step", position.step);
  file.attribute("/", "updates", position.updates);
  file.attribute("/", "skipped", position.skipped);
  // Random numbers are pure functions of (seed, purpose, step) and so is the place in the data: these two are all their state. load
  // takes the seed from the recipe, which the program compares with the one above.
  file.attribute("/", "seed", static_cast<std::int64_t>(position.seed));
  write_weights(file, kWeights, weights, Held::trained);
}

}  // namespace

void save_checkpoint(const Trainer& trainer, const std::string& recipe_toml, const std::string& data_sha256, const std::string& path) {
  const Trainer::State& state = trainer.state();
  const Position position{trainer.options().seed, state.next_step, state.updates, state.skipped, weights_hash(state.weights)};
  Hdf5Writer file(path, kKind);
  write_run_state(file, state.weights, recipe_toml, data_sha256, position, this_build(trainer.backend()));
  for (const auto& [name, moment] : state_moments(state)) write_weights(file, name, *moment, Held::trained);
  for (const auto& [name, array] : state.optimizer->arrays()) write_array(file, "/optimizer/" + name, *array);
  for (const auto& [name, numbers] : state_numbers(state)) file.dataset(name, std::span<const double>(*numbers));
  for (const auto& [name, held] : state.precision->numbers()) file.dataset("/precision/" + name, std::span<const double>(*held));
  if (state.average) {
    write_weights(file, kAverage, state.average->weights(), Held::trained);
    file.attribute("/", "average_hash", std::string_view(weights_hash(state.average->weights())));
  }
  if (trainer.options().noise_scale) {
    file.attribute("/", "noise_signal", state.noise.signal);
    file.attribute("/", "noise_trace", state.noise.trace);
  }
  file.close();
}

void save_first_weights(const Weights& weights, const std::string& hash, const std::string& recipe_toml, const std::string& data_sha256,
                        std::uint64_t seed, const BuildIdentity& build, const std::string& path) {
  Hdf5Writer file(path, kKind);
  write_run_state(file, weights, recipe_toml, data_sha256, {.seed = seed, .step = 0, .updates = 0, .skipped = 0, .weights_hash = hash},
                  build);
  file.dataset("/first", std::span<const double>(std::array{0.0}));
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
  check_weights(file, kWeights, state.weights.table(), Held::trained);
  Weights weights = checked_weights(file, path, copy_of(state.weights));
  // First weights alone (save_first_weights): everything else is that of a fresh trainer.
  if (step == 0 && file.has("/first")) {
    trainer.begin_with(weights);
    return identity_of(file);
  }
  const auto numbers = state_numbers(state);
  std::map<std::string, std::vector<double>> bands = read_numbers(file, path, "", numbers);
  const auto precision_numbers = state.precision->numbers();
  std::map<std::string, std::vector<double>> precision = read_numbers(file, path, "/precision/", precision_numbers);
  const auto moments = state_moments(state);
  const std::map<std::string, Weights> stored_moments = read_moments(file, moments);
  const auto arrays = state.optimizer->arrays();
  std::map<std::string, std::vector<std::byte>> contents;
  for (const auto& [name, array] : arrays) contents[name] = read_array(file, "/optimizer/" + name, *array);

  std::optional<Weights> average;
  GradientNoise noise;
  if (state.average) {
    check_weights(file, kAverage, state.weights.table(), Held::trained);
    average.emplace(checked_weights(file, path, copy_of(state.weights), kAverage));
  }
  if (trainer.options().noise_scale) noise = {file.real_attribute("/", "noise_signal"), file.real_attribute("/", "noise_trace")};

  for (const auto& [name, array] : arrays) array->memory().copy(array->data(), contents[name].data(), array->bytes());
  for (const auto& [name, moment] : moments) moment->assign(stored_moments.at(name));
  for (const auto& [name, held] : numbers) *held = std::move(bands[name]);
  for (const auto& [name, held] : precision_numbers) *held = std::move(precision[name]);
  state.weights.assign(weights);
  if (average) state.average->weights().assign(*average);
  state.noise = noise;
  state.next_step = step, state.updates = updates, state.skipped = skipped;
  return identity_of(file);
}

std::string base_path(const std::string& checkpoint) {
  std::filesystem::path folder = std::filesystem::path(checkpoint).parent_path();
  if (folder.filename() == "checkpoints") folder = folder.parent_path();
  return (folder / "base.h5").string();
}

void save_base(const LoadedSupernet& base, const std::string& path) {
  Hdf5Writer file(path, kKind);
  write_identity(file, base.identity, base.space);
  file.attribute("/", "recipe", std::string_view(base.recipe_toml));
  file.attribute("/", "data_sha256", std::string_view(base.data_sha256));
  file.attribute("/", "weights_hash", std::string_view(base.weights_hash));
  file.attribute("/", "step", base.steps);
  write_weights(file, "/weights", base.weights);
  file.close();
}

namespace {

/// Subnet::rank of one that was asked for.
int checked_rank(const std::string& path, const Tuning& tuning, std::optional<std::int64_t> rank) {
  if (!rank || *rank == tuning.rank) return 0;
  std::string known;
  for (const int one : tuning.ranks) known += (known.empty() ? "one of " : ", ") + std::to_string(one);
  if (std::find(tuning.ranks.begin(), tuning.ranks.end(), *rank) == tuning.ranks.end())
    throw InputError({path + ": --rank",
                      !known.empty()    ? known
                      : tuning.rank > 0 ? std::to_string(tuning.rank)
                                        : "a run that lora has tuned",
                      std::to_string(*rank), "elastiform finetune --ranks trains several"});
  return static_cast<int>(*rank);
}

/// A group's network; of a tuning merged with its base.
Weights network_of(const Hdf5Reader& file, const std::string& path, const SearchSpace& space, const char* group, int rank,
                   Placing placing) {
  const auto table = std::make_shared<const WeightTable>(space);
  check_weights(file, group, *table, Held::trained);
  const bool whole = table->trained_elements() == table->elements(), as_it_is = whole && !space.model().decoder.present();
  const bool maps = as_it_is && placing == Placing::mapped;
  if (std::optional<Weights> mapped = maps ? map_weights(file, group, *table) : std::nullopt) {
    check_hash(file, path, *mapped, group);
    return std::move(*mapped);
  }
  std::optional<Weights> base;
  if (!whole) base.emplace(base_weights(space, base_path(path)));
  Weights weights(table, DType::float32);
  if (base) copy_by_name(weights, *base);
  weights = checked_weights(file, path, std::move(weights), group);
  return as_it_is ? std::move(weights) : merged(weights, rank);
}

}  // namespace

std::string hash_at_rank(const std::string& hash, int rank) {
  return rank == 0 || hash.empty() ? hash : sha256_hex(hash + " at rank " + std::to_string(rank));
}

LoadedSupernet load_supernet(const std::string& path, Which which, std::optional<std::int64_t> asked, Placing placing) {
  const Hdf5Reader file(path, kKind);
  if (which == Which::average && !file.has(kAverage))
    throw InputError({path, "a running average of the weights", "none", "train with train.ema, or use the trained weights"});
  const char* const group = which == Which::average ? kAverage : kWeights;
  const SearchSpace space = SearchSpace::parse(file.text_attribute("/", "space"), path);
  const int rank = checked_rank(path, space.model().tuning, asked);
  return {.space = merged_space(space),
          .weights = network_of(file, path, space, group, rank, placing),
          .recipe_toml = file.text_attribute("/", "recipe"),
          .data_sha256 = file.text_attribute("/", "data_sha256"),
          .weights_hash = hash_at_rank(file.text_attribute("/", hash_name(group)), rank),
          .steps = count_attribute(file, path, "step", INT64_MAX),
          .identity = identity_of(file),
          .average_hash = hash_at_rank(file.has(kAverage) ? file.text_attribute("/", hash_name(kAverage)) : "", rank)};
}

}  // namespace elastiform
