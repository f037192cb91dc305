#include <algorithm>

#include "tests/cuda/planted/planted.hpp"

// Column sums of x[N, C] by blocks that keep two chunks of rows in flight with cp.async.
namespace elastiform::ELASTIFORM_GPU {

namespace {

enum Bug { kNone, kWaitsForOneLess, kNoBarrierAfterWait, kNoBarrierBeforeRefill, kNoCommit, kWholeTail, kSameBuffer, kMisaligned };

constexpr int kRows = 8, kColumns = 32;  // of a chunk: 64 threads copy 16 bytes each

/// sums[C] of the block's columns; C is a multiple of 4.
template <Bug BUG>
GPU_KERNEL sum_columns(float* sums, const float* x, int N, int C) {
  SHARED(float, chunk, [2][kRows][kColumns]);
  const int thread = static_cast<int>(threadIdx.x), row = thread / 8, column = thread % 8 * 4;
  const int first = static_cast<int>(blockIdx.x) * kColumns, chunks = (N + kRows - 1) / kRows;
  const auto begin_copy = [&](int i) {
    const int n = i * kRows + row, c = first + column;
    const bool inside = n < N && c < C;
    const int bytes = inside || BUG == kWholeTail ? 16 : 0;
    const int buffer = BUG == kSameBuffer ? 0 : i % 2;
    cp_async16(&chunk[buffer][row][column + (BUG == kMisaligned ? 2 : 0)], x + (inside || BUG == kWholeTail ? n * C + c : 0), bytes);
    if (BUG != kNoCommit) cp_async_commit();
  };
  begin_copy(0);
  float sum = 0;
  for (int i = 0; i < chunks; ++i) {
    if (i + 1 < chunks) begin_copy(i + 1);
    else cp_async_commit();
    cp_async_wait<BUG == kWaitsForOneLess ? 2 : 1>();
    if (BUG != kNoBarrierAfterWait) __syncthreads();
    const int buffer = BUG == kSameBuffer ? 0 : i % 2;
    if (thread < kColumns)
      for (int r = 0; r < kRows; ++r) sum += chunk[buffer][r][thread];
    if (BUG != kNoBarrierBeforeRefill) __syncthreads();
  }
  if (thread < kColumns && first + thread < C) sums[first + thread] = sum;
}

template <Bug BUG>
bool run() {
  constexpr int kN = 45, kC = 44;
  const std::vector<float> x = small_numbers(kN * kC);
  const DeviceArray<float> from(x), sums(kC);
  launch({"sum_columns", {(kC + kColumns - 1) / kColumns}, {64}}, sum_columns<BUG>, sums.data(), from.data(), kN, kC);
  const std::vector<float> got = sums.values();
  for (std::size_t c = 0; c < kC; ++c) {
    float sum = 0;
    for (std::size_t n = 0; n < kN; ++n) sum += x[n * kC + c];
    if (!(got[c] == sum)) return false;
  }
  return true;
}

}  // namespace

std::vector<Planted> planted_in_pipelines() {
  return {
      {"none: double buffer", 0, Sign::none, run<kNone>},
      {"waits for one group less", kAnyOrder, Sign::report, run<kWaitsForOneLess>},
      {"no barrier after the wait", kAnyOrder | kThreadSanitizer, Sign::wrong_result, run<kNoBarrierAfterWait>},
      {"no barrier before the buffer is filled again", kAnyOrder | kThreadSanitizer, Sign::wrong_result, run<kNoBarrierBeforeRefill>},
      {"copies are never committed", kAnyOrder, Sign::report, run<kNoCommit>},
      {"the tail is copied whole", kAnyOrder | kAddressSanitizer, Sign::wrong_result, run<kWholeTail>},
      {"both chunks use one buffer", kAnyOrder, Sign::report, run<kSameBuffer>},
      {"copies to an address that is no multiple of 16", kAnyOrder, Sign::report, run<kMisaligned>},
  };
}

}  // namespace elastiform::ELASTIFORM_GPU
