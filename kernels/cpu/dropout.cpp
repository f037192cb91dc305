#include <algorithm>
#include <array>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/cpu/targets.hpp"
#include "kernels/random.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dropout.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

using Words = hn::RebindToUnsigned<Float>;
using WordVector = hn::Vec<Words>;
constexpr int kWordsOfGroup = 4;

/// Words of as many groups as a vector has lanes, from `group` on; counter is that of group 0.
#if HWY_TARGET == HWY_SCALAR
void draw(const Dropout& op, std::array<std::uint32_t, 4> counter, std::int64_t group, std::uint32_t* words) {
  counter[2] |= static_cast<std::uint32_t>(group);
  const std::array<std::uint32_t, 4> drawn = philox4x32(counter, op.key());
  std::copy(drawn.begin(), drawn.end(), words);
}
#else
/// Both halves of a · b, lane by lane.
HWY_INLINE void multiply(WordVector a, WordVector b, WordVector& high, WordVector& low) {
  const Words d;
  const hn::Repartition<std::uint64_t, Words> wide;
  const auto even = hn::MulEven(a, b), odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(wide, a))), b);
  high = hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
  low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
}

// Philox4x32-10 as kernels/random.cpp has it, a counter a lane.
void draw(const Dropout& op, const std::array<std::uint32_t, 4>& counter, std::int64_t group, std::uint32_t* words) {
  const Words d;
  auto c0 = hn::Set(d, counter[0]), c1 = hn::Set(d, counter[1]), c3 = hn::Set(d, counter[3]);
  auto c2 = hn::Or(hn::Set(d, counter[2]), hn::Iota(d, static_cast<std::uint32_t>(group)));
  const auto multiplier0 = hn::Set(d, kPhiloxMultiplier0), multiplier1 = hn::Set(d, kPhiloxMultiplier1);
  std::array<std::uint32_t, 2> key = op.key();
  for (int round = 0; round < kPhiloxRounds; ++round) {
    WordVector high0, low0, high1, low1;
    multiply(c0, multiplier0, high0, low0);
    multiply(c2, multiplier1, high1, low1);
    c0 = hn::Xor(hn::Xor(high1, c1), hn::Set(d, key[0]));
    c1 = low1;
    c2 = hn::Xor(hn::Xor(high0, c3), hn::Set(d, key[1]));
    c3 = low0;
    key[0] += kPhiloxWeyl0;
    key[1] += kPhiloxWeyl1;
  }
  hn::StoreInterleaved4(c0, c1, c2, c3, d, words);
}
#endif

void dropout(const Dropout& op) {
  const Words d;
  const std::int64_t C = op.y.columns, chunk = kWordsOfGroup * lanes();
  const auto threshold = hn::Set(d, op.threshold());
  const auto scale = hn::Set(Float(), static_cast<float>(op.scale()));
  alignas(64) std::uint32_t words[kWordsOfGroup * hn::MaxLanes(d)];
  for (std::int64_t n = 0; n < op.y.rows; ++n) {
    const std::array<std::uint32_t, 4> counter = op.counter(n, 0);
    const float *x = op.x.row<float>(n), *add = op.add.empty() ? nullptr : op.add.row<float>(n);
    float* y = op.y.row<float>(n);
    for (std::int64_t first = 0; first < C; first += chunk) {
      draw(op, counter, first / kWordsOfGroup, words);
      for_vectors(std::min(chunk, C - first), [&](std::int64_t c, auto access) HWY_ATTR {
        const auto word = hn::Load(d, words + c);
        const auto kept = hn::RebindMask(Float(), hn::Eq(hn::Max(word, threshold), word));
        auto value = hn::IfThenElseZero(kept, hn::Mul(access.load(x + first + c), scale));
        if (add != nullptr) value = hn::Add(value, access.load(add + first + c));
        access.store(value, y + first + c);
      });
    }
  }
}

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(dropout);
void CpuBackend::do_dropout(const Dropout& op) { HWY_DYNAMIC_DISPATCH(dropout)(op); }

}  // namespace elastiform
#endif
