#include "kernels/cpu/cpu_backend.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/optimizer_8bit.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/optimizer-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

/// Eight numbers looked up by the lowest bits of an index: in registers where eight lanes are one.
class Eight {
 public:
  template <class Value>
  HWY_INLINE explicit Eight(const Value& value) {
    for (int i = 0; i < kMost; ++i) values_[i] = static_cast<float>(value(i % 8));
  }
  HWY_INLINE FloatVector of(hn::Vec<Code32> index) const {
    const auto cut = hn::And(index, hn::Set(Code32(), 7));
#if HWY_TARGET == HWY_SCALAR
    return hn::GatherIndex(Float(), values_, cut);
#else
    const Float d;
    return hn::TableLookupLanes(hn::Load(d, values_), hn::IndicesFromVec(d, cut));
#endif
  }

 private:
  static constexpr int kMost = hn::MaxLanes(Float()) > 8 ? hn::MaxLanes(Float()) : 8;
  alignas(64) float values_[kMost];
};

/// At 2^23 floats are the integers: x + kIntegers rounds x to the nearest one, which the lowest bits of the sum then hold.
constexpr float kIntegers = 8388608.0F;

/// A map of moments: from codes to numbers, and back by DynamicSearch's arithmetic. Rounding to nearest finds the cell floor(y) as the
/// nearest integer of y - 1/2, so only what lies between two cells may go to the other one. Index k of the tables: so many bounds are below.
class DynamicMap {
 public:
  HWY_INLINE explicit DynamicMap(const DynamicSearch& search)
      : shift_(hn::Set(Code32(), static_cast<std::int32_t>(search.shift))),
        exponent_(hn::Set(Code32(), 127 + static_cast<std::int32_t>(search.shift))), one_(hn::Set(Float(), search.bounds[kDecades])),
        ordinal_of_one_(hn::Set(Float(), cells(search, kDecades) - search.shift + kIntegers)),
        slope_([&](int i) { return search.slope[i]; }), base_([&](int i) { return search.base[i]; }),
        bounds_([&](int i) { return search.bounds[i]; }), scale_([&](int k) { return k > 0 ? search.scale[k - 1] : 0; }),
        offset_([&](int k) { return k > 0 ? search.offset[k - 1] + 0.5F : 0; }),
        last_([&](int k) { return k > 0 ? cells(search, k - 1) - 1 : 0; }),
        first_([&](int k) { return k > 0 ? cells(search, k - 1) - search.shift + kIntegers : kIntegers; }) {}

  /// The number of an ordinal, 0 of 0: of a decade's cells the middles lie on a line over the ordinal's fraction.
  HWY_INLINE FloatVector number_of(hn::Vec<Code32> ordinals) const {
    const Float d;
    const Code32 integers;
    const auto bits = hn::BitCast(integers, hn::ConvertTo(d, hn::Add(ordinals, shift_)));
    const auto exponent = hn::Sub(hn::ShiftRight<23>(bits), exponent_);
    const auto fraction = hn::BitCast(d, hn::Or(hn::And(bits, hn::Set(integers, 0x7fffff)), hn::Set(integers, 0x3f800000)));
    const auto decade = hn::Max(exponent, hn::Zero(integers));
    const auto number = hn::MulAdd(slope_.of(decade), fraction, base_.of(decade));
    return hn::IfThenElseZero(hn::RebindMask(d, hn::Gt(ordinals, hn::Zero(integers))), number);
  }

  /// The ordinal of the number nearest to a magnitude in [0, 1].
  HWY_INLINE hn::Vec<Code32> ordinal_of(FloatVector x) const {
    const Code32 integers;
    const auto k = bounds_below(x);
    const auto cell = hn::Min(hn::MulSub(x, scale_.of(k), offset_.of(k)), last_.of(k));
    const auto ordinal = hn::IfThenElse(hn::Gt(x, one_), ordinal_of_one_, hn::Add(cell, first_.of(k)));
    return hn::And(hn::BitCast(integers, ordinal), hn::Set(integers, 0xff));
  }

 private:
  static HWY_INLINE float cells(const DynamicSearch& search, int decade) { return search.first_cells * static_cast<float>(1 << decade); }

  /// Of the first seven. A float's bits are its logarithm within 0.09 of a power of two, and bounds lie from 0.84 to 0.99 of a power of ten
  /// apart: so the logarithm says how many are below, or one too few, and one comparison which.
  HWY_INLINE hn::Vec<Code32> bounds_below(FloatVector x) const {
    const Float d;
    const Code32 integers;
    constexpr double kDecade = 0.301029995663981195 / (1 << 23);  // powers of ten for a step of the bits
    constexpr double kUnder = 7.3 - 0.5 - 127 * 0.301029995663981195;
    const auto logarithm = hn::ConvertTo(d, hn::BitCast(integers, x));
    const auto guess = hn::Max(hn::MulAdd(logarithm, constant(kDecade), constant(kUnder)), hn::Zero(d));
    const auto few = hn::BitCast(integers, hn::Add(guess, constant(kIntegers)));
    return hn::Sub(few, hn::VecFromMask(integers, hn::RebindMask(integers, hn::Gt(x, bounds_.of(few)))));
  }

  const hn::Vec<Code32> shift_, exponent_;
  const FloatVector one_, ordinal_of_one_;
  const Eight slope_, base_;                            // of the decade
  const Eight bounds_, scale_, offset_, last_, first_;  // of bounds below
};

/// The moments of one block between the codes of the step before and those of this one: element i of the block at [i].
struct Block {
  alignas(64) float m[2 * kCodeBlock], v[2 * kCodeBlock];
};

struct CodedStep {
  /// Elements, of the blocks that come: between two loops over a block the hardware loses sight of what is read next.
  static constexpr std::int64_t kAhead = 2 * kCodeBlock;
  const Adamw8bit& op;
  const MovedMoments moved;
  const FloatVector shrink, step;
  const DynamicMap signs, roots;  // of m, of v
  HWY_INLINE explicit CodedStep(const Adamw8bit& op_)
      : op(op_), moved(op_), shrink(constant(1 - op_.rate * op_.decay)), step(constant(op_.rate / op_.correction1)), signs(signed_search()),
        roots(unsigned_search()) {}

  /// Where a block's row begins.
  struct Row {
    float* weight;
    const float* gradient;  // null: none
    std::uint8_t *m, *v;
  };
  HWY_INLINE Row row(std::int64_t n, std::int64_t left) const {
    return {op.weight.row<float>(n) + left, op.gradient.empty() ? nullptr : op.gradient.row<float>(n) + left,
            op.m.row<std::uint8_t>(n) + left, op.v.row<std::uint8_t>(n) + left};
  }

  /// `body(row, column, vector's place in the block, access)` over a block's vectors. Rows stand close in the block:
  /// what the last vector of one stores behind its end the next row overwrites, and behind the last row a buffer of two blocks has room.
  template <class Body>
  HWY_INLINE void for_block(std::int64_t top, std::int64_t left, std::int64_t rows, std::int64_t columns, const Body& body) const {
    for (std::int64_t n = 0; n < rows; ++n) {
      const Row at = row(top + n, left);
      for_vectors(columns, [&](std::int64_t c, auto access) HWY_ATTR { body(at, c, n * columns + c, access); });
    }
  }

  HWY_INLINE void run(std::int64_t block, std::int64_t top, std::int64_t left, std::int64_t rows, std::int64_t columns) const {
    const Float d;
    const auto zero = hn::Zero(d);
    float *m_scale = op.m_scale.row<float>(0) + block, *v_scale = op.v_scale.row<float>(0) + block;
    const auto zero_code = hn::Set(Code32(), kZeroCode);
    const auto m_unit = hn::Set(d, *m_scale), v_unit = hn::Set(d, *v_scale);
    auto highest = zero, lowest = zero, largest = zero;
    Block moments;
    for_block(top, left, rows, columns, [&](const Row& row, std::int64_t c, std::int64_t at, auto access) HWY_ATTR {
      const std::int64_t there = access.lanes_there();
      hwy::Prefetch(row.weight + c + kAhead);
      if (row.gradient) hwy::Prefetch(row.gradient + c + kAhead);
      const auto signed_ordinals = hn::Sub(load_codes(row.m + c, there), zero_code);
      auto m = hn::Mul(m_unit, hn::CopySign(signs.number_of(hn::Abs(signed_ordinals)), hn::ConvertTo(d, signed_ordinals)));
      auto v = hn::Mul(v_unit, roots.number_of(load_codes(row.v + c, there)));
      moved.move(m, v, row.gradient ? access.load(row.gradient + c) : zero);
      const auto shrunk = hn::Mul(shrink, access.load(row.weight + c));
      access.store(hn::Sub(shrunk, hn::Div(hn::Mul(step, m), moved.denominator(v))), row.weight + c);
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
    for_block(top, left, rows, columns, [&](const Row& row, std::int64_t c, std::int64_t at, auto access) HWY_ATTR {
      const auto m = hn::Mul(hn::LoadU(d, moments.m + at), m_inverse), v = hn::LoadU(d, moments.v + at);
      const auto m_ordinals = signs.ordinal_of(hn::Abs(m));
      const auto negative = hn::Sub(zero_code, hn::Min(m_ordinals, zero_code));
      const auto m_codes = hn::IfThenElse(hn::RebindMask(integers, hn::Lt(m, zero)), negative, hn::Add(zero_code, m_ordinals));
      const auto v_ordinals = hn::Max(one, roots.ordinal_of(hn::Mul(v, v_inverse)));
      const auto v_codes = hn::IfThenElseZero(hn::RebindMask(integers, hn::Gt(v, zero)), v_ordinals);
      store_codes(m_codes, row.m + c, access.lanes_there());
      store_codes(v_codes, row.v + c, access.lanes_there());
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
