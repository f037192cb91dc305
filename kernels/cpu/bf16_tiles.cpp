// Products of bf16 on AMX, the tile registers of Intel's processors since 2023: sixteen times the FLOPs of AVX-512, so what surrounds the
// products decides. Highway has no tiles.
#include "kernels/cpu/bf16_tiles.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "kernels/cpu/identity.hpp"

namespace elastiform::cpu {
namespace {

bool& tiles_allowed() {
  static bool allowed = cpu_offers_bf16_tiles() && has_bf16() && isa_allows_tiles();
  return allowed;
}

}  // namespace

bool has_bf16_tiles() { return tiles_allowed(); }
void allow_bf16_tiles(bool allowed) { tiles_allowed() = allowed && cpu_offers_bf16_tiles() && has_bf16() && isa_allows_tiles(); }

}  // namespace elastiform::cpu

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <hwy/base.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace elastiform::cpu {
namespace {

bool cpu_has_amx() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  return (d >> 22 & 1u) != 0 && (d >> 24 & 1u) != 0;  // AMX-BF16, AMX-TILE
}

/// Linux gives a process the tile registers when it asks (Documentation/arch/x86/xstate.rst).
bool ask_for_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

bool cpu_offers_bf16_tiles() {
  static const bool found = cpu_has_amx() && ask_for_tiles();
  return found;
}

#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC bug 105593: its own _mm512_undefined_epi32
#endif
HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512bf16,amx-tile,amx-bf16")
namespace {

constexpr std::int64_t kTileWords = kBf16Panel * kBf16Depth / 2;
constexpr int kLine = 64;  // bytes of a row of a tile

/// All eight tiles whole: operands are filled up with zeros, results are cut when they are written. A thread keeps its configuration: a
/// worker multiplies again within microseconds, and what switching threads costs more (8 KiB) is nothing beside a product.
void configure() {
  thread_local bool done = false;
  if (done) return;
  struct alignas(64) Configuration {
    std::uint8_t palette, start_row, reserved[14];
    std::uint16_t row_bytes[16];
    std::uint8_t rows[16];
  };
  // Static: GCC's intrinsic does not tell the compiler that it reads more than a word of it.
  static constexpr Configuration kConfiguration{
      1, 0, {}, {kLine, kLine, kLine, kLine, kLine, kLine, kLine, kLine}, {16, 16, 16, 16, 16, 16, 16, 16}};
  static_assert(sizeof kConfiguration == 64);
  _tile_loadconfig(&kConfiguration);
  done = true;
}

/// Where a block of c begins from and where its sums go.
struct Block {
  const Bf16Product& op;
  const float* initial;  // in the sums before the first product; may be null
  std::int64_t ldinitial;
  bool direct;  // the sums are the result

  explicit Block(const Bf16Product& product) : op(product), initial(product.before), ldinitial(product.ldbefore) {
    direct = !op.bias && op.scale == 1 && (!op.add || !op.before);
    if (direct && op.add) initial = op.add, ldinitial = op.ldadd;
  }
};

/// GCC's tile intrinsics do not tell the compiler which memory they read and write.
void memory_barrier() { __asm__ volatile("" ::: "memory"); }

/// Rows of x, at most 16 by 16, as a whole tile in `tile`.
void read_part(const float* x, std::int64_t ld, std::int64_t rows, __mmask16 here, float* tile) {
  memory_barrier();
  for (std::int64_t r = 0; r < kBf16Panel; ++r)
    _mm512_store_ps(tile + r * kBf16Panel, r < rows ? _mm512_maskz_loadu_ps(here, x + r * ld) : _mm512_setzero_ps());
  memory_barrier();
}

void write_part(const Block& block, std::int64_t row, std::int64_t column, std::int64_t rows, __mmask16 here, const float* tile) {
  const Bf16Product& op = block.op;
  const __m512 bias = op.bias ? _mm512_maskz_loadu_ps(here, op.bias + column) : _mm512_setzero_ps();
  const __m512 scale = _mm512_set1_ps(op.scale);
  const std::int64_t at = row * op.ldc + column;
  const float* add = block.direct || !op.add ? nullptr : op.add + row * op.ldadd + column;
  for (std::int64_t r = 0; r < rows; ++r) {
    __m512 sum = _mm512_load_ps(tile + r * kBf16Panel);
    if (!block.direct) sum = _mm512_mul_ps(_mm512_add_ps(sum, bias), scale);
    if (add) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(here, add + r * op.ldadd));
    if (op.c16) _mm256_mask_storeu_epi16(op.c16 + at + r * op.ldc, here, (__m256i)_mm512_cvtneps_pbh(sum));
    else _mm512_mask_storeu_ps(op.c + at + r * op.ldc, here, sum);
  }
}

// The number of a tile register is part of the instruction, so these are macros: C in 0-3, A in 4 and 5, B in 6 and 7.
#define ELASTIFORM_BEGIN(t, dr, dc)                                                                                             \
  if (dr < kRows && dc < kColumns) {                                                                                            \
    const std::int64_t row = m + 16 * dr, column = n + 16 * dc;                                                                 \
    if (!block.initial) _tile_zero(t);                                                                                          \
    else if (whole) _tile_loadd(t, block.initial + row * block.ldinitial + column, 4 * block.ldinitial);                        \
    else {                                                                                                                      \
      read_part(block.initial + row * block.ldinitial + column, block.ldinitial, op.M - row, first_lanes(op.N - column), part); \
      _tile_loadd(t, part, kLine);                                                                                              \
    }                                                                                                                           \
  }
#define ELASTIFORM_END(t, dr, dc)                                                                               \
  if (dr < kRows && dc < kColumns) {                                                                            \
    const std::int64_t row = m + 16 * dr, column = n + 16 * dc;                                                 \
    if (whole && block.direct && op.c) _tile_stored(t, op.c + row * op.ldc + column, 4 * op.ldc);               \
    else {                                                                                                      \
      _tile_stored(t, part, kLine);                                                                             \
      write_part(block, row, column, std::min<std::int64_t>(16, op.M - row), first_lanes(op.N - column), part); \
    }                                                                                                           \
  }

constexpr std::int64_t kTwoPanels = 2 * kBf16Panel;

/// What is asked for during a block, evenly over its steps: in bursts these requests hold up the tiles' own loads. A part of what is packed
/// next; and of the block that follows the lines of c and of what is added to it, which otherwise stop the core as they are needed at once.
class Meanwhile {
 public:
  explicit Meanwhile(const Block& block) : block_(block), next_(block.op.next), steps_((block.op.K + kBf16Depth - 1) / kBf16Depth) {
    const auto blocks = [](std::int64_t n) { return (n + kTwoPanels - 1) / kTwoPanels; };
    next_rate_ = rate(next_, steps_ * blocks(block.op.M) * blocks(block.op.N));
  }
  /// The block that follows begins at row m and column n, if it is inside c.
  void follow(std::int64_t m, std::int64_t n) {
    const Bf16Product& op = block_.op;
    const std::int64_t rows = std::min(kTwoPanels, op.M - m), columns = std::min(kTwoPanels, op.N - n);
    result_ = added_ = Bf16Fetch({});
    if (rows <= 0 || columns <= 0) return;
    const std::int64_t at = m * op.ldc + n;
    result_ = Bf16Fetch(op.c16 ? view_of(op.c16 + at, rows, columns, op.ldc) : view_of(op.c + at, rows, columns, op.ldc));
    const float* added = block_.direct ? block_.initial : op.add;
    const std::int64_t ld = block_.direct ? block_.ldinitial : op.ldadd;
    added_ = Bf16Fetch(added && added != op.c ? view_of(added + m * ld + n, rows, columns, ld) : ConstView());
    result_rate_ = rate(result_, steps_), added_rate_ = rate(added_, steps_);
  }
  void step() {
    for (std::int64_t i = 0; i < next_rate_; ++i) next_.line();
    for (std::int64_t i = 0; i < result_rate_; ++i) result_.line();
    for (std::int64_t i = 0; i < added_rate_; ++i) added_.line();
  }

 private:
  static std::int64_t rate(const Bf16Fetch& fetch, std::int64_t steps) {
    return (fetch.lines() + steps - 1) / std::max<std::int64_t>(steps, 1);
  }

  const Block& block_;
  Bf16Fetch next_, result_{{}}, added_{{}};
  std::int64_t steps_, next_rate_ = 0, result_rate_ = 0, added_rate_ = 0;
};

/// A block of c from row m and column n, kRows by kColumns tiles.
template <int kRows, int kColumns>
void multiply_block(const Block& block, std::int64_t m, std::int64_t n, Meanwhile& meanwhile) {
  const Bf16Product& op = block.op;
  const std::int64_t a_panel = bf16_words(kBf16Panel, std::max(op.K, op.a_depth));
  const std::int64_t b_panel = bf16_words(kBf16Panel, std::max(op.K, op.b_depth));
  const std::uint32_t *a = op.a + m / kBf16Panel * a_panel, *b = op.b + n / kBf16Panel * b_panel;
  const bool whole = m + 16 * kRows <= op.M && n + 16 * kColumns <= op.N;
  alignas(64) float part[kBf16Panel * kBf16Panel];
  memory_barrier();
  ELASTIFORM_BEGIN(0, 0, 0)
  ELASTIFORM_BEGIN(1, 0, 1)
  ELASTIFORM_BEGIN(2, 1, 0)
  ELASTIFORM_BEGIN(3, 1, 1)
  for (std::int64_t k = 0; k < op.K; k += kBf16Depth, a += kTileWords, b += kTileWords) {
    meanwhile.step();
    _tile_loadd(6, b, kLine);
    _tile_loadd(4, a, kLine);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kColumns > 1) {
      _tile_loadd(7, b + b_panel, kLine);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRows > 1) {
      _tile_loadd(5, a + a_panel, kLine);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kColumns > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
  ELASTIFORM_END(0, 0, 0)
  ELASTIFORM_END(1, 0, 1)
  ELASTIFORM_END(2, 1, 0)
  ELASTIFORM_END(3, 1, 1)
  memory_barrier();
}
#undef ELASTIFORM_BEGIN
#undef ELASTIFORM_END

}  // namespace

void multiply_bf16_tiles(const Bf16Product& op) {
  configure();
  const Block block(op);
  Meanwhile meanwhile(block);
  // The columns' panels, at most 32 KiB each pair, stay in L1 while A passes from L2.
  for (std::int64_t n = 0; n < op.N; n += kTwoPanels)
    for (std::int64_t m = 0; m < op.M; m += kTwoPanels) {
      const bool tall = op.M - m > kBf16Panel, wide = op.N - n > kBf16Panel, last = m + kTwoPanels >= op.M;
      meanwhile.follow(last ? 0 : m + kTwoPanels, last ? n + kTwoPanels : n);
      if (tall && wide) multiply_block<2, 2>(block, m, n, meanwhile);
      else if (tall) multiply_block<2, 1>(block, m, n, meanwhile);
      else if (wide) multiply_block<1, 2>(block, m, n, meanwhile);
      else multiply_block<1, 1>(block, m, n, meanwhile);
    }
}

double bf16_tiles_loop(long repeats, float* sink) {
  configure();
  alignas(64) float sums[kBf16Panel * kBf16Panel] = {};
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(5);
  _tile_zero(6);
  _tile_zero(7);
  for (long n = 0; n < repeats; n += 64) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, kLine);
  *sink = sums[0];
  return 4.0 * 2 * 16 * 16 * kBf16Depth * static_cast<double>((repeats + 63) / 64);
}

HWY_POP_ATTRIBUTES

}  // namespace elastiform::cpu

#else

namespace elastiform::cpu {

bool cpu_offers_bf16_tiles() { return false; }
void multiply_bf16_tiles(const Bf16Product&) { throw std::logic_error("multiply_bf16_tiles on a CPU without AMX"); }
double bf16_tiles_loop(long, float*) { return 0; }

}  // namespace elastiform::cpu

#endif
