#include <cstring>

#include "kernels/cuda/gpu.hpp"
#include "tests/gpu/instructions.hpp"
#include "tests/support/device_array.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

constexpr int kLanes = 32, kWordsOfLane = 64;

/// Places for the words of one lane, in turns.
struct Words {
  std::uint32_t* next;
};
GPU_FUNCTION void put(Words& to, std::uint32_t word) {
  *to.next = word;
  to.next += kLanes;
}
/// Any NaN is as good as another.
GPU_FUNCTION std::uint32_t bits(float x) {
  union {
    float number;
    std::uint32_t word;
  } both{x};
  return x == x ? both.word : 0x7fc00000u;
}

/// Matrices of small whole numbers: their products and sums are exact in any order.
template <class T>
GPU_KERNEL multiply_tiles(std::uint32_t* out) {
  SHARED(T, tile, [32][8]);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = 0; i < 8; ++i) tile[lane][i] = from_float<T>(static_cast<float>((lane * 8 + i) * 5 % 23 - 11));
  __syncwarp();
  Words words{out + lane};
  std::uint32_t a[4], b[4];
  ldmatrix_x4(a, tile[lane]);
  ldmatrix_x4_trans(b, tile[lane]);
  for (int i = 0; i < 4; ++i) put(words, a[i]), put(words, b[i]);
  for (int half = 0; half < 2; ++half) {
    float d[4];
    for (int i = 0; i < 4; ++i) d[i] = static_cast<float>(lane * 4 + i);
    mma_m16n8k16<T>(d, a, b[2 * half], b[2 * half + 1]);
    for (int i = 0; i < 4; ++i) put(words, bits(d[i]));
  }
}

GPU_KERNEL exchange(std::uint32_t* out) {
  const int lane = static_cast<int>(threadIdx.x);
  Words words{out + lane};
  for (int width = 4; width <= 32; width *= 2) {
    put(words, static_cast<std::uint32_t>(__shfl_sync(kFullMask, lane, 3, width)));
    put(words, static_cast<std::uint32_t>(__shfl_up_sync(kFullMask, lane, 3u, width)));
    put(words, static_cast<std::uint32_t>(__shfl_down_sync(kFullMask, lane, 3u, width)));
    put(words, static_cast<std::uint32_t>(__shfl_xor_sync(kFullMask, lane, 5, width)));
  }
  put(words, __ballot_sync(kFullMask, lane % 3 == 0));
  put(words, static_cast<std::uint32_t>(__any_sync(kFullMask, lane == 7) + 2 * __all_sync(kFullMask, lane < 31)));
}

/// 0, 4, … 16 of 16 bytes; zeros follow.
GPU_KERNEL copy_parts(std::uint32_t* out, const std::uint32_t* from) {
  SHARED(std::uint32_t, to, [32][4]);
  const int lane = static_cast<int>(threadIdx.x), bytes = lane % 5 * 4;
  cp_async16(to[lane], from + 4 * lane, bytes);
  cp_async_commit();
  cp_async_wait<0>();
  Words words{out + lane};
  for (int i = 0; i < 4; ++i) put(words, to[lane][i]);
}

/// Every number of 16 bits in float32, and float32 of its upper half with a lower half that is on, below or above a tie.
GPU_KERNEL convert(std::uint32_t* out) {
  const std::uint32_t half = blockIdx.x * kLanes + threadIdx.x;
  std::uint32_t* const to = out + 8 * half;
  to[0] = bits(to_float(BFloat16{static_cast<std::uint16_t>(half)}));
  to[1] = bits(to_float(Float16{static_cast<std::uint16_t>(half)}));
  constexpr std::uint32_t kLower[] = {0x8000u, 0x7fffu, 0x8001u};
  for (int i = 0; i < 3; ++i) {
    union {
      std::uint32_t word;
      float number;
    } both{half << 16 | kLower[i]};
    const float x = both.number;
    to[2 + 2 * i] = x == x ? from_float<BFloat16>(x).bits : 0u;
    both.word = (half >> 10 << 31) | ((half & 0x1ffu) + 0x66u) << 22 | (kLower[i] & 0x3fffu);  // the range of float16
    const float y = both.number;
    to[3 + 2 * i] = y == y ? from_float<Float16>(y).bits : 0u;
  }
}

}  // namespace

std::vector<std::uint32_t> bits_of_instructions() {
  std::vector<std::uint32_t> all, numbers(4 * kLanes);
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<std::uint32_t>(i * 2654435761u);
  const DeviceArray<std::uint32_t> from(numbers);
  const auto add = [&](const auto& launch_it, std::int64_t count) {
    const DeviceArray<std::uint32_t> out(std::vector<std::uint32_t>(static_cast<std::size_t>(count)));
    launch_it(out.data());
    const std::vector<std::uint32_t> words = out.values();
    all.insert(all.end(), words.begin(), words.end());
  };
  constexpr std::int64_t kWords = kLanes * kWordsOfLane;
  add([](std::uint32_t* out) { launch({"multiply_tiles", {1}, {kLanes}}, multiply_tiles<BFloat16>, out); }, kWords);
  add([](std::uint32_t* out) { launch({"multiply_tiles", {1}, {kLanes}}, multiply_tiles<Float16>, out); }, kWords);
  add([](std::uint32_t* out) { launch({"exchange", {1}, {kLanes}}, exchange, out); }, kWords);
  add([&](std::uint32_t* out) { launch({"copy_parts", {1}, {kLanes}}, copy_parts, out, from.data()); }, kWords);
  add([](std::uint32_t* out) { launch({"convert", {2048}, {kLanes}}, convert, out); }, 8 * 65536);
  return all;
}

}  // namespace elastiform::ELASTIFORM_GPU
