#include "supernet/data/batch.hpp"

#include <algorithm>

namespace elastiform {
namespace {

/// Of a list with equally many values for each sequence: those of some. What is copied never lies before its new place.
template <class T>
void keep_parts(std::vector<T>& list, std::int64_t sequences, std::span<const int> numbers) {
  const auto size = static_cast<std::ptrdiff_t>(list.size()) / static_cast<std::ptrdiff_t>(sequences);
  auto to = list.begin();
  for (const int number : numbers) to = std::copy_n(list.begin() + number * size, size, to);
  list.resize(static_cast<std::size_t>(to - list.begin()));
}

/// Block after block; rows of the batch are numbered anew.
void keep_tokens(KeptTokens& kept, std::int64_t sequences, std::int64_t tokens, std::span<const int> numbers) {
  if (kept.count == 0) return;
  const auto count = static_cast<std::size_t>(kept.count), before = static_cast<std::size_t>(sequences) * count;
  const std::size_t blocks = kept.rows.size() / before;
  std::size_t to = 0;
  for (std::size_t block = 0; block < blocks; ++block)
    for (std::size_t place = 0; place < numbers.size(); ++place) {
      const auto number = static_cast<std::size_t>(numbers[place]);
      const auto moved = static_cast<std::int32_t>((numbers[place] - static_cast<std::int64_t>(place)) * tokens);
      for (std::size_t i = 0; i < count; ++i, ++to) {
        const std::size_t from = block * before + number * count + i;
        kept.rows[to] = kept.rows[from] - moved;
        kept.positions[to] = kept.positions[from];
      }
    }
  kept.rows.resize(to);
  kept.positions.resize(to);
}

}  // namespace

void keep_sequences(Batch& batch, std::span<const int> numbers) {
  const std::int64_t all = batch.sequences;
  keep_tokens(batch.kept, all, batch.tokens, numbers);
  keep_parts(batch.targets, all, numbers);
  ImageInputs& images = batch.images;
  const bool has_images = !images.patches.empty();
  keep_parts(images.patches, all, numbers);
  keep_parts(images.mixed_with, all, numbers);
  keep_parts(images.mixed_share, all, numbers);
  batch.sequences = static_cast<std::int64_t>(numbers.size());
  if (!has_images) return keep_parts(batch.inputs, all, numbers);
  // What is said of the rows of fewer images is what was said of the first ones.
  images.head_rows.resize(images.head_rows.size() / static_cast<std::size_t>(all) * numbers.size());
  batch.inputs.resize(static_cast<std::size_t>(batch.rows()));
}

}  // namespace elastiform
