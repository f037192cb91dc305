#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/random.hpp"
#include "kernels/reference/reference_backend.hpp"

namespace elastiform {
namespace {

/// The range and the codes of one group, in a compressed row of `groups` groups.
struct Group {
  std::int64_t first, columns;  // of the row's elements
  std::int64_t range, codes;    // bytes of the compressed row

  Group(std::int64_t index, std::int64_t row_columns, int bits)
      : first(index * kCompressedGroup), columns(std::min(kCompressedGroup, row_columns - first)), range(4 * index),
        codes(4 * compressed_groups(row_columns) + first * bits / 8) {}
};

struct Range {
  double low, step, scale;  // of a step, and steps a unit
  Range(std::uint16_t low_bits, std::uint16_t high_bits, int bits) {
    const auto value = [](std::uint16_t half) { return static_cast<double>(std::bit_cast<float>(std::uint32_t{half} << 16)); };
    const double levels = (1 << bits) - 1, width = value(high_bits) - value(low_bits);
    low = value(low_bits);
    step = width < double{kLeastRange} ? 0 : width / levels;
    scale = width < double{kLeastRange} ? 0 : levels / width;
  }
};

/// float32 that is not above, and not below.
float float_below(double x) {
  const auto nearest = static_cast<float>(x);
  return static_cast<double>(nearest) > x ? std::nextafter(nearest, -std::numeric_limits<float>::infinity()) : nearest;
}
float float_above(double x) { return -float_below(-x); }

void compress_group(const double* x, std::uint8_t* row, const Group& group, int bits, const NoiseName& noise, std::int64_t row_number) {
  double least = x[group.first], largest = least;
  bool finite = true;
  for (std::int64_t c = group.first; c < group.first + group.columns; ++c) {
    least = std::min(least, x[c]), largest = std::max(largest, x[c]);
    finite = finite && std::isfinite(x[c]);
  }
  constexpr std::uint16_t kNan = 0x7fff;
  const std::uint16_t ends[2] = {finite ? bfloat16_below(float_below(least)) : kNan, finite ? bfloat16_above(float_above(largest)) : kNan};
  std::memcpy(row + group.range, ends, sizeof ends);
  const Range range(ends[0], ends[1], bits);
  const double levels = (1 << bits) - 1;
  std::memset(row + group.codes, 0, static_cast<std::size_t>((group.columns * bits + 7) / 8));
  for (std::int64_t i = 0; finite && i < group.columns; ++i) {
    const auto lane = static_cast<std::uint32_t>(group.first / 8 + i % 32);
    const auto words = philox4x32({lane, static_cast<std::uint32_t>(row_number), noise.name[0], noise.name[1]},
                                  {static_cast<std::uint32_t>(noise.seed), static_cast<std::uint32_t>(noise.seed >> 32)});
    const std::uint32_t half = words[static_cast<std::size_t>(i / 64)] >> (i / 32 % 2 * 16) & 0xffffU;
    const double u = (static_cast<double>(half) + 0.5) / 65536;
    const double code = std::min(levels, std::floor((x[group.first + i] - range.low) * range.scale + u));
    row[group.codes + i * bits / 8] |= static_cast<std::uint8_t>(static_cast<unsigned>(code) << (i * bits % 8));
  }
}

}  // namespace

void ReferenceBackend::do_compress(const Compress& op) {
  for (std::int64_t n = 0; n < op.x.rows; ++n)
    for (std::int64_t g = 0; g < compressed_groups(op.x.columns); ++g)
      compress_group(op.x.row<double>(n), op.codes.row<std::uint8_t>(n), Group(g, op.x.columns, op.bits), op.bits, op.noise,
                     op.first_row + n);
}

void ReferenceBackend::do_decompress(const Decompress& op) {
  for (std::int64_t n = 0; n < op.x.rows; ++n) {
    const std::uint8_t* row = op.codes.row<std::uint8_t>(n);
    for (std::int64_t g = 0; g < compressed_groups(op.x.columns); ++g) {
      const Group group(g, op.x.columns, op.bits);
      std::uint16_t ends[2];
      std::memcpy(ends, row + group.range, sizeof ends);
      const Range range(ends[0], ends[1], op.bits);
      for (std::int64_t i = 0; i < group.columns; ++i) {
        const int code = row[group.codes + i * op.bits / 8] >> (i * op.bits % 8) & ((1 << op.bits) - 1);
        op.x.row<double>(n)[group.first + i] = range.low + code * range.step;
      }
    }
  }
}

}  // namespace elastiform
