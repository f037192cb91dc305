#include "trainers/options.hpp"

#include <cmath>

#include "kernels/errors.hpp"

namespace elastiform {

void resolve_stages(std::vector<Stage>& stages, std::int64_t steps) {
  double total = 0;
  for (const Stage& stage : stages) total += stage.share;
  if (stages.empty()) throw InputError({"recipe: stage", "at least one stage", "none", ""});
  if (std::abs(total - 1) > 1e-9)
    throw InputError({"recipe: stage", "shares that add up to 1", std::to_string(total), "change stage.share"});
  // Boundaries are rounded, not lengths, so no error piles up and the last stage ends with the run.
  double before = 0;
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < stages.size(); ++i) {
    before += stages[i].share;
    const std::int64_t end = i + 1 == stages.size() ? steps : std::llround(before * static_cast<double>(steps));
    stages[i].steps = end - begin;
    begin = end;
  }
}

}  // namespace elastiform
