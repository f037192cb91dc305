#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "search/limbs.hpp"

namespace elastiform {

/// What some choices of one gene add up to: values as multiples of the gene's unit above the least values, and how many of them are 0.
/// An absent branch (gene 0) costs less than a line through the other values says, by a constant: so zeros are counted apart.
struct GeneSum {
  std::int64_t offset = 0, zeros = 0;
  GeneSum operator+(const GeneSum& other) const { return {offset + other.offset, zeros + other.zeros}; }
};

/// One gene (heads or FFN width) of all blocks at one embed width and depth.
class Gene {
 public:
  explicit Gene(std::vector<std::vector<int>> choices);  // per block, ascending
  std::size_t depth() const { return values_.size(); }
  const std::vector<int>& values(std::size_t block) const { return values_[block]; }
  GeneSum of(std::size_t block, std::size_t choice) const;
  /// Place of a value among the block's choices.
  std::optional<std::size_t> find(std::size_t block, int value) const;
  std::int64_t unit() const { return unit_; }
  std::int64_t least() const { return least_; }  // sum of the blocks' least values

 private:
  std::vector<std::vector<int>> values_;
  std::int64_t unit_ = 1, least_ = 0;
};

/// ways(level, zeros, x): in how many ways the choices of blocks level … depth-1 add up to offset x with that many zeros. Stored as they
/// are, or summed over all y < x, so that a range of offsets is a difference of two entries.
class SumTable {
 public:
  enum class Form : std::uint8_t { ways, summed };
  /// Throws InputError when the table would exceed max_bytes.
  SumTable(const Gene& gene, Form form, std::int64_t max_bytes);

  std::size_t limbs() const { return limbs_; }
  std::int64_t span(std::size_t level) const { return levels_[level].span; }    // greatest offset
  std::int64_t zeros(std::size_t level) const { return levels_[level].zeros; }  // greatest number of zeros
  /// x ≤ span, or ≤ span + 1 when summed.
  ConstLimbs at(std::size_t level, std::int64_t zeros, std::int64_t x) const {
    const Level& of = levels_[level];
    return {of.words.data() + static_cast<std::size_t>(zeros * of.row + x) * limbs_, limbs_};
  }

 private:
  struct Level {
    std::int64_t span = 0, zeros = 0, row = 1;  // row: entries for one number of zeros
    std::vector<std::uint64_t> words;
  };
  Limbs entry(Level& level, std::int64_t zeros, std::int64_t x) const {
    return {level.words.data() + static_cast<std::size_t>(zeros * level.row + x) * limbs_, limbs_};
  }
  Level sum_rows(Level& ways) const;

  std::size_t limbs_ = 1;
  std::vector<Level> levels_;
};

}  // namespace elastiform
