// Intrinsics here and in bf16_tiles.cpp only: Highway 1.0.3 has no native bf16 dot product and no rounding conversion (its
// ReorderWidenMulAccumulate shifts and multiplies in float32, its DemoteTo truncates), and the instruction is what makes bf16 twice as fast
// as float32.
#include "kernels/cpu/bf16.hpp"

#include <algorithm>
#include <chrono>
#include <stdexcept>

#include "kernels/cpu/bf16_tiles.hpp"
#include "kernels/cpu/identity.hpp"

#if defined(__x86_64__)
#include <hwy/base.h>
#include <immintrin.h>

namespace elastiform::cpu {

bool has_bf16() {
  // Attention calls these functions between vector code that must have the same 16 lanes: none where ELASTIFORM_ISA asks for less.
  static const bool found = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                            __builtin_cpu_supports("avx512bf16") && isa_name(Precision::f32).rfind("AVX3", 0) == 0;
  return found;
}

#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC bug 105593: its own _mm512_undefined_epi32
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512bf16")
namespace {

constexpr std::int64_t panel_words(std::int64_t K) { return bf16_words(kBf16Panel, K); }
constexpr std::int64_t whole_depth(std::int64_t K) { return (K + kBf16Depth - 1) / kBf16Depth * kBf16Depth; }

/// Lanes 0-15 from `low`, 16-31 from `high`.
__m512i rounded(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

/// 16 elements of `low` and 16 of `high`.
__m512i load_two(const float* low, const float* high, __mmask16 of_low, __mmask16 of_high) {
  return rounded(_mm512_maskz_loadu_ps(of_low, low), _mm512_maskz_loadu_ps(of_high, high));
}
__m512i load_two(const BFloat16* low, const BFloat16* high, __mmask16 of_low, __mmask16 of_high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi16(of_low, low)), _mm256_maskz_loadu_epi16(of_high, high), 1);
}

/// Words of two rows of x that follow each other in k; `second` null: zero.
template <class T>
void pack_pair(const T* first, const T* second, std::int64_t n, std::int64_t panel_words, std::uint32_t* out) {
  alignas(64) static constexpr std::uint16_t kInterleave[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                                8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  const __m512i order = _mm512_load_si512(kInterleave);
  for (std::int64_t i = 0; i < n; i += kBf16Panel, out += panel_words) {
    const __mmask16 here = first_lanes(n - i);
    const __m512i words = load_two(first + i, (second ? second : first) + i, here, second ? here : __mmask16{0});
    _mm512_storeu_si512(out, _mm512_permutexvar_epi16(order, words));
  }
}

/// Up to three panels of columns, one row of x for each k.
template <class T>
void pack_columns(std::int64_t columns, std::int64_t K, const T* x, std::int64_t ld, std::uint32_t* out) {
  constexpr std::int64_t kAhead = 16;  // rows of a matrix are pages of their own, where the hardware does not prefetch
  std::int64_t k = 0;
  for (; k < K; k += 2, x += 2 * ld, out += kBf16Panel) {
    if (k + kAhead + 1 < K)
      for (std::int64_t i = 0; i < columns; i += kBf16Panel) {
        __builtin_prefetch(x + kAhead * ld + i);
        __builtin_prefetch(x + (kAhead + 1) * ld + i);
      }
    pack_pair(x, k + 1 < K ? x + ld : nullptr, columns, panel_words(K), out);
  }
  for (; k < whole_depth(K); k += 2, out += kBf16Panel)
    for (std::int64_t i = 0; i < columns; i += kBf16Panel)
      _mm512_storeu_si512(out + i / kBf16Panel * panel_words(K), _mm512_setzero_si512());
}

/// 16 rows of 16 words become 16 words of each row.
void transpose_words(__m512i (&x)[16]) {
  __m512i y[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 2) {
    y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
    y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i += 4) {
    x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
    x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
    x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
    x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 4; ++i) {
    y[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
    y[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
    y[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
    y[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
  }
#pragma GCC unroll 16
  for (int i = 0; i < 4; ++i) {
    x[i] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0x88);
    x[i + 8] = _mm512_shuffle_i32x4(y[i], y[i + 8], 0xdd);
    x[i + 4] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0x88);
    x[i + 12] = _mm512_shuffle_i32x4(y[i + 4], y[i + 12], 0xdd);
  }
}

/// One panel of rows that lie along k; transposed: a word's row beside it.
template <bool kTransposed, class T>
void pack_rows(std::int64_t rows, std::int64_t K, const T* x, std::int64_t ld, std::uint32_t* out) {
  for (std::int64_t k = 0; k < K; k += kBf16Depth, out += kBf16Panel * kBf16Depth / 2) {
    const __mmask16 low = first_lanes(K - k), high = first_lanes(K - k - 16);
    __m512i words[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      const T* row = x + i * ld + k;
      words[i] = i < rows ? load_two(row, row + 16, low, high) : _mm512_setzero_si512();
    }
    if constexpr (kTransposed) transpose_words(words);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) _mm512_storeu_si512(out + i * kBf16Panel, words[i]);
  }
}

/// Words of [panel][k/2][row] become [panel][k/32][row][k%32/2].
void transpose_tiles(std::uint32_t* words, std::int64_t count) {
  for (; count > 0; count -= kBf16Panel * kBf16Depth / 2, words += kBf16Panel * kBf16Depth / 2) {
    __m512i tile[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) tile[i] = _mm512_loadu_si512(words + i * kBf16Panel);
    transpose_words(tile);
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) _mm512_storeu_si512(words + i * kBf16Panel, tile[i]);
  }
}

void write_vector(const Bf16Product& op, __m512 sum, std::int64_t r, std::int64_t column, __mmask16 here) {
  if (op.before) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(here, op.before + r * op.ldbefore + column));
  if (op.bias) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(here, op.bias + column));
  sum = _mm512_mul_ps(sum, _mm512_set1_ps(op.scale));
  if (op.add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(here, op.add + r * op.ldadd + column));
  if (op.c16) return _mm256_mask_storeu_epi16(op.c16 + r * op.ldc + column, here, (__m256i)_mm512_cvtneps_pbh(sum));
  float* c = op.c + r * op.ldc + column;
  if (here == 0xffff) _mm512_storeu_ps(c, sum);
  else _mm512_mask_storeu_ps(c, here, sum);
}

/// Rows r … r+kRows, of one panel of A, by kVectors panels of B. Registers: 24 sums, three vectors of B, a broadcast of A.
template <int kRows, int kVectors>
void tile(const Bf16Product& op, std::int64_t r, std::int64_t column, Bf16Fetch& fetch) {
  const std::int64_t pairs = (op.K + 1) / 2, panel = panel_words(std::max(op.K, op.b_depth));
  const std::uint32_t* a = op.a + r / kBf16Panel * panel_words(std::max(op.K, op.a_depth)) + r % kBf16Panel;
  const std::uint32_t* b = op.b + column / kBf16Panel * panel;
  // Lines of c arrive while the product is computed instead of when it is stored.
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t at = (r + i) * op.ldc + std::min(column + v * kBf16Panel, op.N - 1);
      __builtin_prefetch(op.c16 ? static_cast<const void*>(op.c16 + at) : op.c + at, 1);
    }
  __m512 sums[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) sums[i][v] = _mm512_setzero_ps();
  for (std::int64_t p = 0; p < pairs; ++p, a += kBf16Panel, b += kBf16Panel) {
    fetch.line();
    __m512bh row[kVectors];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) row[v] = (__m512bh)_mm512_loadu_si512(b + v * panel);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const __m512bh x = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[i]));
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sums[i][v] = _mm512_dpbf16_ps(sums[i][v], x, row[v]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
      const std::int64_t at = column + v * kBf16Panel;
      write_vector(op, sums[i][v], r + i, at, v + 1 < kVectors ? 0xffff : first_lanes(op.N - at));
    }
}

/// All rows of kVectors panels of B; what is left below the last full tile by halves, as the bits do not depend on it.
template <int kRows, int kVectors>
void tile_rows(const Bf16Product& op, std::int64_t r, std::int64_t column, Bf16Fetch& fetch) {
  for (; r + kRows <= op.M; r += kRows) tile<kRows, kVectors>(op, r, column, fetch);
  if constexpr (kRows > 1) {
    if (r < op.M) tile_rows<kRows / 2, kVectors>(op, r, column, fetch);
  }
}

double dot_loop(long repeats, float* sink) {
  constexpr int kChains = 12;  // of a latency of six cycles
  __m512 sums[kChains];
  const __m512bh x = (__m512bh)_mm512_set1_epi32(0x3c003c00), y = (__m512bh)_mm512_set1_epi32(0x3f803f80);
#pragma GCC unroll 16
  for (int i = 0; i < kChains; ++i) sums[i] = _mm512_set1_ps(static_cast<float>(i));
  for (long n = 0; n < repeats; ++n)
#pragma GCC unroll 16
    for (int i = 0; i < kChains; ++i) sums[i] = _mm512_dpbf16_ps(sums[i], x, y);
#pragma GCC unroll 16
  for (int i = 1; i < kChains; ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  *sink = _mm512_cvtss_f32(sums[0]);
  return 64.0 * kChains * static_cast<double>(repeats);
}

}  // namespace

template <class T>
static void pack(const Bf16Pack& op, std::uint32_t* packed) {
  const std::int64_t panel = panel_words(op.K), ld = op.x.ld;
  const bool tiles = op.side == Bf16Side::a && has_bf16_tiles();
  const T* x = op.x.row<T>(0);
  if (!op.k_first) {
    for (std::int64_t i = 0; i < op.n; i += kBf16Panel, packed += panel)
      (tiles ? pack_rows<false, T> : pack_rows<true, T>)(std::min(kBf16Panel, op.n - i), op.K, x + i * ld, ld, packed);
    return;
  }
  // Three panels at a time: they lie a multiple of 4 KiB apart, and more of them fight for the same lines of L1 (0.6 cycles an element for
  // 24 panels, 0.27 for three).
  constexpr std::int64_t kColumns = 3 * kBf16Panel;
  for (std::int64_t i = 0; i < op.n; i += kColumns, packed += 3 * panel) {
    const std::int64_t columns = std::min(kColumns, op.n - i);
    pack_columns(columns, op.K, x + i, ld, packed);
    if (tiles) transpose_tiles(packed, bf16_words(columns, op.K));
  }
}

void pack_bf16(const Bf16Pack& op, std::uint32_t* packed) {
  op.x.dtype == DType::bfloat16 ? pack<BFloat16>(op, packed) : pack<float>(op, packed);
}

void multiply_bf16(const Bf16Product& op) {
  if (has_bf16_tiles()) return multiply_bf16_tiles(op);
  constexpr std::int64_t kTwo = 2 * kBf16Panel, kThree = 3 * kBf16Panel;
  Bf16Fetch fetch(op.next);
  for (std::int64_t n = 0; n < op.N;) {
    const std::int64_t left = op.N - n;
    if (left <= kBf16Panel) {
      tile_rows<8, 1>(op, 0, n, fetch);
      n += kBf16Panel;
    } else if (left <= kTwo || (left > kThree && left <= 2 * kTwo)) {  // four panels are cut into 2 + 2
      tile_rows<8, 2>(op, 0, n, fetch);
      n += kTwo;
    } else {
      tile_rows<8, 3>(op, 0, n, fetch);
      n += kThree;
    }
  }
}

std::int64_t bf16_columns(std::int64_t left) {
  if (has_bf16_tiles()) return std::min(left, kBf16MaxColumns);
  return left > 3 * kBf16Panel && left <= 4 * kBf16Panel ? 2 * kBf16Panel : std::min(3 * kBf16Panel, left);
}

HWY_POP_ATTRIBUTES

double measure_bf16_peak() {
  const auto loop = has_bf16_tiles() ? bf16_tiles_loop : dot_loop;
  double best = 0;
  volatile float sink = 0;
  for (int repeat = 0; repeat < 20; ++repeat) {  // short ones: another program may take the core during a long one
    float sum = 0;
    const auto start = std::chrono::steady_clock::now();
    const double operations = loop(500'000, &sum);
    sink = sum;
    best = std::max(best, operations / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  static_cast<void>(sink);
  return best;
}

}  // namespace elastiform::cpu

#else

namespace elastiform::cpu {

bool has_bf16() { return false; }
void pack_bf16(const Bf16Pack&, std::uint32_t*) { throw std::logic_error("pack_bf16 on a CPU without bf16"); }
void multiply_bf16(const Bf16Product&) { throw std::logic_error("multiply_bf16 on a CPU without bf16"); }
std::int64_t bf16_columns(std::int64_t left) { return left; }
double measure_bf16_peak() { return 0; }

}  // namespace elastiform::cpu

#endif
