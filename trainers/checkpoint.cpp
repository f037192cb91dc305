#include "trainers/checkpoint.hpp"

#include <utility>

#include "kernels/cpu/identity.hpp"
#include "kernels/errors.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "trainers/trainer_state.hpp"
#include "version.hpp"

namespace elastiform {
namespace {

constexpr const char* kKind = "supernet";

void write_weights(Hdf5Writer& file, const std::string& group, const Weights& weights) {
  for (const TensorSpec& tensor : weights.table().tensors()) file.matrix(group + "/" + tensor.name, weights.view(tensor));
}

void read_weights(const Hdf5Reader& file, const std::string& group, Weights& weights) {
  for (const TensorSpec& tensor : weights.table().tensors()) file.matrix(group + "/" + tensor.name, weights.view(tensor));
}

}  // namespace

BuildIdentity this_build() {
  return {.commit = ELASTIFORM_COMMIT, .isa = isa_name(), .onednn = onednn_version(), .precision = "f32"};
}

void save_checkpoint(const Trainer& trainer, const std::string& recipe_toml, const std::string& data_sha256, const std::string& path) {
  const Trainer::State& state = trainer.state();
  Hdf5Writer file(path, kKind);
  const SearchSpace& space = state.weights.table().space();
  const BuildIdentity build = this_build();
  file.attribute("/", "version", std::string_view(ELASTIFORM_VERSION));
  file.attribute("/", "commit", std::string_view(build.commit));
  file.attribute("/", "isa", std::string_view(build.isa));
  file.attribute("/", "onednn", std::string_view(build.onednn));
  file.attribute("/", "precision", std::string_view(build.precision));
  file.attribute("/", "space", std::string_view(space.text()));
  file.attribute("/", "space_hash", std::string_view(space.hash()));
  file.attribute("/", "recipe", std::string_view(recipe_toml));
  file.attribute("/", "data_sha256", std::string_view(data_sha256));
  file.attribute("/", "weights_hash", std::string_view(weights_hash(state.weights)));
  file.attribute("/", "step", state.next_step);
  file.attribute("/", "updates", state.updates);
  file.attribute("/", "skipped", state.skipped);
  // Random numbers are pure functions of (seed, purpose, step), and so is the place in the data: these two are all their state.
  file.attribute("/", "seed", static_cast<std::int64_t>(trainer.options().seed));
  file.attribute("/", "data_position", state.next_step);
  write_weights(file, "/weights", state.weights);
  for (const auto& [name, moment] : state.optimizer->moments()) write_weights(file, "/optimizer/" + name, *moment);
  for (const auto& [name, numbers] : state.optimizer->band_numbers()) file.dataset("/bands/" + name, std::span<const double>(*numbers));
  file.close();
}

BuildIdentity load_checkpoint(Trainer& trainer, const std::string& path) {
  const Hdf5Reader file(path, kKind);
  Trainer::State& state = trainer.state();
  const std::string space_hash = state.weights.table().space().hash();
  if (file.text_attribute("/", "space_hash") != space_hash)
    throw InputError({path, "the search space of the recipe (" + space_hash.substr(0, 8) + ")",
                      "another space (" + file.text_attribute("/", "space_hash").substr(0, 8) + ")", "resume with the run's own recipe"});
  read_weights(file, "/weights", state.weights);
  for (const auto& [name, moment] : state.optimizer->moments()) read_weights(file, "/optimizer/" + name, *moment);
  for (const auto& [name, numbers] : state.optimizer->band_numbers()) {
    std::vector<double> values = file.doubles("/bands/" + name);
    if (values.size() != numbers->size())
      throw InputError({path + ": /bands/" + name, std::to_string(numbers->size()) + " bands", std::to_string(values.size()), ""});
    *numbers = std::move(values);
  }
  if (weights_hash(state.weights) != file.text_attribute("/", "weights_hash"))
    throw InputError({path, "weights with the stored hash", "other weights", "use an earlier checkpoint"});
  state.next_step = file.integer_attribute("/", "step");
  state.updates = file.integer_attribute("/", "updates");
  state.skipped = file.integer_attribute("/", "skipped");
  return {.commit = file.text_attribute("/", "commit"), .isa = file.text_attribute("/", "isa"),
          .onednn = file.text_attribute("/", "onednn"), .precision = file.text_attribute("/", "precision")};
}

LoadedSupernet load_supernet(const std::string& path) {
  const Hdf5Reader file(path, kKind);
  SearchSpace space = SearchSpace::parse(file.text_attribute("/", "space"), path);
  Weights weights(std::make_shared<const WeightTable>(space), DType::float32);
  read_weights(file, "/weights", weights);
  LoadedSupernet loaded{.space = std::move(space), .weights = std::move(weights), .recipe_toml = file.text_attribute("/", "recipe"),
                        .data_sha256 = file.text_attribute("/", "data_sha256"), .weights_hash = file.text_attribute("/", "weights_hash"),
                        .steps = file.integer_attribute("/", "step"),
                        .identity = {.commit = file.text_attribute("/", "commit"), .isa = file.text_attribute("/", "isa"),
                                     .onednn = file.text_attribute("/", "onednn"), .precision = file.text_attribute("/", "precision")}};
  if (weights_hash(loaded.weights) != loaded.weights_hash)
    throw InputError({path, "weights with the stored hash", "other weights", "use an earlier checkpoint"});
  return loaded;
}

}  // namespace elastiform
