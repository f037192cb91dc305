// Numbers rounded to a narrower format and kept in float32 (kernels/ops/rounding.hpp).
#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/philox.hpp"
#include "kernels/cuda/strided.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

/// A power of two is added, and taken away again, whose last bit is the one that x keeps.
struct Nearest {
  std::uint32_t least = 0, to_last_bit = 0;
  float largest = 0, overflow = 0;
};

GPU_FUNCTION float nearest(const Nearest& format, float x) {
  if (x != x) return x;
  const float magnitude = fabsf(x), capped = fminf(magnitude, 4 * format.largest);
  const std::uint32_t exponent = __float_as_uint(capped) & 0x7f800000u;
  const float shift = __uint_as_float((exponent > format.least ? exponent : format.least) + format.to_last_bit);
  const float rounded = __fadd_rn(__fadd_rn(capped, shift), -shift);
  return copysignf(rounded > format.largest ? format.overflow : rounded, x);
}

GPU_FUNCTION float stochastic(float x, std::uint32_t noise) {
  if (!(fabsf(x) <= 3.40282347e+38f)) return x;
  return __uint_as_float((__float_as_uint(x) + noise) & 0xffff0000u);
}

GPU_KERNEL nearest_kernel(Strided<float> y, Strided<const float> x, Extent extent, Nearest format, float scale) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t c) {
    float v[kFour];
    load_four(v, x, n, c, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) v[i] = __fdiv_rn(nearest(format, __fmul_rn(v[i], scale)), scale);
    store_four(y, n, c, extent, v);
  });
}

struct NoiseOf {
  PhiloxKey key;
  std::uint32_t name0 = 0, name1 = 0;
  std::int64_t first_row = 0, first_column = 0;
};

GPU_KERNEL stochastic_kernel(Strided<float> y, Strided<const float> x, Extent extent, NoiseOf noise, float scale) {
  constexpr std::int64_t kGroup = kCompressedGroup;
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t c) {
    float v[kFour];
    load_four(v, x, n, c, extent);
    for (int i = 0; i < kFour; ++i) {
      const std::int64_t column = noise.first_column + c + i;
      const std::uint32_t in = static_cast<std::uint32_t>(column % kGroup);
      std::uint32_t words[4];
      philox(words,
             {{static_cast<std::uint32_t>(column / kGroup * 32) + in % 32, static_cast<std::uint32_t>(noise.first_row + n), noise.name0,
               noise.name1}},
             noise.key);
      const std::uint32_t half = words[in / 64] >> (in / 32 % 2 * 16) & 0xffffu;
      v[i] = __fdiv_rn(stochastic(__fmul_rn(v[i], scale), half), scale);
    }
    store_four(y, n, c, extent, v);
  });
}

Nearest nearest_of(const Round& op) {
  const FormatLimits limits = limits_of(op.format);
  const float infinity = __builtin_inff(), nan = __builtin_nanf("");
  return {static_cast<std::uint32_t>(limits.least_exponent + 127) << 23, static_cast<std::uint32_t>(24 - limits.significant_bits) << 23,
          limits.largest,
          op.saturates          ? limits.largest
          : limits.has_infinity ? infinity
                                : nan};
}

}  // namespace

void round(Stream stream, const Round& op) {
  const Extent extent{op.x.rows, op.x.columns, all_aligned(op.y, op.x)};
  const Launch over = over_groups(op.kName, extent.rows, extent.columns, stream);
  const float scale = static_cast<float>(op.scale);
  if (op.format != NumberFormat::bfloat16_stochastic)
    return launch(over, nearest_kernel, strided<float>(op.y), strided<float>(op.x), extent, nearest_of(op), scale);
  const NoiseOf noise{philox_key(op.noise.seed), op.noise.name[0], op.noise.name[1], op.first_row, op.first_column};
  launch(over, stochastic_kernel, strided<float>(op.y), strided<float>(op.x), extent, noise, scale);
}

}  // namespace elastiform::ELASTIFORM_GPU
