// Per-target include guard, as Highway asks: this file is read once for every instruction set.
#if defined(ELASTIFORM_VECTOR_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ELASTIFORM_VECTOR_INL_HPP
#undef ELASTIFORM_VECTOR_INL_HPP
#else
#define ELASTIFORM_VECTOR_INL_HPP
#endif

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "kernels/view.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Float = hn::ScalableTag<float>;
using FloatVector = hn::Vec<Float>;

HWY_INLINE std::int64_t lanes() { return static_cast<std::int64_t>(hn::Lanes(Float())); }

/// The first n < lanes() floats, the rest zero. Touches no byte behind them: beyond a slice memory may be unmapped.
HWY_INLINE FloatVector load_partial(const float* p, std::int64_t n) {
  const Float d;
#if HWY_TARGET <= HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(d, static_cast<std::size_t>(n)), d, p);
#else
  // Without masked instructions Highway's MaskedLoad reads the whole vector.
  alignas(64) float buffer[hn::MaxLanes(d)] = {};
  for (std::int64_t i = 0; i < n; ++i) buffer[i] = p[i];
  return hn::Load(d, buffer);
#endif
}

HWY_INLINE void store_partial(FloatVector v, float* p, std::int64_t n) {
  const Float d;
#if HWY_TARGET <= HWY_AVX2
  hn::BlendedStore(v, hn::FirstN(d, static_cast<std::size_t>(n)), d, p);
#else
  alignas(64) float buffer[hn::MaxLanes(d)];
  hn::Store(v, d, buffer);
  for (std::int64_t i = 0; i < n; ++i) p[i] = buffer[i];
#endif
}

using Half = hn::Rebind<std::uint16_t, Float>;
using HalfVector = hn::Vec<Half>;

HWY_INLINE FloatVector widen(HalfVector v) {
  const hn::RebindToUnsigned<Float> words;
  return hn::BitCast(Float(), hn::ShiftLeft<16>(hn::PromoteTo(words, v)));
}

/// The nearest bf16, ties to even; a NaN stays one.
HWY_INLINE HalfVector narrow(FloatVector v) {
  const hn::RebindToUnsigned<Float> words;
  const hn::RebindToSigned<Float> integers;
  const auto bits = hn::BitCast(words, v);
  const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(words, 1u));
  const auto nearest = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(words, 0x7fffu))));
  const auto quiet = hn::Or(hn::ShiftRight<16>(bits), hn::Set(words, 0x40u));
  const auto result = hn::IfThenElse(hn::RebindMask(words, hn::IsNaN(v)), quiet, nearest);
  return hn::DemoteTo(Half(), hn::BitCast(integers, result));
}

HWY_INLINE FloatVector load_partial(const BFloat16* p, std::int64_t n) {
  alignas(64) std::uint16_t buffer[hn::MaxLanes(Float())] = {};
  std::memcpy(buffer, p, static_cast<std::size_t>(n) * 2);
  return widen(hn::Load(Half(), buffer));
}
HWY_INLINE void store_partial(FloatVector v, BFloat16* p, std::int64_t n) {
  alignas(64) std::uint16_t buffer[hn::MaxLanes(Float())];
  hn::Store(narrow(v), Half(), buffer);
  std::memcpy(p, buffer, static_cast<std::size_t>(n) * 2);
}

/// Codes of one byte, widened to 32 bits.
using Codes = hn::Rebind<std::uint8_t, Float>;
using Code32 = hn::RebindToSigned<Float>;
HWY_INLINE hn::Vec<Code32> load_codes(const std::uint8_t* p, std::int64_t n) {
  alignas(64) std::uint8_t buffer[hn::MaxLanes(Float())] = {};
  if (n < lanes()) p = static_cast<const std::uint8_t*>(std::memcpy(buffer, p, static_cast<std::size_t>(n)));
  return hn::BitCast(Code32(), hn::PromoteTo(hn::RebindToUnsigned<Float>(), hn::LoadU(Codes(), p)));
}
HWY_INLINE void store_codes(hn::Vec<Code32> v, std::uint8_t* p, std::int64_t n) {
  const auto codes = hn::DemoteTo(Codes(), v);
  if (n >= lanes()) return hn::StoreU(codes, Codes(), p);
  alignas(64) std::uint8_t buffer[hn::MaxLanes(Float())];
  hn::StoreU(codes, Codes(), buffer);
  std::memcpy(p, buffer, static_cast<std::size_t>(n));
}

/// How for_vectors reads and writes a whole vector, or the last one of a row. keep() puts `other` into lanes that are not there.
struct Whole {
  HWY_INLINE std::int64_t lanes_there() const { return lanes(); }
  HWY_INLINE FloatVector load(const float* p) const { return hn::LoadU(Float(), p); }
  HWY_INLINE void store(FloatVector v, float* p) const { hn::StoreU(v, Float(), p); }
  HWY_INLINE FloatVector load(const BFloat16* p) const { return widen(hn::LoadU(Half(), reinterpret_cast<const std::uint16_t*>(p))); }
  HWY_INLINE void store(FloatVector v, BFloat16* p) const { hn::StoreU(narrow(v), Half(), reinterpret_cast<std::uint16_t*>(p)); }
  HWY_INLINE FloatVector keep(FloatVector v, FloatVector /*other*/) const { return v; }
};
struct Partial {
  std::int64_t count;
  HWY_INLINE std::int64_t lanes_there() const { return count; }
  HWY_INLINE FloatVector load(const float* p) const { return load_partial(p, count); }
  HWY_INLINE void store(FloatVector v, float* p) const { store_partial(v, p, count); }
  HWY_INLINE FloatVector load(const BFloat16* p) const { return load_partial(p, count); }
  HWY_INLINE void store(FloatVector v, BFloat16* p) const { store_partial(v, p, count); }
  HWY_INLINE FloatVector keep(FloatVector v, FloatVector other) const {
    return hn::IfThenElse(hn::FirstN(Float(), static_cast<std::size_t>(count)), v, other);
  }
};

/// body(column, access) for every vector of n columns; access is Whole, or Partial for a last vector that is not full.
template <class Body>
HWY_INLINE void for_vectors(std::int64_t n, const Body& body) {
  const std::int64_t step = lanes();
  std::int64_t c = 0;
  for (; c + step <= n; c += step) body(c, Whole{});
  if (c < n) body(c, Partial{n - c});
}

/// Σ x² of vectors, squares and sums in double: a float's square fits a double. Lanes that are not there hold 0.
class SquareSum {
 public:
#if HWY_TARGET == HWY_SCALAR
  HWY_INLINE void add(FloatVector v) { sum_ += static_cast<double>(hn::GetLane(v)) * static_cast<double>(hn::GetLane(v)); }
  HWY_INLINE double total() const { return sum_; }

 private:
  double sum_ = 0;
#else
  HWY_INLINE SquareSum() : even_(hn::Zero(Double())), odd_(hn::Zero(Double())) {}  // written out: an implicit one knows no target
  HWY_INLINE void add(FloatVector v) {
    const Double d;
    const auto low = hn::PromoteTo(d, hn::LowerHalf(v)), high = hn::PromoteTo(d, hn::UpperHalf(hn::Half<Float>(), v));
    even_ = hn::MulAdd(low, low, even_);
    odd_ = hn::MulAdd(high, high, odd_);
  }
  HWY_INLINE double total() const { return hn::GetLane(hn::SumOfLanes(Double(), hn::Add(even_, odd_))); }

 private:
  using Double = hn::ScalableTag<double>;
  hn::Vec<Double> even_, odd_;
#endif
};

HWY_INLINE float sum_of_lanes(FloatVector v) { return hn::GetLane(hn::SumOfLanes(Float(), v)); }
HWY_INLINE float max_of_lanes(FloatVector v) { return hn::GetLane(hn::MaxOfLanes(Float(), v)); }

/// out[j][i] = in[i][j] for i < rows and j < columns, in blocks of 4x4 within 128-bit registers: 0.4 cycles an element, scalar 1.3.
HWY_INLINE void transpose(std::int64_t rows, std::int64_t columns, const float* in, std::int64_t ldin, float* out, std::int64_t ldout) {
  std::int64_t i = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::FixedTag<float, 4> d;
  for (; i + 4 <= rows; i += 4) {
    const float* row = in + i * ldin;
    std::int64_t j = 0;
    for (; j + 4 <= columns; j += 4) {
      const auto r0 = hn::LoadU(d, row + j), r1 = hn::LoadU(d, row + ldin + j);
      const auto r2 = hn::LoadU(d, row + 2 * ldin + j), r3 = hn::LoadU(d, row + 3 * ldin + j);
      const auto even_low = hn::InterleaveLower(d, r0, r2), even_high = hn::InterleaveUpper(d, r0, r2);
      const auto odd_low = hn::InterleaveLower(d, r1, r3), odd_high = hn::InterleaveUpper(d, r1, r3);
      float* block = out + j * ldout + i;
      hn::StoreU(hn::InterleaveLower(d, even_low, odd_low), d, block);
      hn::StoreU(hn::InterleaveUpper(d, even_low, odd_low), d, block + ldout);
      hn::StoreU(hn::InterleaveLower(d, even_high, odd_high), d, block + 2 * ldout);
      hn::StoreU(hn::InterleaveUpper(d, even_high, odd_high), d, block + 3 * ldout);
    }
    for (; j < columns; ++j)
      for (std::int64_t r = 0; r < 4; ++r) out[j * ldout + i + r] = row[r * ldin + j];
  }
#endif
  for (; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) out[j * ldout + i] = in[i * ldin + j];
}

}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
