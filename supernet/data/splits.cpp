#include "supernet/data/splits.hpp"

#include <algorithm>
#include <array>
#include <numeric>

#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "supernet/nearest_name.hpp"

namespace elastiform {
namespace {

constexpr std::array<std::string_view, kSplits> kSplitNames = {"train", "search", "report"};
using Parts = std::array<std::int64_t, kSplits>;

/// `count` things in the proportion of `shares` by the largest remainder, at least one for each; count ≥ 3.
Parts apportion(std::int64_t count, const std::vector<int>& shares) {
  const std::int64_t sum = std::accumulate(shares.begin(), shares.end(), std::int64_t{0});
  Parts parts{}, remainders{};
  std::int64_t left = count;
  for (std::size_t s = 0; s < kSplits; ++s) {
    parts[s] = count * shares[s] / sum;
    remainders[s] = count * shares[s] % sum;
    left -= parts[s];
  }
  for (; left > 0; --left) {
    const auto most = std::max_element(remainders.begin(), remainders.end());
    ++parts[static_cast<std::size_t>(most - remainders.begin())];
    *most = -1;
  }
  for (std::int64_t& part : parts)
    if (part == 0) {
      --*std::max_element(parts.begin(), parts.end());
      part = 1;
    }
  return parts;
}

}  // namespace

std::string_view name_of(Split split) { return kSplitNames[index_of(split)]; }

Split parse_split(std::string_view text) {
  const auto found = std::find(kSplitNames.begin(), kSplitNames.end(), text);
  if (found == kSplitNames.end()) throw unknown_name("split", text, {kSplitNames.begin(), kSplitNames.end()});
  return static_cast<Split>(found - kSplitNames.begin());
}

void check_splits(const std::vector<int>& shares) {
  const bool three = shares.size() == kSplits && std::all_of(shares.begin(), shares.end(), [](int s) { return s >= 1 && s <= 1'000'000; });
  if (three) return;
  throw InputError({.where = "data.splits",
                    .expected = "three whole numbers from 1 to 1000000 for train, search and report",
                    .found = "[" + list_of(shares) + "]",
                    .remedy = "e.g. [90, 5, 5]"});
}

std::vector<Split> deal(std::int64_t count, const std::vector<int>& shares) {
  const Parts parts = apportion(count, shares);
  std::vector<Split> owner;
  for (const Split split : {Split::train, Split::search, Split::report})
    owner.insert(owner.end(), static_cast<std::size_t>(parts[index_of(split)]), split);
  RandomStream random(0, Purpose::split);
  for (std::size_t i = owner.size(); i > 1; --i) std::swap(owner[i - 1], owner[random.below(i)]);
  return owner;
}

Batch DataSource::training_batch(std::uint64_t seed, std::uint64_t step, std::int64_t sequences, std::int64_t tokens) const {
  Batch batch;
  training_batch(seed, step, sequences, tokens, batch);
  return batch;
}

}  // namespace elastiform
