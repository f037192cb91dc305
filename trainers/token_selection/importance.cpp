#include "trainers/token_selection/importance.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/ops/loss.hpp"

namespace elastiform {
namespace {

constexpr double kMemory = 0.9;  // of the running mean, a step in which the id was a label

}  // namespace

ImportantTokens::ImportantTokens(const TrainOptions& options, const SearchSpace& space)
    : blocks_(space.max_depth()), kept_(tokens_kept_at_first(options, space.model().context)),
      losses_(static_cast<std::size_t>(space.model().vocabulary), std::log(space.model().vocabulary)) {}  // what knowing nothing costs

void ImportantTokens::select(std::int64_t, std::int64_t, Batch& batch) {
  KeptTokens& kept = batch.kept;
  const auto of_block = static_cast<std::size_t>(batch.sequences * kept.count);
  kept.rows.resize(static_cast<std::size_t>(blocks_) * of_block);
  kept.positions.resize(kept.rows.size());
  order_.resize(static_cast<std::size_t>(batch.tokens));
  const auto count = static_cast<std::ptrdiff_t>(kept.count);
  std::size_t at = 0;
  for (std::int64_t b = 0; b < batch.sequences; ++b) {
    const std::int32_t* ids = batch.inputs.data() + b * batch.tokens;
    const auto more = [&](std::int32_t s, std::int32_t t) {  // of equally important tokens the earlier
      const double a = losses_[static_cast<std::size_t>(ids[s])], c = losses_[static_cast<std::size_t>(ids[t])];
      return a != c ? a > c : s < t;
    };
    std::iota(order_.begin(), order_.end(), 0);
    std::nth_element(order_.begin(), order_.begin() + count, order_.end(), more);
    std::sort(order_.begin(), order_.begin() + count);
    for (std::ptrdiff_t i = 0; i < count; ++i, ++at) {
      kept.positions[at] = order_[static_cast<std::size_t>(i)];
      kept.rows[at] = static_cast<std::int32_t>(b * batch.tokens) + kept.positions[at];
    }
  }
  for (std::size_t block = 1; block < static_cast<std::size_t>(blocks_); ++block) {
    std::copy_n(kept.rows.begin(), of_block, kept.rows.begin() + static_cast<std::ptrdiff_t>(block * of_block));
    std::copy_n(kept.positions.begin(), of_block, kept.positions.begin() + static_cast<std::ptrdiff_t>(block * of_block));
  }
}

void ImportantTokens::observe(const Batch& batch, ConstView losses, std::span<double> numbers) const {
  std::fill(numbers.begin(), numbers.end(), 0.0);
  dispatch(losses.dtype, [&]<class T>() {
    for (std::size_t n = 0; n < batch.targets.size(); ++n) {
      if (batch.targets[n] == kIgnoredTarget) continue;
      const auto id = static_cast<std::size_t>(batch.targets[n]);
      numbers[2 * id] += static_cast<double>(losses.row<T>(0)[n]);
      numbers[2 * id + 1] += 1;
    }
  });
}

void ImportantTokens::learn(std::span<const double> numbers) {
  const std::size_t part = 2 * losses_.size();
  for (std::size_t id = 0; id < losses_.size(); ++id) {
    double sum = 0, count = 0;
    for (std::size_t at = 2 * id; at < numbers.size(); at += part) sum += numbers[at], count += numbers[at + 1];
    if (count > 0) losses_[id] = kMemory * losses_[id] + (1 - kMemory) * sum / count;
  }
}

}  // namespace elastiform
