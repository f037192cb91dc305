#include <algorithm>
#include <limits>

#include "kernels/cpu/cpu_backend.hpp"

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rounding.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/noise-inl.hpp"
#include "kernels/cpu/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

using Words = hn::RebindToUnsigned<Float>;

/// Rounds by adding, and taking away again, a power of two whose last bit is the one that x keeps.
class Nearest {
 public:
  Nearest(const FormatLimits& limits, bool saturates)
      : least_(static_cast<std::uint32_t>(limits.least_exponent + 127) << 23),
        to_last_bit_(static_cast<std::uint32_t>(24 - limits.significant_bits) << 23), largest_(limits.largest),
        overflow_(saturates             ? limits.largest
                  : limits.has_infinity ? std::numeric_limits<float>::infinity()
                                        : std::numeric_limits<float>::quiet_NaN()) {}

  HWY_INLINE FloatVector of(FloatVector x) const {
    const Float d;
    const Words words;
    const auto magnitude = hn::Abs(x);
    const auto capped = hn::Min(magnitude, hn::Set(d, 4 * largest_));  // far beyond every number of the format
    const auto exponent = hn::And(hn::BitCast(words, capped), hn::Set(words, 0x7f800000U));
    const auto shift = hn::BitCast(d, hn::Add(hn::Max(exponent, hn::Set(words, least_)), hn::Set(words, to_last_bit_)));
    const auto rounded = hn::Sub(hn::Add(capped, shift), shift);
    const auto bounded = hn::IfThenElse(hn::Gt(rounded, hn::Set(d, largest_)), hn::Set(d, overflow_), rounded);
    return hn::IfThenElse(hn::IsNaN(x), x, hn::CopySign(bounded, x));
  }

 private:
  std::uint32_t least_, to_last_bit_;
  float largest_, overflow_;
};

void round_to_nearest(const Round& op) {
  const Nearest nearest(limits_of(op.format), op.saturates);
  const auto scale = hn::Set(Float(), static_cast<float>(op.scale));
  for (std::int64_t n = 0; n < op.x.rows; ++n) {
    const float* x = op.x.row<float>(n);
    float* y = op.y.row<float>(n);
    for_vectors(op.x.columns, [&](std::int64_t c, auto access)
                                  HWY_ATTR { access.store(hn::Div(nearest.of(hn::Mul(access.load(x + c), scale)), scale), y + c); });
  }
}

/// Infinities and NaN, whose bits no carry may reach, stay.
HWY_INLINE FloatVector stochastic(FloatVector x, hn::Vec<Words> noise) {
  const Words words;
  const auto bits = hn::And(hn::Add(hn::BitCast(words, x), noise), hn::Set(words, 0xffff0000U));
  const auto finite = hn::Le(hn::Abs(x), hn::Set(Float(), std::numeric_limits<float>::max()));
  return hn::IfThenElse(finite, hn::BitCast(Float(), bits), x);
}

void round_at_random(const Round& op) {
  const auto scale = hn::Set(Float(), static_cast<float>(op.scale));
  const std::int64_t end = op.first_column + op.x.columns;
  Noise noise = {};
  for (std::int64_t n = 0; n < op.x.rows; ++n)
    for (std::int64_t first = op.first_column; first < end;) {
      const std::int64_t group = first / kCompressedGroup, in = first % kCompressedGroup;
      const std::int64_t columns = std::min(kCompressedGroup - in, end - first);
      const float* x = op.x.row<float>(n) + first - op.first_column;
      float* y = op.y.row<float>(n) + first - op.first_column;
      noise.draw(op.noise, group, op.first_row + n);
      for_vectors(columns, [&](std::int64_t c, auto access) HWY_ATTR {
        access.store(hn::Div(stochastic(hn::Mul(access.load(x + c), scale), noise.at(in + c)), scale), y + c);
      });
      first += columns;
    }
}

void round(const Round& op) { op.format == NumberFormat::bfloat16_stochastic ? round_at_random(op) : round_to_nearest(op); }

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(round);

void CpuBackend::do_round(const Round& op) { HWY_DYNAMIC_DISPATCH(round)(op); }

}  // namespace elastiform
#endif
