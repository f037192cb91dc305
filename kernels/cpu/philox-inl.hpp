// Per-target include guard, as Highway asks: this file is read once for every instruction set.
#if defined(ELASTIFORM_PHILOX_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ELASTIFORM_PHILOX_INL_HPP
#undef ELASTIFORM_PHILOX_INL_HPP
#else
#define ELASTIFORM_PHILOX_INL_HPP
#endif

#include <hwy/highway.h>

#include <array>
#include <cstdint>

#include "kernels/random.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;
namespace philox {

using Lanes = hn::ScalableTag<std::uint32_t>;
using Vector = hn::Vec<Lanes>;

#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void apply(Vector& c0, Vector& c1, Vector& c2, Vector& c3, std::array<std::uint32_t, 2> key) {
  const Lanes d;
  const auto drawn = philox4x32({hn::GetLane(c0), hn::GetLane(c1), hn::GetLane(c2), hn::GetLane(c3)}, key);
  c0 = hn::Set(d, drawn[0]), c1 = hn::Set(d, drawn[1]), c2 = hn::Set(d, drawn[2]), c3 = hn::Set(d, drawn[3]);
}
#else
/// The lower and upper halves of factor · v, lane by lane.
HWY_INLINE void multiply(std::uint32_t factor, Vector v, Vector& low, Vector& high) {
  const Lanes d;
  const hn::RepartitionToWide<Lanes> wide;
  const auto by = hn::Set(d, factor);
  const auto even = hn::MulEven(v, by);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, v))), by);
  low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
  high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
}

/// Philox4x32-10 (kernels/random.hpp) of the counter {c0, c1, c2, c3} of each lane, in place.
HWY_INLINE void apply(Vector& c0, Vector& c1, Vector& c2, Vector& c3, std::array<std::uint32_t, 2> key) {
  const Lanes d;
  for (int round = 0; round < kPhiloxRounds; ++round) {
    Vector low0, high0, low1, high1;
    multiply(kPhiloxMultiplier0, c0, low0, high0);
    multiply(kPhiloxMultiplier1, c2, low1, high1);
    c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(d, key[0]));
    c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(d, key[1]));
    c1 = low1;
    c3 = low0;
    key[0] += kPhiloxWeyl0;
    key[1] += kPhiloxWeyl1;
  }
}
#endif

}  // namespace philox

/// words[w · count + i] = word w of Philox4x32-10 with counter {first + i, rest} for i < count, a multiple of 16.
HWY_INLINE void philox_words(std::uint32_t first, std::int64_t count, std::array<std::uint32_t, 3> rest, std::uint64_t seed,
                             std::uint32_t* words) {
  const philox::Lanes d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < count; i += lanes) {
    auto c0 = hn::Iota(d, first + static_cast<std::uint32_t>(i)), c1 = hn::Set(d, rest[0]);
    auto c2 = hn::Set(d, rest[1]), c3 = hn::Set(d, rest[2]);
    philox::apply(c0, c1, c2, c3, {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
    hn::StoreU(c0, d, words + i);
    hn::StoreU(c1, d, words + count + i);
    hn::StoreU(c2, d, words + 2 * count + i);
    hn::StoreU(c3, d, words + 3 * count + i);
  }
}

}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
