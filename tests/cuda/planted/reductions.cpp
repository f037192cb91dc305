#include "tests/cuda/planted/planted.hpp"

// Sums over a block and over a grid: gradients of a norm, a histogram, a block reduction used twice, the last block's sum.
namespace elastiform::ELASTIFORM_GPU {

namespace {

enum Bug {
  kNone,
  kNoBarrierAfterZeroing,
  kSharedAddNotAtomic,
  kGlobalAddNotAtomic,
  kNotZeroed,
  kBufferReused,
  kBarrierInBranch,
  kBarrierInUnevenLoop,
  kNoBarrierAfterCounting,
  kTooLittleShared,
  kNoFence,
  kOrderOfAtomics
};

/// dgain[C] += Σ_n dy[n, C] · x[n, C]: each block sums some rows in shared memory first.
template <Bug BUG>
GPU_KERNEL gain_gradient(float* dgain, const float* dy, const float* x, int N, int C) {
  SHARED(float, sums, [64]);
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < C && BUG != kNotZeroed) sums[thread] = 0;
  if (BUG != kNoBarrierAfterZeroing) __syncthreads();
  for (int i = thread; i < 8 * C; i += static_cast<int>(blockDim.x)) {
    const int n = static_cast<int>(blockIdx.x) * 8 + i / C, c = i % C;
    if (n >= N) continue;
    const float product = dy[n * C + c] * x[n * C + c];
    if (BUG == kSharedAddNotAtomic) sums[c] += product;
    else atomicAdd(&sums[c], product);
  }
  __syncthreads();
  if (thread >= C) return;
  if (BUG == kGlobalAddNotAtomic) dgain[thread] += sums[thread];
  else atomicAdd(&dgain[thread], sums[thread]);
}

template <Bug BUG>
bool run_gain() {
  constexpr std::size_t kN = 30, kC = 40;
  const std::vector<float> dy = small_numbers(kN * kC), x = small_numbers(kN * kC, 2);
  const DeviceArray<float> device_dy(dy), device_x(x), dgain(std::vector<float>(kC, 1.0f));
  launch({"gain_gradient", {(kN + 7) / 8}, {96}}, gain_gradient<BUG>, dgain.data(), device_dy.data(), device_x.data(), static_cast<int>(kN),
         static_cast<int>(kC));
  const std::vector<float> got = dgain.values();
  for (std::size_t c = 0; c < kC; ++c) {
    float sum = 1;
    for (std::size_t n = 0; n < kN; ++n) sum += dy[n * kC + c] * x[n * kC + c];
    if (!(got[c] == sum)) return false;
  }
  return true;
}

template <Bug BUG>
GPU_FUNCTION float block_sum(float x) {
  SHARED(float, partial, [4]);
  for (int m = 16; m > 0; m /= 2) x += __shfl_xor_sync(kFullMask, x, m);
  if (BUG != kBufferReused) __syncthreads();  // the last call's readers are done
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = x;
  __syncthreads();
  return partial[0] + partial[1] + partial[2] + partial[3];
}

/// y[row] = Σ x² - Σ x of a row of C numbers.
template <Bug BUG>
GPU_KERNEL two_sums(float* y, const float* x, int C) {
  const int thread = static_cast<int>(threadIdx.x);
  float sum = 0, squares = 0;
  for (int c = thread; c < C; c += 128) {
    const float value = x[static_cast<int>(blockIdx.x) * C + c];
    sum += value;
    squares += value * value;
    if (BUG == kBarrierInUnevenLoop) __syncthreads();
  }
  float total = 0;
  if (BUG == kBarrierInBranch && thread >= 64) total = block_sum<kNone>(squares) - block_sum<kNone>(sum);
  else total = block_sum<BUG>(squares) - block_sum<BUG>(sum);
  if (BUG == kBarrierInBranch) {
    if (thread < 64) __syncthreads();
    else __syncthreads();
  }
  if (thread == 0) y[blockIdx.x] = total;
}

template <Bug BUG>
bool run_two_sums() {
  constexpr std::size_t kN = 3, kC = 200;
  const std::vector<float> x = small_numbers(kN * kC);
  const DeviceArray<float> from(x), to(kN);
  launch({"two_sums", {kN}, {128}}, two_sums<BUG>, to.data(), from.data(), static_cast<int>(kC));
  const std::vector<float> got = to.values();
  for (std::size_t n = 0; n < kN; ++n) {
    float expected = 0;
    for (std::size_t c = 0; c < kC; ++c) expected += x[n * kC + c] * x[n * kC + c] - x[n * kC + c];
    if (!(got[n] == expected)) return false;
  }
  return true;
}

/// counts[b] += how often b is in x.
template <Bug BUG>
GPU_KERNEL count_numbers(int* counts, const float* x, int N) {
  DYN_SHARED(int, mine);
  if (threadIdx.x < 7) mine[threadIdx.x] = 0;
  __syncthreads();
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < N) atomicAdd(&mine[static_cast<int>(x[i])], 1);
  if (BUG != kNoBarrierAfterCounting) __syncthreads();
  if (threadIdx.x < 7) atomicAdd(&counts[threadIdx.x], mine[threadIdx.x]);
}

template <Bug BUG>
bool run_histogram() {
  constexpr std::size_t kN = 300;
  const std::vector<float> x = small_numbers(kN);
  const DeviceArray<float> from(x);
  const DeviceArray<int> counts(std::vector<int>(7));
  launch({"count_numbers", {(kN + 127) / 128}, {128}, BUG == kTooLittleShared ? 20u : 28u}, count_numbers<BUG>, counts.data(), from.data(),
         static_cast<int>(kN));
  std::vector<int> expected(7);
  for (const float value : x) ++expected[static_cast<std::size_t>(value)];
  return counts.values() == expected;
}

/// total[0] = Σ x: the block that comes last adds what the others have left; or all add as they come.
template <Bug BUG>
GPU_KERNEL grid_sum(float* total, float* partial, unsigned int* arrived, const float* x) {
  SHARED(unsigned int, before, );
  float sum = x[blockIdx.x * 32 + threadIdx.x];
  for (int m = 16; m > 0; m /= 2) sum += __shfl_xor_sync(kFullMask, sum, m);
  if (BUG == kOrderOfAtomics) {
    if (threadIdx.x == 0) atomicAdd(total, sum);
    return;
  }
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    if (BUG != kNoFence) __threadfence();
    before = atomicAdd(arrived, 1u);
    if (BUG != kNoFence) __threadfence();
  }
  __syncthreads();
  if (before != gridDim.x - 1 || threadIdx.x != 0) return;
  float all = 0;
  for (unsigned int i = 0; i < gridDim.x; ++i) all += partial[i];
  total[0] = all;
}

template <Bug BUG>
bool run_grid_sum() {
  constexpr std::size_t kBlocks = 33;
  std::vector<float> x(kBlocks * 32);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1.0f / static_cast<float>(3 + i);  // sums depend on their order
  const DeviceArray<float> from(x), total(std::vector<float>{0}), partial(kBlocks);
  const DeviceArray<unsigned int> arrived(std::vector<unsigned int>{0});
  launch({"grid_sum", {kBlocks}, {32}}, grid_sum<BUG>, total.data(), partial.data(), arrived.data(), from.data());
  float expected = 0;
  for (std::size_t block = 0; block < kBlocks; ++block) {
    float lanes[32];
    for (std::size_t lane = 0; lane < 32; ++lane) lanes[lane] = x[block * 32 + lane];
    for (std::size_t m = 16; m > 0; m /= 2)
      for (std::size_t lane = 0; lane < m; ++lane) lanes[lane] += lanes[lane + m];
    expected += lanes[0];
  }
  return total.values()[0] == expected;
}

}  // namespace

std::vector<Planted> planted_in_reductions() {
  return {
      {"none: gradient of a gain", 0, Sign::none, run_gain<kNone>},
      {"no barrier after shared memory is zeroed", kAnyOrder | kThreadSanitizer, Sign::wrong_result, run_gain<kNoBarrierAfterZeroing>},
      {"+= in shared memory that is not atomic", kThreadSanitizer, Sign::none, run_gain<kSharedAddNotAtomic>},
      {"+= across blocks that is not atomic", kThreadSanitizer, Sign::none, run_gain<kGlobalAddNotAtomic>},
      {"shared memory is not zeroed", kAnyOrder, Sign::wrong_result, run_gain<kNotZeroed>},
      {"none: block reduction", 0, Sign::none, run_two_sums<kNone>},
      {"a reduction's buffer is used again too early", kReverse | kThreadSanitizer, Sign::wrong_result, run_two_sums<kBufferReused>},
      {"a barrier in both branches", kAnyOrder, Sign::report, run_two_sums<kBarrierInBranch>},
      {"a barrier in a loop that some threads leave early", kAnyOrder, Sign::report, run_two_sums<kBarrierInUnevenLoop>},
      {"none: histogram", 0, Sign::none, run_histogram<kNone>},
      {"no barrier after counting", kAnyOrder | kThreadSanitizer, Sign::wrong_result, run_histogram<kNoBarrierAfterCounting>},
      {"less dynamic shared memory than is used", kAnyOrder | kAddressSanitizer, Sign::report, run_histogram<kTooLittleShared>},
      {"none: sum of a grid", 0, Sign::none, run_grid_sum<kNone>},
      {"no fence around the counter of blocks", kThreadSanitizer, Sign::none, run_grid_sum<kNoFence>},
      {"a sum in the order in which blocks come", kReverse | kShuffle, Sign::wrong_result, run_grid_sum<kOrderOfAtomics>},
  };
}

}  // namespace elastiform::ELASTIFORM_GPU
