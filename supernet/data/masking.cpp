#include "supernet/data/masking.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "kernels/random.hpp"

namespace elastiform {
namespace {

/// The calling thread's lists, whose memory serves again.
struct Scratch {
  std::vector<std::pair<double, std::int32_t>> noise;
  std::vector<char> hidden;  // by patch
};

/// Marks `count` of an image's patches.
void draw(Scratch& scratch, RandomStream random, std::int64_t patches, int count) {
  scratch.noise.clear();
  for (std::int64_t p = 0; p < patches; ++p) scratch.noise.emplace_back(random.uniform(), static_cast<std::int32_t>(p));
  std::sort(scratch.noise.begin(), scratch.noise.end());
  scratch.hidden.assign(static_cast<std::size_t>(patches), 0);
  for (std::int64_t i = patches - count; i < patches; ++i)
    scratch.hidden[static_cast<std::size_t>(scratch.noise[static_cast<std::size_t>(i)].second)] = 1;
}

/// Mean 0 and variance 1, as an unbiased estimate; a patch of one colour becomes 0.
void normalize(std::span<float> patch) {
  constexpr double kEps = 1e-6;
  const double n = static_cast<double>(patch.size());
  double sum = 0, squares = 0;
  for (const float value : patch) sum += static_cast<double>(value);
  const double mean = sum / n;
  for (const float value : patch) squares += (static_cast<double>(value) - mean) * (static_cast<double>(value) - mean);
  const double deviation = std::sqrt(squares / (n - 1) + kEps);
  for (float& value : patch) value = static_cast<float>((static_cast<double>(value) - mean) / deviation);
}

}  // namespace

void mask_patches(Batch& batch, const ModelConfig& model, const Masking& masking, std::uint64_t seed, std::uint64_t step,
                  std::int64_t first) {
  const std::int64_t patches = model.image.patches(), learned = model.tokens_before_patches(), values = model.image.patch_values();
  if (batch.tokens != model.tokens_of_image() || masking.count < 1 || masking.count >= patches)
    throw std::logic_error("mask_patches: whole images, of which some patches are hidden");
  thread_local Scratch scratch;
  ImageInputs& images = batch.images;
  MaskedPatches& masked = images.masked;
  masked.count = masking.count;
  masked.values.clear(), masked.rows.clear(), masked.lookup.clear(), masked.positions.clear();
  batch.inputs.clear();
  const std::int64_t tokens = batch.tokens - masking.count;
  auto kept = images.patches.begin();
  std::int32_t visible = 0;  // of all images so far
  for (std::int64_t b = 0; b < batch.sequences; ++b) {
    draw(scratch, RandomStream(seed, Purpose::masked_patches, step, static_cast<std::uint32_t>(first + b)), patches, masking.count);
    const auto see = [&](std::int64_t position, std::int32_t input) {
      masked.lookup.push_back(static_cast<std::int32_t>(1 + batch.inputs.size()));
      batch.inputs.push_back(input);
      masked.positions.push_back(static_cast<std::int32_t>(position));
    };
    for (std::int64_t i = 0; i < learned; ++i) see(i, static_cast<std::int32_t>(i));
    for (std::int64_t p = 0; p < patches; ++p) {
      const auto patch = images.patches.begin() + (b * patches + p) * values;
      if (scratch.hidden[static_cast<std::size_t>(p)] == 0) {
        see(learned + p, static_cast<std::int32_t>(learned + visible++));
        kept = std::copy_n(patch, values, kept);  // never behind where it was
        continue;
      }
      masked.lookup.push_back(0);
      masked.rows.push_back(static_cast<std::int32_t>(b * batch.tokens + learned + p));
      masked.values.insert(masked.values.end(), patch, patch + values);
    }
  }
  images.patches.erase(kept, images.patches.end());
  batch.tokens = tokens;
  if (!masking.normalized) return;
  for (std::size_t at = 0; at < masked.values.size(); at += static_cast<std::size_t>(values))
    normalize(std::span(masked.values).subspan(at, static_cast<std::size_t>(values)));
}

}  // namespace elastiform
