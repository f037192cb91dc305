#include <algorithm>

#include "tests/cuda/planted/planted.hpp"

// Column sums of x[N, C] by blocks that keep two chunks of rows in flight with cp.async: in two buffers that are filled again and again, or
// in one for each chunk, which nobody fills twice, so that only what is read too early can show.
namespace elastiform::ELASTIFORM_GPU {

namespace {

enum Bug {
  kNone,
  kWaitsForOneLess,
  kNoBarrierAfterWait,
  kNoBarrierBeforeRefill,
  kNoCommit,
  kWholeTail,
  kSameBuffer,
  kMisaligned,
  kDoesNotAsk,
  kNoneOfMany,  // with a buffer for each chunk from here on
  kWaitsForOneLessOfMany,
  kNoCommitOfMany,
};

constexpr int kRows = 8, kColumns = 32;  // of a chunk: 64 threads copy 16 bytes each
constexpr int kN = 45, kC = 44, kChunks = (kN + kRows - 1) / kRows;
constexpr int buffers_of(Bug bug) { return bug == kSameBuffer ? 1 : bug >= kNoneOfMany ? kChunks : 2; }

/// sums[C] of the block's columns; C is a multiple of 4.
template <Bug BUG>
GPU_KERNEL sum_columns(float* sums, const float* x, int N, int C) {
  constexpr int kBuffers = buffers_of(BUG);
  constexpr bool kCommits = BUG != kNoCommit && BUG != kNoCommitOfMany,
                 kWaitsForLess = BUG == kWaitsForOneLess || BUG == kWaitsForOneLessOfMany;
  SHARED(float, chunk, [kBuffers][kRows][kColumns]);
  const int thread = static_cast<int>(threadIdx.x), row = thread / 8, column = thread % 8 * 4;
  const int first = static_cast<int>(blockIdx.x) * kColumns, chunks = (N + kRows - 1) / kRows;
  const auto begin_copy = [&](int i) {
    const int n = i * kRows + row, c = first + column;
    const bool inside = n < N && c < C;
    const int bytes = inside || BUG == kWholeTail ? 16 : 0;
    cp_async16(&chunk[i % kBuffers][row][column + (BUG == kMisaligned ? 2 : 0)], x + (inside || BUG == kWholeTail ? n * C + c : 0), bytes);
    if (kCommits) cp_async_commit();
  };
  begin_copy(0);
  float sum = 0;
  for (int i = 0; i < chunks; ++i) {
    if (i + 1 < chunks) begin_copy(i + 1);
    else cp_async_commit();
    cp_async_wait<kWaitsForLess ? 2 : 1>();
    if (BUG != kNoBarrierAfterWait) __syncthreads();
    if (thread < kColumns)
      for (int r = 0; r < kRows; ++r) sum += chunk[i % kBuffers][r][thread];
    if (BUG != kNoBarrierBeforeRefill) __syncthreads();
  }
  if (thread < kColumns && first + thread < C) sums[first + thread] = sum;
}

template <Bug BUG>
bool run() {
  const std::vector<float> x = small_numbers(kN * kC);
  const DeviceArray<float> from(x), sums(kC);
  Launch how{"sum_columns", {(kC + kColumns - 1) / kColumns}, {64}};
  if (BUG == kDoesNotAsk) how.shared_bytes = 47 << 10, how.asks = false;  // and 2 KiB of chunks
  launch(how, sum_columns<BUG>, sums.data(), from.data(), kN, kC);
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
      {"a launch does not ask for more than 48 KiB of shared memory", kAnyOrder, Sign::report, run<kDoesNotAsk>},
      {"none: a buffer for each chunk", 0, Sign::none, run<kNoneOfMany>},
      {"waits for one group less, with a buffer for each chunk", kAnyOrder, Sign::wrong_result, run<kWaitsForOneLessOfMany>},
      {"copies are never committed, with a buffer for each chunk", kAnyOrder, Sign::wrong_result, run<kNoCommitOfMany>},
  };
}

}  // namespace elastiform::ELASTIFORM_GPU
