#include <cmath>
#include <limits>

#include "kernels/random.hpp"
#include "kernels/reference/reference_backend.hpp"

namespace elastiform {
namespace {

/// The nearest multiple of the distance between neighbours at x.
double nearest(double x, const FormatLimits& limits, bool saturates) {
  if (std::isnan(x)) return x;
  const double magnitude = std::abs(x);
  const int exponent = magnitude < std::ldexp(1, limits.least_exponent) ? limits.least_exponent : std::ilogb(magnitude);
  double rounded = magnitude;
  if (std::isfinite(magnitude)) {
    const int last_bit = exponent - limits.significant_bits + 1;
    rounded = std::ldexp(std::nearbyint(std::ldexp(magnitude, -last_bit)), last_bit);
  }
  if (rounded > static_cast<double>(limits.largest))
    rounded = saturates             ? static_cast<double>(limits.largest)
              : limits.has_infinity ? std::numeric_limits<double>::infinity()
                                    : std::numeric_limits<double>::quiet_NaN();
  return std::copysign(rounded, x);
}

std::uint32_t noise_at(const Round& op, std::int64_t row, std::int64_t column) {
  const auto in = static_cast<std::uint32_t>(column % kCompressedGroup);
  const auto lane = static_cast<std::uint32_t>(column / kCompressedGroup * 32 + in % 32);
  const auto words = philox4x32({lane, static_cast<std::uint32_t>(row), op.noise.name[0], op.noise.name[1]},
                                {static_cast<std::uint32_t>(op.noise.seed), static_cast<std::uint32_t>(op.noise.seed >> 32)});
  return words[in / 64] >> (in / 32 % 2 * 16) & 0xffffU;
}

}  // namespace

void ReferenceBackend::do_round(const Round& op) {
  const FormatLimits limits = limits_of(op.format);
  for (std::int64_t n = 0; n < op.x.rows; ++n)
    for (std::int64_t c = 0; c < op.x.columns; ++c) {
      const double x = op.x.row<double>(n)[c] * op.scale;
      const double rounded =
          op.format == NumberFormat::bfloat16_stochastic
              ? static_cast<double>(rounded_at_random(static_cast<float>(x), noise_at(op, op.first_row + n, op.first_column + c)))
              : nearest(x, limits, op.saturates);
      op.y.row<double>(n)[c] = rounded / op.scale;
    }
}

}  // namespace elastiform
