#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/gpu.hpp"
#include "tests/cuda/launches.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/device_array.hpp"

namespace elastiform::ELASTIFORM_GPU {

namespace {

using Catch::Matchers::Contains;

enum class Kind { indexed, up, down, exclusive_or };

template <class T>
GPU_KERNEL shuffle_lanes(Kind kind, int argument, int width, T* out) {
  const T mine = static_cast<T>(100 + threadIdx.x);
  T got = mine;
  if (kind == Kind::indexed) got = __shfl_sync(kFullMask, mine, argument, width);
  if (kind == Kind::up) got = __shfl_up_sync(kFullMask, mine, static_cast<unsigned int>(argument), width);
  if (kind == Kind::down) got = __shfl_down_sync(kFullMask, mine, static_cast<unsigned int>(argument), width);
  if (kind == Kind::exclusive_or) got = __shfl_xor_sync(kFullMask, mine, argument, width);
  out[threadIdx.x] = got;
}

/// The lane that CUDA's manual names, written as the manual has it.
int expected_source(Kind kind, int lane, int argument, int width) {
  const int begin = lane / width * width;
  if (kind == Kind::indexed) return begin + argument % width;
  if (kind == Kind::up) return lane - argument < begin ? lane : lane - argument;
  if (kind == Kind::down) return lane + argument >= begin + width ? lane : lane + argument;
  return (lane ^ argument) >= begin + width ? lane : lane ^ argument;
}

GPU_KERNEL votes(unsigned int* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  if (lane < 16) {  // two halves at the same time, each with its mask
    out[threadIdx.x] = __ballot_sync(0x0000ffffu, lane % 3 == 0);
  } else {
    out[threadIdx.x] = __ballot_sync(0xffff0000u, lane % 2 == 0);
  }
  __syncwarp();
  out[64 + threadIdx.x] = static_cast<unsigned int>(__any_sync(kFullMask, lane == 7) + 2 * __any_sync(kFullMask, 0) +
                                                    4 * __all_sync(kFullMask, lane < 32) + 8 * __all_sync(kFullMask, lane < 31));
}

GPU_KERNEL exchange_through_memory(int* out) {
  SHARED(int, values, [64]);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncwarp();
  const int other = values[threadIdx.x ^ 1];
  __syncwarp();
  values[threadIdx.x] = 10 * other;
  __syncwarp();
  out[threadIdx.x] = values[threadIdx.x ^ 2];
}

enum class Fault { early_return, not_in_mask, other_operation, other_place, source_outside, short_block, barrier_instead, width };

GPU_KERNEL misuse(Fault fault, int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  int got = 0;
  if (fault == Fault::early_return && lane >= 20) return;
  if (fault == Fault::not_in_mask) got = __shfl_xor_sync(0x0000fffeu, lane, 1);
  if (fault == Fault::other_operation && lane == 3) __syncwarp();
  if (fault == Fault::other_place && lane == 3) got = __shfl_xor_sync(kFullMask, lane, 1);
  if (fault == Fault::source_outside && lane < 16) got = __shfl_down_sync(0x0000ffffu, lane, 1);
  if (fault == Fault::barrier_instead && lane >= 20) __syncthreads();
  if (fault == Fault::width) got = __shfl_xor_sync(kFullMask, lane, 1, 12);
  got += __shfl_xor_sync(kFullMask, lane, 1);
  out[lane] = got;
}

std::string failure_of_misuse(Fault fault, unsigned int threads = 32) {
  const DeviceArray<int> out(32);
  launch({"misuse", {1}, {threads}}, misuse, fault, out.data());
  return failure_of();
}

constexpr int kM = 16, kN = 8, kK = 16;

template <class T>
GPU_KERNEL multiply_once(const T* a, const T* b, const float* c, float* d, bool transposed_b) {
  SHARED(T, tile_a, [16][24]);  // rows 16-byte aligned
  SHARED(T, tile_b, [16][24]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < kM * kK; i += 32) tile_a[i / kK][i % kK] = a[i];
  for (int i = lane; i < kK * kN; i += 32) {
    if (transposed_b) tile_b[i % kN][i / kN] = b[i];  // as columns, what mma wants
    else tile_b[i / kN][i % kN] = b[i];
  }
  if (!transposed_b)
    for (int i = lane; i < kK * kN; i += 32) tile_b[i / kN][8 + i % kN] = T{};
  __syncwarp();
  std::uint32_t fragment_a[4], fragment_b[4];
  ldmatrix_x4(fragment_a, &tile_a[lane % 16][lane / 16 * 8]);
  if (transposed_b) ldmatrix_x4(fragment_b, &tile_b[lane % 8][lane / 8 % 2 * 8]);
  else ldmatrix_x4_trans(fragment_b, &tile_b[lane % 16][lane / 16 * 8]);
  float sums[4];
  for (int j = 0; j < 4; ++j) sums[j] = c[(lane / 4 + j / 2 * 8) * kN + lane % 4 * 2 + j % 2];
  mma_m16n8k16<T>(sums, fragment_a, fragment_b[0], fragment_b[1]);
  for (int j = 0; j < 4; ++j) d[(lane / 4 + j / 2 * 8) * kN + lane % 4 * 2 + j % 2] = sums[j];
}

template <class T>
void check_multiply(bool transposed_b) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-2, 2);
  std::vector<T> a(kM * kK), b(kK * kN);
  std::vector<float> c(kM * kN);
  for (T& x : a) x = from_float<T>(uniform(random));
  for (T& x : b) x = from_float<T>(uniform(random));
  for (float& x : c) x = uniform(random);
  const DeviceArray<T> device_a(a), device_b(b);
  const DeviceArray<float> device_c(c), d(kM * kN);
  launch({"multiply_once", {1}, {32}}, multiply_once<T>, device_a.data(), device_b.data(), device_c.data(), d.data(), transposed_b);
  const std::vector<float> got = d.values();
  for (int m = 0; m < kM; ++m) {
    for (int n = 0; n < kN; ++n) {
      float sum = c[static_cast<std::size_t>(m * kN + n)];
      for (int k = 0; k < kK; ++k)
        sum += to_float(a[static_cast<std::size_t>(m * kK + k)]) * to_float(b[static_cast<std::size_t>(k * kN + n)]);
      CHECK(got[static_cast<std::size_t>(m * kN + n)] == sum);
    }
  }
}

GPU_KERNEL load_registers(const std::uint16_t* x, std::uint32_t* out, bool transposed) {
  SHARED(std::uint16_t, tile, [4][8][8]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) tile[i / 64][i / 8 % 8][i % 8] = x[i];
  __syncwarp();
  std::uint32_t r[4];
  if (transposed) ldmatrix_x4_trans(r, tile[lane / 8][lane % 8]);
  else ldmatrix_x4(r, tile[lane / 8][lane % 8]);
  for (int j = 0; j < 4; ++j) out[4 * lane + j] = r[j];
}

GPU_KERNEL load_from(int offset) {
  SHARED(std::uint16_t, tile, [64]);
  std::uint32_t r[4];
  ldmatrix_x4(r, tile + offset);
}

}  // namespace

TEST_CASE("shuffles take the value of the lane that the manual names", "[cuda]") {
  const DeviceArray<int> ints(32);
  const DeviceArray<double> doubles(32);
  for (const Kind kind : {Kind::indexed, Kind::up, Kind::down, Kind::exclusive_or}) {
    for (const int width : {32, 16, 4, 1}) {
      for (const int argument : {0, 1, 3, 8, 16, 31}) {
        launch({"shuffle_lanes", {1}, {32}}, shuffle_lanes<int>, kind, argument, width, ints.data());
        launch({"shuffle_lanes", {1}, {32}}, shuffle_lanes<double>, kind, argument, width, doubles.data());
        const std::vector<int> got = ints.values();
        const std::vector<double> got_double = doubles.values();
        for (int lane = 0; lane < 32; ++lane) {
          CAPTURE(static_cast<int>(kind), width, argument, lane);
          CHECK(got[static_cast<std::size_t>(lane)] == 100 + expected_source(kind, lane, argument, width));
          CHECK(got_double[static_cast<std::size_t>(lane)] == 100 + expected_source(kind, lane, argument, width));
        }
      }
    }
  }
}

TEST_CASE("lanes vote within their masks", "[cuda]") {
  const DeviceArray<unsigned int> out(128);
  for (const Order order : {Order::forward, Order::reverse, Order::shuffle}) {
    const OrderGuard guard(order, 3);
    launch({"votes", {1}, {64}}, votes, out.data());
    const std::vector<unsigned int> got = out.values();
    for (std::size_t i = 0; i < 64; ++i) {
      CHECK(got[i] == (i % 32 < 16 ? 0x9249u : 0x55550000u));
      CHECK(got[64 + i] == 1 + 4);
    }
  }
}

TEST_CASE("__syncwarp parts the work of lanes, in any order", "[cuda]") {
  const DeviceArray<int> out(64);
  for (const Order order : {Order::forward, Order::reverse, Order::shuffle}) {
    const OrderGuard guard(order, 3);
    launch({"exchange_through_memory", {1}, {64}}, exchange_through_memory, out.data());
    const std::vector<int> got = out.values();
    for (int i = 0; i < 64; ++i) CHECK(got[static_cast<std::size_t>(i)] == 10 * (i ^ 3));
  }
}

TEST_CASE("lanes that do not meet as they should are reported", "[cuda]") {
  CHECK_THAT(failure_of_misuse(Fault::early_return), Contains("deadlock: waits in __shfl_xor_sync with mask 0xffffffff in ") &&
                                                         Contains("warp.cpp:") && Contains("for lane 20, which has ended"));
  CHECK_THAT(failure_of_misuse(Fault::not_in_mask),
             Contains("thread (0,0,0): __shfl_xor_sync in ") && Contains("with mask 0x0000fffe, which lacks the calling lane 0"));
  CHECK_THAT(failure_of_misuse(Fault::other_operation),
             Contains("lanes of a warp meet in different operations: lane 3 in __syncwarp") && Contains("lane 0 in __shfl_xor_sync"));
  CHECK_THAT(failure_of_misuse(Fault::other_place), Contains("lane 3 in __shfl_xor_sync") && Contains("lane 0 in __shfl_xor_sync"));
  CHECK_THAT(failure_of_misuse(Fault::source_outside), Contains("lane 15 reads lane 16, which the mask lacks"));
  CHECK_THAT(failure_of_misuse(Fault::short_block, 30), Contains("for lane 30, which the block does not have"));
  CHECK_THAT(failure_of_misuse(Fault::barrier_instead), Contains("for lane 20, which waits at the barrier in "));
  CHECK_THAT(failure_of_misuse(Fault::width), Contains("width 12 is no power of two up to 32"));
}

TEST_CASE("ldmatrix gives each lane what the PTX manual says", "[cuda]") {
  std::vector<std::uint16_t> x(256);
  std::iota(x.begin(), x.end(), std::uint16_t{1000});
  const DeviceArray<std::uint16_t> from(x);
  const DeviceArray<std::uint32_t> out(128);
  for (const bool transposed : {false, true}) {
    launch({"load_registers", {1}, {32}}, load_registers, from.data(), out.data(), transposed);
    const std::vector<std::uint32_t> got = out.values();
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
      for (std::uint32_t j = 0; j < 4; ++j) {
        const std::uint32_t row = lane / 4, column = 2 * (lane % 4);
        const std::uint32_t low = 1000 + 64 * j + (transposed ? 8 * column + row : 8 * row + column), high = low + (transposed ? 8 : 1);
        CHECK(got[4 * lane + j] == (low | high << 16));
      }
    }
  }
}

TEST_CASE("ldmatrix and mma together are a product of matrices", "[cuda]") {
  check_multiply<BFloat16>(true);
  check_multiply<BFloat16>(false);
  check_multiply<Float16>(true);
  check_multiply<Float16>(false);
}

TEST_CASE("ldmatrix from a wrong address is reported", "[cuda]") {
  launch({"load_from", {1}, {32}}, load_from, 4);
  CHECK_THAT(failure_of(), Contains("ldmatrix in ") && Contains("an address of shared memory is no multiple of 16"));
  launch({"load_from", {1}, {32}}, load_from, 64);
  CHECK_THAT(failure_of(), Contains("16 bytes that are not inside an array of shared memory"));
}

}  // namespace elastiform::ELASTIFORM_GPU
