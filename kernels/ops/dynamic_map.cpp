#include "kernels/ops/dynamic_map.hpp"

#include <cmath>

namespace elastiform {
namespace {

double power_of_ten(int decade) { return std::pow(10.0, decade - (kDecades - 1)); }

/// Numbers above zero of a map whose first decade has `first` cells, ascending; the last is 1.
template <int kCount>
std::array<double, kCount> positive_numbers(int first) {
  std::array<double, kCount> numbers{};
  std::size_t at = 0;
  for (int decade = 0, cells = first; decade < kDecades; ++decade, cells *= 2)
    for (int cell = 0; cell < cells; ++cell) numbers[at++] = power_of_ten(decade) * (0.1 + 0.9 * (cell + 0.5) / cells);
  numbers[at] = 1;
  return numbers;
}

std::array<double, kCodes> make_signed() {
  const auto positive = positive_numbers<kZeroCode + 1>(1);
  std::array<double, kCodes> map{};
  for (std::size_t i = 0; i < positive.size(); ++i) map[kZeroCode + 1 + i] = positive[i];
  for (std::size_t i = 0; i < kZeroCode; ++i) map[kZeroCode - 1 - i] = -positive[i];
  return map;
}

std::array<double, kCodes> make_unsigned() {
  const auto positive = positive_numbers<kCodes - 1>(2);
  std::array<double, kCodes> map{};
  std::copy(positive.begin(), positive.end(), map.begin() + 1);
  return map;
}

DynamicSearch make_search(const std::array<double, kCodes>& map, int zero, int first) {
  DynamicSearch search;
  const int shift = first - 1;
  const auto number = [&](int ordinal) { return map[static_cast<std::size_t>(zero + ordinal)]; };
  search.first_cells = static_cast<float>(first), search.shift = static_cast<float>(shift);
  for (int decade = 0, cells = first; decade <= kDecades; ++decade, cells *= 2) {
    search.bounds[decade] = static_cast<float>((number(cells - shift - 1) + number(cells - shift)) / 2);
    // 1 has no cells beside it: scale and offset of 0 give its cell, 0.
    search.scale[decade] = decade < kDecades ? static_cast<float>(cells / (0.9 * power_of_ten(decade))) : 0.0f;
    search.offset[decade] = decade < kDecades ? static_cast<float>(cells / 9.0) : 0.0f;
    // Cell c, f = 1 + c / cells: 0.1 + 0.9 (c + 0.5) / cells of the decade.
    search.slope[decade] = decade < kDecades ? static_cast<float>(0.9 * power_of_ten(decade)) : 0.0f;
    search.base[decade] = decade < kDecades ? static_cast<float>((0.45 / cells - 0.8) * power_of_ten(decade)) : 1.0f;
  }
  return search;
}

}  // namespace

const std::array<double, kCodes>& signed_map() {
  static const std::array<double, kCodes> map = make_signed();
  return map;
}

const std::array<double, kCodes>& unsigned_map() {
  static const std::array<double, kCodes> map = make_unsigned();
  return map;
}

int nearest_code(const std::array<double, kCodes>& map, double x) {
  const auto above = std::lower_bound(map.begin(), map.end(), x);
  if (above == map.begin()) return 0;
  if (above == map.end()) return kCodes - 1;
  const bool lower = x - *(above - 1) <= *above - x;
  return static_cast<int>(above - map.begin()) - (lower ? 1 : 0);
}

const DynamicSearch& signed_search() {
  static const DynamicSearch search = make_search(signed_map(), kZeroCode, 1);
  return search;
}

const DynamicSearch& unsigned_search() {
  static const DynamicSearch search = make_search(unsigned_map(), 0, 2);
  return search;
}

}  // namespace elastiform
