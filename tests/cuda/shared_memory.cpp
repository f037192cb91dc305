#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "kernels/cuda/gpu.hpp"
#include "tests/cuda/launches.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/device_array.hpp"
#include "tests/support/sanitized.hpp"

namespace elastiform::ELASTIFORM_GPU {

namespace {

using Catch::Matchers::Contains;

/// out: whether each array still holds NaN; then what thread 0 wrote there, for the next block not to find.
GPU_KERNEL read_unwritten(unsigned int* out) {
  SHARED(float, one, );
  SHARED(float, grid, [3][5]);
  DYN_SHARED(double, more);
  const unsigned int i = blockIdx.x * 32 + threadIdx.x;
  out[i] = (isnan(one) ? 1u : 0u) + (isnan(grid[threadIdx.x % 3][threadIdx.x % 5]) ? 2u : 0u) + (isnan(more[threadIdx.x]) ? 4u : 0u);
  __syncthreads();
  if (threadIdx.x == 0) one = 1;
  if (threadIdx.x < 15) grid[threadIdx.x / 5][threadIdx.x % 5] = 1;
  more[threadIdx.x] = 1;
}

template <int N>
GPU_KERNEL claim(char* out) {
  SHARED(char, a, [N]);
  SHARED(char, b, [N]);
  if (threadIdx.x != 0) return;
  a[0] = b[0] = 1;
  out[0] = a[0];
}

GPU_FUNCTION float* same_array() {
  SHARED(float, inside, [32]);
  return inside;
}
GPU_KERNEL arrays_of_functions(int* out) {
  SHARED(float, mine, [32]);
  float* const first = same_array();
  float* const second = same_array();
  out[threadIdx.x] = first == second && first != mine ? 1 : 0;
}

[[maybe_unused]] GPU_KERNEL write_behind(char* out, int i) {
  SHARED(char, small, [10]);
  char* const p = small;
  p[i] = 1;
  out[0] = p[0];
}

/// Sums rows of 32 · stages floats, `stages` of them in flight; WAIT is how many groups may stay unfinished.
template <int WAIT>
GPU_KERNEL sum_in_stages(const float* x, float* sums, int stages) {
  SHARED(float, stage, [2][32 * 4]);
  const float* const row = x + blockIdx.x * static_cast<unsigned int>(stages) * 128;
  cp_async16(&stage[0][threadIdx.x * 4], row + threadIdx.x * 4);
  cp_async_commit();
  float sum = 0;
  for (int i = 0; i < stages; ++i) {
    if (i + 1 < stages) cp_async16(&stage[(i + 1) % 2][threadIdx.x * 4], row + (i + 1) * 128 + threadIdx.x * 4);
    cp_async_commit();
    cp_async_wait<WAIT>();
    __syncthreads();
    for (int k = 0; k < 4; ++k) sum += stage[i % 2][k * 32 + threadIdx.x];
    __syncthreads();
  }
  sums[blockIdx.x * 32 + threadIdx.x] = sum;
}

GPU_KERNEL copy_some_bytes(const float* x, float* y, int bytes) {
  SHARED(float, four, [4]);
  cp_async16(four, bytes == 0 ? nullptr : x, bytes);
  cp_async_commit();
  cp_async_wait<0>();
  for (int i = 0; i < 4; ++i) y[i] = four[i];
}

enum class Fault { none, shared_address, misaligned, misaligned_source, bytes, beyond, in_flight };
GPU_KERNEL misuse_copy(const float* x, Fault fault) {
  SHARED(float, four, [8]);
  float local[4];
  if (fault == Fault::shared_address) cp_async16(local, x);
  if (fault == Fault::misaligned) cp_async16(four + 1, x);
  if (fault == Fault::misaligned_source) cp_async16(four, x + 1);
  if (fault == Fault::bytes) cp_async16(four, x, 17);
  if (fault == Fault::beyond) cp_async16(four + 8, x);
  if (fault == Fault::in_flight) cp_async16(four, x), cp_async16(four, x + 4);
  cp_async_commit();
  cp_async_wait<0>();
}

}  // namespace

TEST_CASE("shared memory holds NaN when a block begins", "[cuda]") {
  const DeviceArray<unsigned int> out(5 * 32);
  launch({"read_unwritten", {5}, {32}, 32 * sizeof(double)}, read_unwritten, out.data());
  for (const unsigned int flags : out.values()) CHECK(flags == 7);
}

TEST_CASE("an array belongs to its declaration", "[cuda]") {
  const DeviceArray<int> out(32);
  launch({"arrays_of_functions", {1}, {32}}, arrays_of_functions, out.data());
  CHECK(out.values() == std::vector<int>(32, 1));
}

TEST_CASE("more shared memory than a GPU has is refused", "[cuda]") {
  const DeviceArray<char> out(1);
  launch({"claim", {1}, {32}, 179 << 10}, claim<(24 << 10)>, out.data());
  CHECK(failure_of().empty());
  launch({"claim", {1}, {32}, (179 << 10) + 16}, claim<(24 << 10)>, out.data());
  CHECK_THAT(failure_of(), Contains("with array b the block has 49152 bytes of arrays and 183312 dynamic bytes") && Contains("16 more"));
  // Up to 48 KiB in all need no asking, and a launch that does not ask for its dynamic part has no more: 48 KiB of these and 1 KiB of arrays
  // are the gradients of attention's keys.
  launch({.name = "claim", .grid = {1}, .block = {32}, .shared_bytes = 47 << 10, .asks = false}, claim<512>, out.data());
  CHECK(failure_of().empty());
  launch({"claim", {1}, {32}, 48 << 10}, claim<512>, out.data());
  CHECK(failure_of().empty());
  launch({.name = "claim", .grid = {1}, .block = {32}, .shared_bytes = 48 << 10, .asks = false}, claim<512>, out.data());
  CHECK_THAT(failure_of(), Contains("with array a the block has 512 bytes of arrays and 49152 dynamic bytes in shared memory, 512 more") &&
                               Contains("for a launch that does not ask"));
  CHECK_THROWS_WITH(
      launch({.name = "claim", .grid = {1}, .block = {32}, .shared_bytes = (48 << 10) + 16, .asks = false}, claim<512>, out.data()),
      Contains("a launch that does not ask has 49152 bytes"));
  launch({"claim", {1}, {32}}, claim<(24 << 10) + 1>, out.data());
  CHECK_THAT(failure_of(), Contains("with array b the block has 49154 bytes of arrays in shared memory, of which 49152 are allowed"));
}

#if !ELASTIFORM_SANITIZED  // AddressSanitizer ends the process
TEST_CASE("who writes behind an array in shared memory is told", "[cuda]") {
  const DeviceArray<char> out(1);
  launch({"write_behind", {1}, {1}}, write_behind, out.data(), 9);
  CHECK(failure_of().empty());
  launch({"write_behind", {2}, {1}}, write_behind, out.data(), 10);
  CHECK_THAT(failure_of(), Contains("block (0,0,0): small has 10 bytes of shared memory, and byte 10 was written"));
}
#endif

TEST_CASE("cp.async arrives when it has been waited for", "[cuda]") {
  constexpr int kStages = 5;
  std::vector<float> x(3 * kStages * 128);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 37);
  const DeviceArray<float> from(x), sums(3 * 32);
  for (const Order order : {Order::forward, Order::reverse, Order::shuffle}) {
    const OrderGuard guard(order, 11);
    launch({"sum_in_stages", {3}, {32}}, sum_in_stages<1>, from.data(), sums.data(), kStages);
    const std::vector<float> got = sums.values();
    for (std::size_t i = 0; i < got.size(); ++i) {
      float expected = 0;
      for (std::size_t k = 0; k < 4 * kStages; ++k) expected += x[i / 32 * kStages * 128 + k * 32 + i % 32];
      CHECK(got[i] == expected);
    }
  }
  launch({"sum_in_stages", {3}, {32}}, sum_in_stages<2>, from.data(), sums.data(), 1);  // waits for one group too few
  for (const float sum : sums.values()) CHECK(std::isnan(sum));
}

TEST_CASE("cp.async of fewer than 16 bytes appends zeros", "[cuda]") {
  const DeviceArray<float> from(std::vector<float>{1, 2, 3, 4}), to(4);
  for (const int bytes : {0, 4, 8, 16}) {
    launch({"copy_some_bytes", {1}, {1}}, copy_some_bytes, from.data(), to.data(), bytes);
    const std::vector<float> got = to.values();
    for (int i = 0; i < 4; ++i) CHECK(got[static_cast<std::size_t>(i)] == (4 * i < bytes ? static_cast<float>(i + 1) : 0.0f));
  }
}

TEST_CASE("cp.async to or from a wrong address is reported", "[cuda]") {
  const DeviceArray<float> from(std::vector<float>(8));
  const auto failure = [&](Fault fault) {
    launch({"misuse_copy", {1}, {1}}, misuse_copy, from.data(), fault);
    return failure_of();
  };
  CHECK(failure(Fault::none).empty());
  CHECK_THAT(failure(Fault::shared_address), Contains("cp.async in ") && Contains("shared memory"));
  CHECK_THAT(failure(Fault::misaligned), Contains("an address of shared memory is no multiple of 16"));
  CHECK_THAT(failure(Fault::misaligned_source), Contains("an address of global memory is no multiple of 16"));
  CHECK_THAT(failure(Fault::bytes), Contains("17 of 16 bytes"));
  CHECK_THAT(failure(Fault::in_flight), Contains("to where another one is in flight"));
  CHECK_THAT(failure(Fault::beyond), Contains("16 bytes that are not inside an array of shared memory"));
}

TEST_CASE("16-bit numbers are rounded to nearest, ties to even", "[cuda]") {
  const auto bfloat16 = [](float x) { return from_float<BFloat16>(x).bits; };
  const auto float16 = [](float x) { return from_float<Float16>(x).bits; };
  CHECK(bfloat16(1.0f) == 0x3f80);
  CHECK(bfloat16(1.00390625f) == 0x3f80);  // half an ulp above 1: to even
  CHECK(bfloat16(1.01171875f) == 0x3f82);  // half an ulp above 1.0078125: to even
  CHECK(bfloat16(1.00390637f) == 0x3f81);
  CHECK(bfloat16(3.4e38f) == 0x7f80);
  CHECK(bfloat16(NAN) == 0x7fff);
  CHECK(float16(-65504.0f) == 0xfbff);
  CHECK(float16(65519.996f) == 0x7bff);
  CHECK(float16(65520.0f) == 0x7c00);
  CHECK(float16(0x1p-24f) == 0x0001);
  CHECK(float16(0x1p-25f) == 0x0000);  // half of the smallest: to even
  CHECK(float16(0x1.8p-24f) == 0x0002);
  CHECK(float16(-0x1.ffcp-15f) == 0x8400);  // rounds up to the smallest normal
  CHECK(float16(0x1.ff8p-15f) == 0x03ff);
  CHECK(float16(-INFINITY) == 0xfc00);
  CHECK(float16(NAN) == 0x7fff);
  for (std::uint32_t i = 0; i < 0x10000; ++i) {  // every value of 16 bits comes back
    const auto bits = static_cast<std::uint16_t>(i);
    const float b = to_float(BFloat16{bits}), h = to_float(Float16{bits});
    if (!(std::isnan(b) || bfloat16(b) == bits)) FAIL_CHECK(i);
    if (!(std::isnan(h) || float16(h) == bits)) FAIL_CHECK(i);
    if (std::isnan(h) != ((bits & 0x7fff) > 0x7c00)) FAIL_CHECK(i);
  }
}

}  // namespace elastiform::ELASTIFORM_GPU
