// Rows of activations as codes of 8, 4 or 2 bits and back (kernels/ops/compression.hpp). A warp a group: lane k has the columns k, k + 32, …
// of it, which is how the random numbers lie, and neighbouring lanes put their codes into one byte.
#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/philox.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/strided.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

constexpr int kGroup = static_cast<int>(kCompressedGroup);
constexpr int kOfLane = kGroup / kWarp;
constexpr int kWarpsOfBlock = 4;

struct GroupRange {
  float low = 0, step = 0, scale = 0;
};

GPU_FUNCTION GroupRange range_of(std::uint32_t ends, int bits) {
  GroupRange range;
  const float levels = static_cast<float>((1 << bits) - 1);
  range.low = __uint_as_float(ends << 16);
  const float width = __fsub_rn(__uint_as_float(ends & 0xffff0000u), range.low);
  range.step = width < kLeastRange ? 0.0f : __fdiv_rn(width, levels);
  range.scale = width < kLeastRange ? 0.0f : __fdiv_rn(levels, width);
  return range;
}

/// The upper half of a number's bits, rounded away from zero if `away`.
GPU_FUNCTION std::uint32_t cut(float x, bool away_if_negative) {
  const std::uint32_t bits = __float_as_uint(x);
  const bool away = (bits >> 31 != 0) == away_if_negative;
  return (bits >> 16) + (away && (bits & 0xffffu) != 0 ? 1u : 0u);
}

/// The ends of n ≤ 256 elements of which the lane has every 32nd, the lower in the lower half.
GPU_FUNCTION std::uint32_t ends_of(const float (&x)[kOfLane], int n) {
  float least = 3.40282347e+38f, largest = -least;
  int infinite = 0;
#pragma unroll
  for (int i = 0; i < kOfLane; ++i) {
    if (i * kWarp + static_cast<int>(threadIdx.x) >= n) continue;
    least = fminf(least, x[i]);
    largest = fmaxf(largest, x[i]);
    infinite |= x[i] - x[i] == 0.0f ? 0 : 1;
  }
  least = -warp_max(-least);
  largest = warp_max(largest);
  if (__any_sync(kFullMask, infinite)) return 0x7fff7fffu;
  return cut(least, true) | cut(largest, false) << 16;
}

/// `bits` of each lane, for columns c + lane: neighbours meet in one byte, which the first of them writes.
GPU_FUNCTION void store_codes(unsigned char* codes, int c, int n, std::uint32_t code, int bits) {
  for (int width = bits, distance = 1; width < 8; width *= 2, distance *= 2)
    code |= __shfl_down_sync(kFullMask, code, static_cast<unsigned int>(distance)) << width;
  const int lane = static_cast<int>(threadIdx.x), column = c + lane;
  if (column < n && lane % (8 / bits) == 0) codes[column * bits / 8] = static_cast<unsigned char>(code);
}

template <class T>
GPU_KERNEL compress_kernel(Strided<unsigned char> codes, Strided<const T> x, Extent extent, std::int64_t groups, int bits, PhiloxKey key,
                           std::uint32_t name0, std::uint32_t name1, std::uint32_t first_row) {
  const std::int64_t warp = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (warp >= extent.rows * groups) return;  // the whole warp
  const std::int64_t row = warp / groups, group = warp - row * groups;
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t first = group * kGroup;
  const int n = static_cast<int>(extent.columns - first < kGroup ? extent.columns - first : kGroup);
  const T* const source = x.data + row * x.ld + first;
  unsigned char* const target = codes.data + row * codes.ld;
  float values[kOfLane];
#pragma unroll
  for (int i = 0; i < kOfLane; ++i) values[i] = i * kWarp + lane < n ? to_float(source[i * kWarp + lane]) : 0.0f;
  const std::uint32_t ends = ends_of(values, n);
  if (lane < 4) target[4 * group + lane] = static_cast<unsigned char>(ends >> (8 * lane));
  const GroupRange range = range_of(ends, bits);
  const float levels = static_cast<float>((1 << bits) - 1);
  std::uint32_t words[4];
  philox(words,
         {{static_cast<std::uint32_t>(first / 8) + static_cast<std::uint32_t>(lane), first_row + static_cast<std::uint32_t>(row), name0,
           name1}},
         key);
  unsigned char* const packed = target + 4 * groups + first * bits / 8;
#pragma unroll
  for (int i = 0; i < kOfLane; ++i) {
    const std::uint32_t half = words[i / 2] >> (16 * (i % 2)) & 0xffffu;
    const float u = __fmul_rn(__fadd_rn(static_cast<float>(half), 0.5f), 1.0f / 65536);
    const float steps = __fadd_rn(__fmul_rn(__fsub_rn(values[i], range.low), range.scale), u);
    const bool present = i * kWarp + lane < n && steps >= 0.0f;  // NaN: code 0
    store_codes(packed, i * kWarp, n, present ? static_cast<std::uint32_t>(fminf(steps, levels)) : 0u, bits);
  }
}

template <class T>
GPU_KERNEL decompress_kernel(Strided<T> x, Strided<const unsigned char> codes, Extent extent, std::int64_t groups, int bits) {
  const std::int64_t warp = static_cast<std::int64_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (warp >= extent.rows * groups) return;  // the whole warp
  const std::int64_t row = warp / groups, group = warp - row * groups, first = group * kGroup;
  const int lane = static_cast<int>(threadIdx.x);
  const int n = static_cast<int>(extent.columns - first < kGroup ? extent.columns - first : kGroup);
  const unsigned char* const source = codes.data + row * codes.ld;
  std::uint32_t ends = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) ends |= static_cast<std::uint32_t>(source[4 * group + i]) << (8 * i);
  const GroupRange range = range_of(ends, bits);
  const unsigned char* const packed = source + 4 * groups + first * bits / 8;
  T* const target = x.data + row * x.ld + first;
#pragma unroll
  for (int i = 0; i < kOfLane; ++i) {
    const int column = i * kWarp + lane;
    if (column >= n) continue;
    const std::uint32_t code = static_cast<std::uint32_t>(packed[column * bits / 8]) >> (column * bits % 8) & ((1u << bits) - 1u);
    target[column] = from_float<T>(__fadd_rn(__fmul_rn(static_cast<float>(code), range.step), range.low));
  }
}

Launch over_compressed(const char* name, std::int64_t warps, Stream stream) {
  Launch l{.name = name, .grid = {}, .block = {.x = kWarp, .y = kWarpsOfBlock}, .stream = stream};
  l.grid.x = static_cast<unsigned int>((warps + kWarpsOfBlock - 1) / kWarpsOfBlock);
  return l;
}

}  // namespace

void compress(Stream stream, const Compress& op) {
  const Extent extent{op.x.rows, op.x.columns, false};
  const std::int64_t groups = compressed_groups(op.x.columns);
  dispatch_storage(op.x.dtype, [&]<class T>() {
    launch(over_compressed(op.kName, op.x.rows * groups, stream), compress_kernel<T>, strided<std::uint8_t>(op.codes), strided<T>(op.x),
           extent, groups, op.bits, philox_key(op.noise.seed), op.noise.name[0], op.noise.name[1],
           static_cast<std::uint32_t>(op.first_row));
  });
}

void decompress(Stream stream, const Decompress& op) {
  const Extent extent{op.x.rows, op.x.columns, false};
  const std::int64_t groups = compressed_groups(op.x.columns);
  dispatch_storage(op.x.dtype, [&]<class T>() {
    launch(over_compressed(op.kName, op.x.rows * groups, stream), decompress_kernel<T>, strided<T>(op.x), strided<std::uint8_t>(op.codes),
           extent, groups, op.bits);
  });
}

}  // namespace elastiform::ELASTIFORM_GPU
