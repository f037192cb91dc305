#include "trainers/optimizers/optimizer.hpp"

#include <array>

#include "kernels/errors.hpp"
#include "trainers/optimizers/adamw.hpp"

namespace elastiform {
namespace {

constexpr std::array<OptimizerEntry, 1> kOptimizers{{
    {"adamw", "AdamW with a step counter per band",
     [](const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend) -> std::unique_ptr<Optimizer> {
       return std::make_unique<AdamwOptimizer>(options, std::move(table), backend);
     },
     AdamwOptimizer::state_bytes},
}};

}  // namespace

std::span<const OptimizerEntry> optimizers() { return kOptimizers; }

const OptimizerEntry& find_optimizer(std::string_view name) {
  for (const OptimizerEntry& entry : kOptimizers)
    if (entry.name == name) return entry;
  throw InputError({"recipe: train.optimizer", "one of adamw", '"' + std::string(name) + '"', ""});
}

BandPolicy parse_band_policy(std::string_view text) {
  if (text == "dense") return BandPolicy::dense;
  if (text == "lazy-global") return BandPolicy::lazy_global;
  if (text == "lazy-local") return BandPolicy::lazy_local;
  if (text == "catch-up") return BandPolicy::catch_up;
  throw InputError({"recipe: train.policy", "one of dense, lazy-global, lazy-local, catch-up", '"' + std::string(text) + '"', ""});
}

}  // namespace elastiform
