#include "trainers/token_selection/random_ltd.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/random.hpp"

namespace elastiform {

std::int64_t random_ltd_kept(std::int64_t first, std::int64_t last, std::int64_t total, std::int64_t step, std::int64_t t) {
  if (t >= total) return last;
  const double length =
      static_cast<double>(first) + static_cast<double>(last - first) * static_cast<double>(t) / static_cast<double>(total);
  return static_cast<std::int64_t>(length) / step * step;
}

RandomLtd::RandomLtd(const TrainOptions& options, const SearchSpace& space)
    : seed_(options.seed), blocks_(space.max_depth()), first_(tokens_kept_at_first(options, space.model().context)),
      context_(space.model().context), steps_(options.steps),
      grows_(std::llround(options.tokens_full * static_cast<double>(options.steps))), step_(options.tokens_step), most_(0) {
  // The length never falls, and full steps are at the end.
  const auto some = [&](std::int64_t t) { return random_ltd_kept(first_, context_, grows_, step_, t); };
  std::int64_t last = grows_ - 1;
  while (last >= 0 && some(last) >= context_) --last;
  if (last >= 0) most_ = some(last);
}

std::int64_t RandomLtd::kept(std::int64_t step) const {
  const std::int64_t length = random_ltd_kept(first_, context_, grows_, step_, step);
  return length < context_ ? length : 0;
}

void RandomLtd::select(std::int64_t step, std::int64_t first_sequence, Batch& batch) {
  KeptTokens& kept = batch.kept;
  const auto of_block = static_cast<std::size_t>(batch.sequences * kept.count);
  kept.rows.resize(static_cast<std::size_t>(blocks_) * of_block);
  kept.positions.resize(kept.rows.size());
  for (std::int64_t b = 0; b < batch.sequences; ++b) {
    // A stream of its own for each sequence of the step, whichever rank has it.
    RandomStream random(seed_, Purpose::kept_tokens, static_cast<std::uint64_t>(step), static_cast<std::uint32_t>(first_sequence + b));
    for (int block = 0; block < blocks_; ++block) {
      // Each token with the probability (still wanted) / (still there): every subset is as likely, and in order (Fan et al., 1962).
      std::size_t at = static_cast<std::size_t>(block) * of_block + static_cast<std::size_t>(b * kept.count);
      std::int64_t wanted = kept.count;
      for (std::int64_t t = 0; wanted > 0; ++t) {
        if (random.uniform() * static_cast<double>(batch.tokens - t) >= static_cast<double>(wanted)) continue;
        kept.rows[at] = static_cast<std::int32_t>(b * batch.tokens + t);
        kept.positions[at++] = static_cast<std::int32_t>(t);
        --wanted;
      }
    }
  }
}

}  // namespace elastiform
