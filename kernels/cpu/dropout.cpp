#include <algorithm>
#include <array>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/dropout.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/philox-inl.hpp"
#include "kernels/cpu/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

using Words = hn::RebindToUnsigned<Float>;
constexpr int kWordsOfGroup = 4;

/// Words of as many groups as a vector has lanes, from `group` on; counter is that of group 0.
HWY_INLINE void draw(const Dropout& op, const std::array<std::uint32_t, 4>& counter, std::int64_t group, std::uint32_t* words) {
  const Words d;
  auto c0 = hn::Set(d, counter[0]), c1 = hn::Set(d, counter[1]), c3 = hn::Set(d, counter[3]);
  auto c2 = hn::Or(hn::Set(d, counter[2]), hn::Iota(d, static_cast<std::uint32_t>(group)));
  philox::apply(c0, c1, c2, c3, op.key());
  hn::StoreInterleaved4(c0, c1, c2, c3, d, words);
}

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
