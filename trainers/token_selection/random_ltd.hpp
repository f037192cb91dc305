#pragma once

#include "trainers/token_selection/token_selection.hpp"

namespace elastiform {

/// Random layerwise token dropping (arXiv 2211.11586): every middle block draws its own random tokens of each sequence, order preserved. Their
/// number grows linearly from tokens_kept of the context to all of it over the first tokens_full of the steps.
class RandomLtd final : public TokenSelection {
 public:
  RandomLtd(const TrainOptions& options, const SearchSpace& space);
  std::int64_t kept(std::int64_t step) const override;
  std::int64_t most_kept() const override { return most_; }
  bool keeps_all_at_times() const override { return kept(steps_ - 1) == 0; }  // the length never falls
  void select(std::int64_t step, std::int64_t first_sequence, Batch& batch) override;

 private:
  std::uint64_t seed_;
  int blocks_;
  std::int64_t first_, context_, steps_, grows_, step_, most_;
};

/// Linear from first to last over `total` steps, rounded down to a multiple of `step`.
std::int64_t random_ltd_kept(std::int64_t first, std::int64_t last, std::int64_t total, std::int64_t step, std::int64_t t);

}  // namespace elastiform
