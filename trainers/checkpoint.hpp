#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "trainers/trainer.hpp"

namespace elastiform {

/// What identifies the build and machine that wrote a file: bits are promised only where it is equal.
struct BuildIdentity {
  std::string commit, isa, compiler, precision;
  bool operator==(const BuildIdentity&) const = default;
};
BuildIdentity this_build(const Backend& backend);

/// supernet.h5 and checkpoints/: space, weights (of a tuning those that learn), band counters, optimizer moments, next step, seed, recipe, data hash, versions.
/// Durable; equal state gives equal bytes.
void save_checkpoint(const Trainer& trainer, const std::string& recipe_toml, const std::string& data_sha256, const std::string& path);

/// A checkpoint of step 0 that holds weights made elsewhere and nothing else: a run begins with them. hash: weights_hash() of them.
void save_first_weights(const Weights& weights, const std::string& hash, const std::string& recipe_toml, const std::string& data_sha256,
                        std::uint64_t seed, const BuildIdentity& build, const std::string& path);

/// Fills a freshly made trainer of the same space and options from a checkpoint. A tuning's trainer holds its base already. Returns the
/// identity that wrote it.
BuildIdentity load_checkpoint(Trainer& trainer, const std::string& path);

/// What a tuning begins with, beside its checkpoints: weights of `base.weights`' space, written once. load_supernet reads it.
struct LoadedSupernet;
void save_base(const LoadedSupernet& base, const std::string& path);
/// base.h5 of the run that a checkpoint, supernet.h5 or checkpoints/step-N.h5, belongs to.
std::string base_path(const std::string& checkpoint);

/// Which weights of a checkpoint: those that training goes on with, or their running average (train.ema).
enum class Which : std::uint8_t { trained, average };

/// Whether weights are read into memory of huge pages, or stay in the file's, which processes share (map_weights): products of GPT-2's 124M
/// shape take a tenth more there.
enum class Placing : std::uint8_t { copied, mapped };

/// The weights alone, for evaluation, search and export. Those of a tuning are merged into its base, in the space of the base.
struct LoadedSupernet {
  SearchSpace space;
  Weights weights;
  std::string recipe_toml, data_sha256, weights_hash;
  std::int64_t steps = 0;  // trained so far
  BuildIdentity identity;
  std::string average_hash{};  // of the checkpoint's running average; empty: it has none
  bool is_average() const { return weights_hash == average_hash; }
};
/// rank: of a tuning with several (Tuning::ranks), merged with that one; its weights_hash is another. nullopt: the largest.
/// placing: mapped where that is possible.
LoadedSupernet load_supernet(const std::string& path, Which which = Which::trained, std::optional<std::int64_t> rank = std::nullopt,
                             Placing placing = Placing::copied);

}  // namespace elastiform
