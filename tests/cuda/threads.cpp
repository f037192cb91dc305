#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "kernels/cuda/gpu.hpp"
#include "tests/cuda/launches.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/device_array.hpp"

namespace elastiform::ELASTIFORM_GPU {

namespace {

using Catch::Matchers::Contains;

GPU_KERNEL write_indices(unsigned int* out) {
  const unsigned int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}

GPU_KERNEL write_turns(int* turns, int* clock, int waits) {
  for (int i = 0; i < waits; ++i) __syncthreads();
  turns[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(clock, 1);
}

GPU_KERNEL rotate(const float* x, float* y) {
  SHARED(float, values, [64]);
  DYN_SHARED(float, more);
  values[threadIdx.x] = x[blockIdx.x * 64 + threadIdx.x];
  __syncthreads();
  more[threadIdx.x] = values[(threadIdx.x + 1) % 64];
  __syncthreads();
  y[blockIdx.x * 64 + threadIdx.x] = more[(threadIdx.x + 1) % 64];
}

GPU_KERNEL barriers_apart() {
  if (threadIdx.x < 3) __syncthreads();
  else __syncthreads();
}

GPU_KERNEL barrier_after_return() {
  if (threadIdx.x == 7) return;
  __syncthreads();
}

GPU_KERNEL throws_in_thread(int which) {
  if (static_cast<int>(threadIdx.x) == which) throw std::runtime_error("element 5 is missing");
  __syncthreads();
}

std::vector<int> turns_of(unsigned int blocks, unsigned int threads, int waits) {
  const DeviceArray<int> turns(std::vector<int>(blocks * threads)), clock(std::vector<int>{0});
  launch({"write_turns", {blocks}, {threads}}, write_turns, turns.data(), clock.data(), waits);
  return turns.values();
}

std::vector<int> counted(int n) {
  std::vector<int> numbers(static_cast<std::size_t>(n));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

}  // namespace

TEST_CASE("every thread of every block runs once with its indices", "[cuda]") {
  const DeviceArray<unsigned int> out(2 * 3 * 2 * 24);
  launch({"write_indices", {2, 3, 2}, {4, 3, 2}}, write_indices, out.data());
  const std::vector<unsigned int> values = out.values();
  for (unsigned int i = 0; i < values.size(); ++i) CHECK(values[i] == 1000 * (i / 24) + i % 24);
}

TEST_CASE("blocks and threads run in the order that is asked for", "[cuda]") {
  for (const int waits : {0, 1, 4}) {
    CHECK(turns_of(3, 40, waits) == counted(120));
    {
      const OrderGuard guard(Order::reverse);
      std::vector<int> expected = counted(120);
      std::reverse(expected.begin(), expected.end());
      CHECK(turns_of(3, 40, waits) == expected);
    }
    const OrderGuard guard(Order::shuffle, 1);
    const std::vector<int> shuffled = turns_of(3, 40, waits), again = turns_of(3, 40, waits);
    CHECK(shuffled != counted(120));
    CHECK(shuffled == again);
    set_order(Order::shuffle, 2);
    CHECK(turns_of(3, 40, waits) != shuffled);
    std::vector<int> sorted = shuffled;
    std::sort(sorted.begin(), sorted.end());
    CHECK(sorted == counted(120));
  }
}

TEST_CASE("barriers part the threads' work, in any order", "[cuda]") {
  std::vector<float> x(3 * 64);
  std::iota(x.begin(), x.end(), 0.0f);
  const DeviceArray<float> from(x), to(3 * 64);
  for (const Order order : {Order::forward, Order::reverse, Order::shuffle}) {
    const OrderGuard guard(order, 5);
    launch({"rotate", {3}, {64}, 64 * sizeof(float)}, rotate, from.data(), to.data());
    const std::vector<float> y = to.values();
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == static_cast<float>(i / 64 * 64 + (i + 2) % 64));
  }
}

TEST_CASE("barriers at different places are reported with both", "[cuda]") {
  launch({"barriers_apart", {2}, {32}}, barriers_apart);
  const std::string text = failure_of();
  CHECK_THAT(text, Contains("CUDA kernel barriers_apart on 2x1x1 blocks of 32x1x1 threads") && Contains("block (0,0,0), thread (3,0,0)") &&
                       Contains("divergent barrier") && Contains("thread (0,0,0) waits"));
  const std::size_t first = text.find("threads.cpp:"), second = text.find("threads.cpp:", first + 1);
  REQUIRE(second != std::string::npos);
  CHECK(std::stoi(text.substr(first + 12)) == std::stoi(text.substr(second + 12)) + 1);
  CHECK(failure_of().empty());  // told once
}

TEST_CASE("a barrier that some threads never reach is reported as a deadlock", "[cuda]") {
  launch({"barrier_after_return", {1}, {32}}, barrier_after_return);
  CHECK_THAT(failure_of(), Contains("thread (0,0,0): deadlock") && Contains("thread (7,0,0) ended before it") && Contains("threads.cpp:"));
}

TEST_CASE("an exception in a kernel ends the launch, and the next one runs", "[cuda]") {
  for (int i = 0; i < 20; ++i) {
    launch({"throws_in_thread", {2}, {40}}, throws_in_thread, 33);
    CHECK_THAT(failure_of(), Contains("throws_in_thread") && Contains("thread (33,0,0): element 5 is missing"));
    launch({"throws_in_thread", {2}, {40}}, throws_in_thread, -1);
    CHECK(failure_of().empty());
  }
}

TEST_CASE("a launch that a GPU refuses is refused", "[cuda]") {
  const auto attempt = [](Launch l) { launch(l, write_indices, static_cast<unsigned int*>(nullptr)); };
  CHECK_THROWS_WITH(attempt({"k", {0}, {32}}), Contains("1 to 2147483647 x 65535 x 65535 blocks"));
  CHECK_THROWS_WITH(attempt({"k", {1, 65536}, {32}}), Contains("k on 1x65536x1 blocks"));
  CHECK_THROWS_WITH(attempt({"k", {1}, {1025}}), Contains("1 to 1024 threads"));
  CHECK_THROWS_WITH(attempt({"k", {1}, {32, 33}}), Contains("1 to 1024 threads"));
  CHECK_THROWS_WITH(attempt({"k", {1}, {1, 1, 65}}), Contains("at most 64 in z"));
  CHECK_THROWS_WITH(attempt({"k", {1}, {32}, (227 << 10) + 1}), Contains("at most 232448 bytes of shared memory"));
  unsigned int host = 0;
  CHECK_THROWS_WITH(launch({"k", {1}, {1}}, write_indices, &host),
                    Contains("argument 1 is, or holds, a pointer to other memory than the device's"));
}

}  // namespace elastiform::ELASTIFORM_GPU
