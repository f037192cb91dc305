#include <algorithm>
#include <cstring>

#include "kernels/cpu/cpu_backend.hpp"

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/compression.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/noise-inl.hpp"
#include "kernels/cpu/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

using Integers = hn::RebindToSigned<Float>;
using Bytes = hn::Rebind<std::uint8_t, Float>;

/// lo + q·s of a group, and what maps an element to steps. All of it is float32 without fused operations, so that every instruction set and
/// device has the same codes.
struct Range {
  float low, step, scale;
  Range(BFloat16 low_end, BFloat16 high_end, int bits) {
    const auto value = [](BFloat16 end) {
      const std::uint32_t word = static_cast<std::uint32_t>(end.bits) << 16;
      float number = 0;
      std::memcpy(&number, &word, sizeof number);
      return number;
    };
    const float levels = static_cast<float>((1 << bits) - 1), width = value(high_end) - value(low_end);
    low = value(low_end);
    step = width < kLeastRange ? 0 : width / levels;
    scale = width < kLeastRange ? 0 : levels / width;
  }
};

struct Ends {
  BFloat16 low, high;
};

/// The extremes of n elements, rounded outwards; NaN where one is not finite.
template <class T>
HWY_INLINE Ends ends_of(const T* x, std::int64_t n) {
  auto least = hn::Set(Float(), hwy::HighestValue<float>()), largest = hn::Neg(least), poison = hn::Zero(Float());
  for_vectors(n, [&](std::int64_t c, auto access) HWY_ATTR {
    const auto v = access.load(x + c);
    least = hn::Min(least, access.keep(v, least));
    largest = hn::Max(largest, access.keep(v, largest));
    poison = hn::Add(poison, access.keep(hn::Mul(v, hn::Zero(Float())), hn::Zero(Float())));  // 0, or NaN
  });
  if (!(sum_of_lanes(poison) == 0)) return {{0x7fff}, {0x7fff}};
  return {{bfloat16_below(hn::GetLane(hn::MinOfLanes(Float(), least)))}, {bfloat16_above(max_of_lanes(largest))}};
}

/// In (0, 1), for a vector of columns from c on.
HWY_INLINE FloatVector uniform(const Noise& noise, std::int64_t c) {
  const auto number = hn::ConvertTo(Float(), hn::BitCast(Integers(), noise.at(c)));
  return hn::Mul(hn::Add(number, hn::Set(Float(), 0.5F)), hn::Set(Float(), 1.0F / 65536));
}

/// Codes of a group, a byte each.
template <class T>
HWY_INLINE void codes_of(const T* x, std::int64_t n, const Range& range, float levels, const Noise& noise, std::uint8_t* codes) {
  const auto low = hn::Set(Float(), range.low), scale = hn::Set(Float(), range.scale), most = hn::Set(Float(), levels);
  for_vectors(n, [&](std::int64_t c, auto access) HWY_ATTR {
    const auto steps = hn::Add(hn::Mul(hn::Sub(access.load(x + c), low), scale), uniform(noise, c));
    const auto code = hn::IfThenElseZero(hn::Ge(steps, hn::Zero(Float())), hn::Min(steps, most));  // NaN: 0
    hn::StoreU(hn::DemoteTo(Bytes(), hn::ConvertTo(Integers(), code)), Bytes(), codes + c);
  });
}

/// Four bytes of codes become `bits` of them, from the first on; what is written ends with the last code's byte.
HWY_INLINE void pack(const std::uint8_t* codes, std::int64_t n, int bits, std::uint8_t* out) {
  if (bits == 8) return static_cast<void>(std::memcpy(out, codes, static_cast<std::size_t>(n)));
  std::uint8_t packed[kCompressedGroup / 2];
  const std::int64_t bytes = (n * bits + 7) / 8;
  if (bits == 4)
    for (std::int64_t i = 0; i < bytes; ++i) packed[i] = static_cast<std::uint8_t>(codes[2 * i] | codes[2 * i + 1] << 4);
  else
    for (std::int64_t i = 0; i < bytes; ++i)
      packed[i] = static_cast<std::uint8_t>(codes[4 * i] | codes[4 * i + 1] << 2 | codes[4 * i + 2] << 4 | codes[4 * i + 3] << 6);
  std::memcpy(out, packed, static_cast<std::size_t>(bytes));
}

HWY_INLINE void unpack(const std::uint8_t* in, std::int64_t n, int bits, std::uint8_t* codes) {
  const std::int64_t bytes = (n * bits + 7) / 8;
  if (bits == 8) std::memcpy(codes, in, static_cast<std::size_t>(bytes));
  if (bits == 4)
    for (std::int64_t i = 0; i < bytes; ++i) codes[2 * i] = in[i] & 15, codes[2 * i + 1] = in[i] >> 4;
  if (bits == 2)
    for (std::int64_t i = 0; i < bytes; ++i)
      for (int part = 0; part < 4; ++part) codes[4 * i + part] = in[i] >> (2 * part) & 3;
}

// Codes of a group, with room for a last vector that is not full.
using Codes = std::uint8_t[kCompressedGroup + hn::MaxLanes(Float())];

template <class T>
void compress_rows(const Compress& op) {
  const std::int64_t groups = compressed_groups(op.x.columns);
  Noise noise = {};
  Codes codes;
  for (std::int64_t n = 0; n < op.x.rows; ++n) {
    const T* x = op.x.row<T>(n);
    std::uint8_t* const row = op.codes.row<std::uint8_t>(n);
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t first = g * kCompressedGroup, columns = std::min(kCompressedGroup, op.x.columns - first);
      const Ends ends = ends_of(x + first, columns);
      std::memcpy(row + 4 * g, &ends, sizeof ends);
      noise.draw(op.noise, g, op.first_row + n);
      codes_of(x + first, columns, Range(ends.low, ends.high, op.bits), static_cast<float>((1 << op.bits) - 1), noise, codes);
      // Lanes of the last vector that are not there had codes too; a byte that is not full ends with zeros.
      std::memset(codes + columns, 0, sizeof codes - static_cast<std::size_t>(columns));
      pack(codes, columns, op.bits, row + 4 * groups + first * op.bits / 8);
    }
  }
}

template <class T>
void decompress_rows(const Decompress& op) {
  const std::int64_t groups = compressed_groups(op.x.columns);
  Codes codes = {};
  for (std::int64_t n = 0; n < op.x.rows; ++n) {
    T* x = op.x.row<T>(n);
    const std::uint8_t* const row = op.codes.row<std::uint8_t>(n);
    for (std::int64_t g = 0; g < groups; ++g) {
      const std::int64_t first = g * kCompressedGroup, columns = std::min(kCompressedGroup, op.x.columns - first);
      Ends ends{};
      std::memcpy(&ends, row + 4 * g, sizeof ends);
      unpack(row + 4 * groups + first * op.bits / 8, columns, op.bits, codes);
      const Range range(ends.low, ends.high, op.bits);
      const auto low = hn::Set(Float(), range.low), step = hn::Set(Float(), range.step);
      for_vectors(columns, [&](std::int64_t c, auto access) HWY_ATTR {
        const auto code = hn::ConvertTo(Float(), hn::PromoteTo(Integers(), hn::LoadU(Bytes(), codes + c)));
        access.store(hn::Add(hn::Mul(code, step), low), x + first + c);
      });
    }
  }
}

void compress(const Compress& op) { op.x.dtype == DType::bfloat16 ? compress_rows<BFloat16>(op) : compress_rows<float>(op); }
void decompress(const Decompress& op) { op.x.dtype == DType::bfloat16 ? decompress_rows<BFloat16>(op) : decompress_rows<float>(op); }

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(compress);
HWY_EXPORT(decompress);

void CpuBackend::do_compress(const Compress& op) { HWY_DYNAMIC_DISPATCH(compress)(op); }
void CpuBackend::do_decompress(const Decompress& op) { HWY_DYNAMIC_DISPATCH(decompress)(op); }

}  // namespace elastiform
#endif
