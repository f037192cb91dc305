#include "search/sum_table.hpp"

#include <algorithm>
#include <boost/multiprecision/cpp_int.hpp>
#include <numeric>
#include <string>

#include "kernels/errors.hpp"

namespace elastiform {

Gene::Gene(std::vector<std::vector<int>> choices) : values_(std::move(choices)) {
  std::int64_t divisor = 0;
  for (const auto& block : values_) {
    least_ += block.front();
    for (const int value : block) divisor = std::gcd(divisor, static_cast<std::int64_t>(value) - block.front());
  }
  unit_ = std::max<std::int64_t>(divisor, 1);
}

GeneSum Gene::of(std::size_t block, std::size_t choice) const {
  const int value = values_[block][choice];
  return {(value - values_[block].front()) / unit_, value == 0 ? 1 : 0};
}

std::optional<std::size_t> Gene::find(std::size_t block, int value) const {
  const auto& list = values_[block];
  const auto at = std::lower_bound(list.begin(), list.end(), value);
  if (at == list.end() || *at != value) return std::nullopt;
  return static_cast<std::size_t>(at - list.begin());
}

SumTable::SumTable(const Gene& gene, Form form, std::int64_t max_bytes) {
  const std::size_t depth = gene.depth();
  boost::multiprecision::cpp_int product = 1;
  for (std::size_t i = 0; i < depth; ++i) product *= gene.values(i).size();
  limbs_ = msb(product) / 64 + 1;

  levels_.resize(depth + 1);
  double bytes = 0;
  for (std::size_t i = depth; i-- > 0;) {
    levels_[i].span = levels_[i + 1].span + gene.of(i, gene.values(i).size() - 1).offset;
    levels_[i].zeros = levels_[i + 1].zeros + gene.of(i, 0).zeros;
    bytes += 8.0 * static_cast<double>(limbs_) * static_cast<double>(levels_[i].span + 2) * static_cast<double>(levels_[i].zeros + 1);
  }
  if (bytes > static_cast<double>(max_bytes))
    throw InputError({.where = "space",
                      .expected = "tables of counts of at most " + std::to_string(max_bytes >> 20) + " MiB per embed width and depth",
                      .found = std::to_string(static_cast<std::int64_t>(bytes / (1 << 20))) + " MiB at depth " + std::to_string(depth),
                      .remedy = "use fewer blocks, or head counts and FFN widths with a greater common step"});

  Level ways;
  ways.words.assign(limbs_, 0);
  ways.words[0] = 1;
  for (std::size_t i = depth;; --i) {
    levels_[i] = form == Form::summed ? sum_rows(ways) : ways;
    if (i == 0) break;
    Level next{.span = levels_[i - 1].span, .zeros = levels_[i - 1].zeros, .row = levels_[i - 1].span + 1, .words = {}};
    next.words.assign(static_cast<std::size_t>(next.row * (next.zeros + 1)) * limbs_, 0);
    for (std::size_t c = 0; c < gene.values(i - 1).size(); ++c) {
      const GeneSum step = gene.of(i - 1, c);
      for (std::int64_t zeros = 0; zeros <= ways.zeros; ++zeros)
        for (std::int64_t x = 0; x <= ways.span; ++x) add(entry(next, zeros + step.zeros, x + step.offset), entry(ways, zeros, x));
    }
    ways = std::move(next);
  }
}

SumTable::Level SumTable::sum_rows(Level& ways) const {
  Level sums{.span = ways.span, .zeros = ways.zeros, .row = ways.row + 1, .words = {}};
  sums.words.assign(static_cast<std::size_t>(sums.row * (sums.zeros + 1)) * limbs_, 0);
  for (std::int64_t zeros = 0; zeros <= ways.zeros; ++zeros)
    for (std::int64_t x = 0; x <= ways.span; ++x) {
      const Limbs sum = entry(sums, zeros, x + 1);
      std::ranges::copy(entry(sums, zeros, x), sum.begin());
      add(sum, entry(ways, zeros, x));
    }
  return sums;
}

}  // namespace elastiform
