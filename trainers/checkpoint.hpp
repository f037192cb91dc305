#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "trainers/trainer.hpp"

namespace elastiform {

/// What identifies the build and machine that wrote a file: bits are promised only where it is equal.
struct BuildIdentity {
  std::string commit, isa, compiler, precision;
  bool operator==(const BuildIdentity&) const = default;
};
BuildIdentity this_build(const Backend& backend);

/// supernet.h5 and checkpoints/: space, weights, band counters, optimizer moments, next step, seed, recipe, data hash, versions.
/// Durable; equal state gives equal bytes.
void save_checkpoint(const Trainer& trainer, const std::string& recipe_toml, const std::string& data_sha256, const std::string& path);

/// A checkpoint of step 0 that holds weights made elsewhere and no optimizer state: a run begins with them.
void save_first_weights(const Weights& weights, const std::string& recipe_toml, const std::string& data_sha256, std::uint64_t seed,
                        const BuildIdentity& build, const std::string& path);

/// Fills a freshly made trainer of the same space and options from a checkpoint. Returns the identity that wrote it.
BuildIdentity load_checkpoint(Trainer& trainer, const std::string& path);

/// The weights alone, for evaluation, search and export.
struct LoadedSupernet {
  SearchSpace space;
  Weights weights;
  std::string recipe_toml, data_sha256, weights_hash;
  std::int64_t steps = 0;  // trained so far
  BuildIdentity identity;
};
LoadedSupernet load_supernet(const std::string& path);

}  // namespace elastiform
