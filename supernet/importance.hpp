#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "supernet/activation_statistics.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// What a slice keeps is what stands first, so weights that were trained without slices are put in order of importance: KV groups with their
/// query heads, FFN columns, and embed channels. Importance is magnitude (arXiv 1506.02626): the sum of |w| over everything that a group, a
/// neuron or a channel touches, times the norm's gain where one stands before the matrix. Of embed channels each tensor counts by its shares,
/// or the rows of the vocabulary would outvote the rest. A whole network computes the same in any order, but for the rounding of sums.
void sort_by_importance(Weights& weights);

// What it sorts by, one number each: of embed channels, of a block's KV groups and of its FFN columns.
std::vector<double> embed_importance(const Weights& weights);
std::vector<double> group_importance(const Weights& weights, int block);
std::vector<double> ffn_importance(const Weights& weights, int block);

/// The same by what is lost without them on real text: of a product's input j the mean square of the activation times the squared norm of row j of
/// the matrix (as Wanda, arXiv 2306.11695, has it of single weights, and Minitron, 2407.14679, of activations alone), which is the mean
/// square that it adds to the output. Of a group the sum over its rows of `out`, of a neuron its row of `down`. An embed channel is read by the
/// products behind norms and by the head, and written by `out` and `down`: its share of the root of that in each counts, and its
/// share of the embedding.
void sort_by_importance(Weights& weights, const ActivationStatistics& statistics);
std::vector<double> embed_importance(const Weights& weights, const ActivationStatistics& statistics);
std::vector<double> group_importance(const Weights& weights, const ActivationStatistics& statistics, int block);
std::vector<double> ffn_importance(const Weights& weights, const ActivationStatistics& statistics, int block);

struct ImportanceEntry {
  std::string_view name, help;
  bool observes;                                                // it needs the statistics, else they may be empty
  void (*sort)(Weights& weights, const ActivationStatistics&);  // puts weights in order
};
/// magnitude, activations.
std::span<const ImportanceEntry> importances();
const ImportanceEntry& find_importance(std::string_view name, const char* where);  // throws InputError

}  // namespace elastiform
