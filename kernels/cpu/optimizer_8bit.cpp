#include "kernels/cpu/cpu_backend.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optimizer_8bit.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/optimizer-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

/// What of a map depends on the decade alone, looked up by its number: in registers where eight lanes are one.
class OfDecades {
 public:
  HWY_INLINE explicit OfDecades(const float (&values)[kDecades + 1]) {
    for (int i = 0; i < kMost; ++i) values_[i] = values[i % (kDecades + 1)];
  }
  HWY_INLINE FloatVector of(hn::Vec<Code32> decades) const {
#if HWY_TARGET == HWY_SCALAR
    return hn::GatherIndex(Float(), values_, decades);
#else
    const Float d;
    return hn::TableLookupLanes(hn::Load(d, values_), hn::IndicesFromVec(d, decades));
#endif
  }

 private:
  static constexpr int kMost = hn::MaxLanes(Float()) > kDecades + 1 ? hn::MaxLanes(Float()) : kDecades + 1;
  alignas(64) float values_[kMost];
};

/// A map of moments: from codes to numbers, and back.
class DynamicMap {
 public:
  HWY_INLINE explicit DynamicMap(const DynamicSearch& search)
      : search_(search), slope_(search.slope), base_(search.base), scale_(search.scale), offset_(search.offset) {}

  /// The number of an ordinal, 0 of 0: of a decade's cells the middles lie on a line over the ordinal's fraction.
  HWY_INLINE FloatVector number_of(hn::Vec<Code32> ordinals) const {
    const Float d;
    const Code32 integers;
    const auto shifted = hn::ConvertTo(d, hn::Add(ordinals, hn::Set(integers, static_cast<std::int32_t>(search_.shift))));
    const auto bits = hn::BitCast(integers, shifted);
    const auto exponent = hn::Sub(hn::ShiftRight<23>(bits), hn::Set(integers, 127 + static_cast<std::int32_t>(search_.shift)));
    const auto fraction = hn::BitCast(d, hn::Or(hn::And(bits, hn::Set(integers, 0x7fffff)), hn::Set(integers, 0x3f800000)));
    const auto decade = hn::Max(exponent, hn::Zero(integers));
    const auto number = hn::MulAdd(slope_.of(decade), fraction, base_.of(decade));
    return hn::IfThenElseZero(hn::RebindMask(d, hn::Gt(ordinals, hn::Zero(integers))), number);
  }

  /// The ordinal of the number nearest to a magnitude in [0, 1] (DynamicSearch).
  HWY_INLINE hn::Vec<Code32> ordinal_of(FloatVector x) const {
    const Float d;
    const Code32 integers;
    auto count = hn::Zero(integers);  // of bounds below
    for (const float bound : search_.bounds)
      count = hn::Sub(count, hn::VecFromMask(integers, hn::RebindMask(integers, hn::Gt(x, hn::Set(d, bound)))));
    const auto one = hn::Set(integers, 1), decade = hn::Max(hn::Sub(count, one), hn::Zero(integers));
    const auto cells = hn::Shl(hn::Set(integers, static_cast<std::int32_t>(search_.first_cells)), decade);
    const auto cell = hn::ConvertTo(integers, hn::MulSub(x, scale_.of(decade), offset_.of(decade)));  // towards zero
    const auto kept = hn::Max(hn::Zero(integers), hn::Min(cell, hn::Sub(cells, one)));
    const auto ordinal = hn::Sub(hn::Add(cells, kept), hn::Set(integers, static_cast<std::int32_t>(search_.shift)));
    return hn::IfThenElseZero(hn::Gt(count, hn::Zero(integers)), ordinal);
  }

 private:
  const DynamicSearch& search_;
  OfDecades slope_, base_, scale_, offset_;
};

/// The moments of one block between the codes of the step before and those of this one: element i of the block at [i].
struct Block {
  alignas(64) float m[2 * kCodeBlock], v[2 * kCodeBlock];
};

struct CodedStep {
  const Adamw8bit& op;
  const MovedMoments moved;
  const FloatVector shrink, step;
  const DynamicMap signs, roots;  // of m, of v
  HWY_INLINE explicit CodedStep(const Adamw8bit& op_)
      : op(op_), moved(op_), shrink(constant(1 - op_.rate * op_.decay)), step(constant(op_.rate / op_.correction1)), signs(signed_search()),
        roots(unsigned_search()) {}

  /// `body(row, column, vector's place in the block, access)` over a block's vectors. Rows stand close in the block:
  /// what the last vector of one stores behind its end the next row overwrites, and behind the last row a buffer of two blocks has room.
  template <class Body>
  HWY_INLINE void for_block(std::int64_t top, std::int64_t left, std::int64_t rows, std::int64_t columns, const Body& body) const {
    for (std::int64_t n = 0; n < rows; ++n)
      for_vectors(columns, [&](std::int64_t c, auto access) HWY_ATTR { body(top + n, left + c, n * columns + c, access); });
  }

  HWY_INLINE void run(std::int64_t block, std::int64_t top, std::int64_t left, std::int64_t rows, std::int64_t columns) const {
    const Float d;
    const auto zero = hn::Zero(d);
    float *m_scale = op.m_scale.row<float>(0) + block, *v_scale = op.v_scale.row<float>(0) + block;
    const auto zero_code = hn::Set(Code32(), kZeroCode);
    const auto m_unit = hn::Set(d, *m_scale), v_unit = hn::Set(d, *v_scale);
    auto highest = zero, lowest = zero, largest = zero;
    Block moments;
    for_block(top, left, rows, columns, [&](std::int64_t n, std::int64_t c, std::int64_t at, auto access) HWY_ATTR {
      const std::int64_t there = access.lanes_there();
      const auto signed_ordinals = hn::Sub(load_codes(op.m.row<std::uint8_t>(n) + c, there), zero_code);
      auto m = hn::Mul(m_unit, hn::CopySign(signs.number_of(hn::Abs(signed_ordinals)), hn::ConvertTo(d, signed_ordinals)));
      auto v = hn::Mul(v_unit, roots.number_of(load_codes(op.v.row<std::uint8_t>(n) + c, there)));
      moved.move(m, v, op.gradient.empty() ? zero : access.load(op.gradient.row<float>(n) + c));
      float* weight = op.weight.row<float>(n) + c;
      const auto shrunk = hn::Mul(shrink, access.load(weight));
      access.store(hn::Sub(shrunk, hn::Div(hn::Mul(step, m), moved.denominator(v))), weight);
      m = access.keep(m, zero), v = access.keep(v, zero);
      highest = hn::Max(highest, m), lowest = hn::Min(lowest, m), largest = hn::Max(largest, v);
      hn::StoreU(m, d, moments.m + at);
      hn::StoreU(v, d, moments.v + at);
    });
    const float high = max_of_lanes(highest), low = -max_of_lanes(hn::Neg(lowest));
    *m_scale = high >= -low ? high : low;
    *v_scale = max_of_lanes(largest);
    store(moments, *m_scale, *v_scale, top, left, rows, columns);
  }

  HWY_INLINE void store(const Block& moments, float m_scale, float v_scale, std::int64_t top, std::int64_t left, std::int64_t rows,
                        std::int64_t columns) const {
    const Float d;
    const Code32 integers;
    // A scale whose inverse would be infinite counts as 0.
    const auto inverse_of = [](float scale) { return std::abs(scale) < std::numeric_limits<float>::min() ? 0.0f : 1.0f / scale; };
    const auto m_inverse = hn::Set(d, inverse_of(m_scale)), v_inverse = hn::Set(d, inverse_of(v_scale)), zero = hn::Zero(d);
    const auto zero_code = hn::Set(integers, kZeroCode), one = hn::Set(integers, 1);
    for_block(top, left, rows, columns, [&](std::int64_t n, std::int64_t c, std::int64_t at, auto access) HWY_ATTR {
      const auto m = hn::Mul(hn::LoadU(d, moments.m + at), m_inverse), v = hn::LoadU(d, moments.v + at);
      const auto m_ordinals = signs.ordinal_of(hn::Abs(m));
      const auto negative = hn::Sub(zero_code, hn::Min(m_ordinals, zero_code));
      const auto m_codes = hn::IfThenElse(hn::RebindMask(integers, hn::Lt(m, zero)), negative, hn::Add(zero_code, m_ordinals));
      const auto v_ordinals = hn::Max(one, roots.ordinal_of(hn::Mul(v, v_inverse)));
      const auto v_codes = hn::IfThenElseZero(hn::RebindMask(integers, hn::Gt(v, zero)), v_ordinals);
      store_codes(m_codes, op.m.row<std::uint8_t>(n) + c, access.lanes_there());
      store_codes(v_codes, op.v.row<std::uint8_t>(n) + c, access.lanes_there());
    });
  }
};

void adamw_8bit(const Adamw8bit& op) {
  const CodedStep step(op);
  const CodeBlocks blocks(op.weight.rows, op.weight.columns);
  for (std::int64_t block = 0; block < blocks.count(); ++block) {
    const std::int64_t top = block / blocks.across * blocks.rows, left = block % blocks.across * blocks.columns;
    step.run(block, top, left, std::min(blocks.rows, op.weight.rows - top), std::min(blocks.columns, op.weight.columns - left));
  }
}

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(adamw_8bit);

void CpuBackend::do_adamw_8bit(const Adamw8bit& op) { HWY_DYNAMIC_DISPATCH(adamw_8bit)(op); }

}  // namespace elastiform
#endif
