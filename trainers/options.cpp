#include "trainers/options.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/errors.hpp"

namespace elastiform {

bool names_key(std::string_view keys, std::string_view key) {
  for (std::string_view left = keys; !left.empty();) {
    const std::size_t end = std::min(left.find(' '), left.size());
    if (left.substr(0, end) == key) return true;
    left.remove_prefix(std::min(end + 1, left.size()));
  }
  return false;
}

void check_noise_scale(const TrainOptions& options, const std::string& where) {
  if (options.noise_scale && options.accumulation < 2)
    throw InputError({where, "train.accumulation of 2 or more, as it compares two sizes of batches", std::to_string(options.accumulation),
                      "halve train.sequences and double train.accumulation"});
}

ActivationChoices activation_choices(const TrainOptions& options, bool offloads) {
  if (options.activations == "exact") return {.offloads = offloads};
  if (offloads)
    throw InputError(
        {"--offload", "train.activations = \"exact\": plans that compress are the recipe's alone", '"' + options.activations + '"', ""});
  // Whoever asks for compression gets it; only under a number of bytes it competes with computing products again.
  const bool repeats = options.activation_bytes > 0;
  for (const int bits : {8, 4, 2})
    if (options.activations == std::to_string(bits) + "bit") return {.bits = bits, .repeats_products = repeats};
  if (options.activations == "auto") return {.bits = 2, .allocates = true, .repeats_products = repeats};
  throw InputError({"recipe: train.activations", "one of exact, 8bit, 4bit, 2bit, auto", '"' + options.activations + '"', ""});
}

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
