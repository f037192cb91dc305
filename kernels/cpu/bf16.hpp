#pragma once

#include <cstdint>

#include "kernels/view.hpp"

namespace elastiform::cpu {

/// Whether this CPU multiplies pairs of bf16 (AVX512_BF16) and ELASTIFORM_ISA lets it. Nothing else in this file may be called where it
/// does not.
bool has_bf16();

constexpr std::int64_t kBf16Panel = 16;        // rows or columns of a packed panel: the lanes of a register, the rows of an AMX tile
constexpr std::int64_t kBf16BlockDepth = 512;  // of K in one product: a row of A takes 1 KiB
constexpr std::int64_t kBf16Depth = 32;        // k that are packed together: the depth of an AMX tile

/// 32-bit words that n rows or columns of depth K take when packed.
constexpr std::int64_t bf16_words(std::int64_t n, std::int64_t K) {
  return (n + kBf16Panel - 1) / kBf16Panel * kBf16Panel * ((K + kBf16Depth - 1) / kBf16Depth * kBf16Depth / 2);
}

/// A is multiplied from the left, B from the right.
enum class Bf16Side : std::uint8_t { a, b };

/// An operand of n rows of A (or columns of B) of depth K, in float32 or bfloat16, rounded (to nearest, ties to even; denormals become
/// zero) into panels of 16, [panel][k/2][row]: a word holds elements k and k+1 of its row. What is missing in the last panel and in the
/// last 32 of K is zero. Where products are computed by AMX, A is [panel][k/32][row][k%32/2].
struct Bf16Pack {
  std::int64_t n = 0, K = 0;
  ConstView x;           // where it begins, its ld and dtype
  bool k_first = false;  // element (i, k) is x[k·ld + i], else x[i·ld + k]
  Bf16Side side = Bf16Side::b;
};
void pack_bf16(const Bf16Pack& op, std::uint32_t* packed);

/// What the next product reads, packed or still to be packed. A product asks for it meanwhile: rows of a weight are pages of their own,
/// where the hardware does not prefetch, and packing would wait for them.
using Bf16Next = ConstView;

/// c[M,N] (or, rounded, c16 with the same ldc) = scale · (before + A·B + bias[N]) + add, with packed A and B. The products of an element
/// are added in one chain of float32, k ascending (by AMX: even and odd k of 32 apart, then added to the chain), so its bits depend on its
/// row of A and column of B only. c may be before or add. a_depth and b_depth are the K that an operand was packed with where it is more
/// than this one: then a and b may point to a multiple of 32 of k in their first panels, and what the other operand meets beyond K must be
/// zero.
struct Bf16Product {
  float* c = nullptr;
  BFloat16* c16 = nullptr;  // instead of c
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

constexpr std::int64_t kBf16MaxColumns = 64;
/// How many columns of B to pack for one product where `left` are left: whole tiles, at most kBf16MaxColumns.
std::int64_t bf16_columns(std::int64_t left);

/// FLOP/s of one core in independent bf16 dot products.
double measure_bf16_peak();

}  // namespace elastiform::cpu
