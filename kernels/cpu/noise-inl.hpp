// Per-target include guard, as Highway asks: this file is read once for every instruction set.
#if defined(ELASTIFORM_NOISE_INL_HPP) == defined(HWY_TARGET_TOGGLE)
#ifdef ELASTIFORM_NOISE_INL_HPP
#undef ELASTIFORM_NOISE_INL_HPP
#else
#define ELASTIFORM_NOISE_INL_HPP
#endif

#include "kernels/cpu/philox-inl.hpp"
#include "kernels/cpu/vector-inl.hpp"
#include "kernels/ops/compression.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {

/// The 16 random bits of each column of a group, as NoiseName numbers them.
struct Noise {
  static constexpr std::int64_t kCounters = kCompressedGroup / 8;
  alignas(64) std::uint32_t words[4 * kCounters];
  alignas(64) std::uint16_t halves[kCompressedGroup + hn::MaxLanes(Float())];  // room behind for a last vector that is not full

  HWY_INLINE void draw(const NoiseName& name, std::int64_t group, std::int64_t row) {
    const hn::RebindToUnsigned<Float> d;
    const hn::RebindToSigned<Float> integers;
    philox_words(static_cast<std::uint32_t>(group * kCounters), kCounters, {static_cast<std::uint32_t>(row), name.name[0], name.name[1]},
                 name.seed, words);
    for (std::int64_t w = 0; w < 4; ++w)
      for (std::int64_t k = 0; k < kCounters; k += lanes()) {
        const auto word = hn::Load(d, words + w * kCounters + k);
        const auto lower = hn::And(word, hn::Set(d, 0xffffU)), upper = hn::ShiftRight<16>(word);
        std::uint16_t* const at = halves + 2 * w * kCounters + k;
        hn::StoreU(hn::DemoteTo(Half(), hn::BitCast(integers, lower)), Half(), at);
        hn::StoreU(hn::DemoteTo(Half(), hn::BitCast(integers, upper)), Half(), at + kCounters);
      }
  }
  /// Of a vector of columns from c on.
  HWY_INLINE hn::Vec<hn::RebindToUnsigned<Float>> at(std::int64_t c) const {
    return hn::PromoteTo(hn::RebindToUnsigned<Float>(), hn::LoadU(Half(), halves + c));
  }
};

}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
