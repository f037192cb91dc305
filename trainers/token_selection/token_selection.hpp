#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/view.hpp"
#include "supernet/data/batch.hpp"
#include "supernet/search_space.hpp"
#include "trainers/options.hpp"

namespace elastiform {

/// Which tokens the blocks between a subnet's first and last one process in a training step (KeptTokens). Evaluation knows nothing of it.
class TokenSelection {
 public:
  virtual ~TokenSelection() = default;
  /// Tokens of each sequence that step t keeps, fewer than the context; 0: all.
  virtual std::int64_t kept(std::int64_t step) const = 0;
  /// The most that any step keeps; 0: every step keeps all.
  virtual std::int64_t most_kept() const = 0;
  /// Whether some step keeps all.
  virtual bool keeps_all_at_times() const = 0;
  /// Names batch.kept.count tokens of each sequence for every block of the supernet. The batch's sequences are number first_sequence and
  /// following of the step's.
  virtual void select(std::int64_t step, std::int64_t first_sequence, Batch& batch) = 0;

  /// Numbers that a micro-batch teaches it; 0: it does not learn.
  virtual std::int64_t learned() const { return 0; }
  /// losses [1, N], in the host's memory: of every token from its label; `numbers`, as many as learned(), receive what they teach.
  virtual void observe(const Batch& /*batch*/, ConstView /*losses*/, std::span<double> /*numbers*/) const {}
  /// From the numbers of all micro-batches of a step, in their order.
  virtual void learn(std::span<const double> /*numbers*/) {}
  /// What it has learned, by name, for checkpoints.
  virtual std::map<std::string, std::vector<double>*> state() { return {}; }
};

struct TokenSelectionEntry {
  std::string_view name, help;
  std::unique_ptr<TokenSelection> (*make)(const TrainOptions& options, const SearchSpace& space);
};
/// all, random_ltd, importance.
std::span<const TokenSelectionEntry> token_selections();
/// Throws InputError for a name that is none, or a context too short for what it should keep.
std::unique_ptr<TokenSelection> make_token_selection(const TrainOptions& options, const SearchSpace& space);

/// What memory is planned for, in the terms of kept(): the most that a step keeps, and 0 if some step keeps all, which needs no lookups of rows
/// and so may need less. Steps that keep fewer need less than the most.
std::vector<std::int64_t> planned_kept(const TokenSelection& selection);

/// options.tokens_kept of a context in whole options.tokens_step, at least one of these and fewer than all.
std::int64_t tokens_kept_at_first(const TrainOptions& options, int context);

}  // namespace elastiform
