#pragma once

#include <cstdint>

namespace elastiform::cpu {

/// Whether this CPU multiplies pairs of bf16 (AVX512_BF16) and ELASTIFORM_ISA lets it. Nothing else in this file may be called where it does not.
bool has_bf16();

constexpr std::int64_t kBf16Panel = 16;        // rows or columns of a packed panel: the lanes of a register
constexpr std::int64_t kBf16TileColumns = 48;  // three panels: the widest tile

/// 32-bit words that n rows or columns of depth K take when packed.
constexpr std::int64_t bf16_words(std::int64_t n, std::int64_t K) { return (n + kBf16Panel - 1) / kBf16Panel * kBf16Panel * ((K + 1) / 2); }

/// An operand of n rows (or columns) of depth K, rounded to bf16 (to nearest, ties to even; denormals become zero) into panels of 16,
/// [panel][k/2][row]: a word holds elements k and k+1 of its row. What is missing in the last panel and in an odd K is zero.
struct Bf16Pack {
  std::int64_t n = 0, K = 0;
  const float* x = nullptr;
  std::int64_t ld = 0;
  bool k_first = false;  // element (i, k) is x[k·ld + i], else x[i·ld + k]
};
void pack_bf16(const Bf16Pack& op, std::uint32_t* packed);

/// A matrix that will be packed next. A product asks for it meanwhile: rows of a weight are pages of their own, where the hardware does not
/// prefetch, and packing that waits for them took 16 % of a training step instead of 12.
struct Bf16Next {
  const float* x = nullptr;
  std::int64_t ld = 0, rows = 0, columns = 0;
};

/// c[M,N] = scale · (before + A·B + bias[N]) + add, with packed A and B. The products of an element are added in one chain of float32, k
/// ascending, so its bits depend on its row of A and column of B only. c may be before or add. a_depth and b_depth are the K that an
/// operand was packed with where it is more than this one: then a or b may point to an even k of its
/// first panel, and K is even or ends where the pack ends.
struct Bf16Product {
  float* c = nullptr;
  std::int64_t ldc = 0, M = 0, N = 0, K = 0;
  const std::uint32_t* a = nullptr;
  const std::uint32_t* b = nullptr;
  std::int64_t a_depth = 0, b_depth = 0;
  const float* before = nullptr;
  std::int64_t ldbefore = 0;
  const float* bias = nullptr;
  float scale = 1;
  const float* add = nullptr;
  std::int64_t ldadd = 0;
  Bf16Next next = {};
};
void multiply_bf16(const Bf16Product& op);

/// FLOP/s of one core in independent bf16 dot products.
double measure_bf16_peak();

}  // namespace elastiform::cpu
