#pragma once

#include "trainers/token_selection/token_selection.hpp"

namespace elastiform {

/// Token dropping by importance (arXiv 2203.13240, there for masked tokens): a token counts as much as its vocabulary id has been hard to
/// predict, a running mean of the losses with that id as label. All middle blocks process the same tokens_kept of a context, the most
/// important ones. The losses are those of each step's first subnet.
class ImportantTokens final : public TokenSelection {
 public:
  ImportantTokens(const TrainOptions& options, const SearchSpace& space);
  std::int64_t kept(std::int64_t) const override { return kept_; }
  std::int64_t most_kept() const override { return kept_; }
  bool keeps_all_at_times() const override { return false; }
  void select(std::int64_t step, std::int64_t first_sequence, Batch& batch) override;

  std::int64_t learned() const override { return 2 * static_cast<std::int64_t>(losses_.size()); }  // sum and count of every id
  void observe(const Batch& batch, ConstView losses, std::span<double> numbers) const override;
  void learn(std::span<const double> numbers) override;
  std::map<std::string, std::vector<double>*> state() override { return {{"losses", &losses_}}; }

 private:
  int blocks_;
  std::int64_t kept_;
  std::vector<double> losses_;       // of every id, running
  std::vector<std::int32_t> order_;  // of one sequence's tokens
};

}  // namespace elastiform
