// Dropout: a thread four columns, whose random words are one call of Philox; bits depend on no order.
#include <array>

#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/strided.hpp"
#include "kernels/random.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

/// Dropout::counter() and key() of every element of a call.
struct Mask {
  std::uint64_t first_row = 0;
  std::uint32_t word1 = 0, word2 = 0, word3 = 0;  // without what the row and the group add
  std::uint32_t key0 = 0, key1 = 0;
  std::uint32_t threshold = 0;
  float scale = 1;
};

GPU_FUNCTION std::uint32_t high_word(std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); }

/// Philox4x32-10 as kernels/random.cpp has it.
GPU_FUNCTION void draw(std::uint32_t (&c)[kFour], std::uint32_t key0, std::uint32_t key1) {
#pragma unroll
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t product0 = static_cast<std::uint64_t>(kPhiloxMultiplier0) * c[0];
    const std::uint64_t product1 = static_cast<std::uint64_t>(kPhiloxMultiplier1) * c[2];
    c[0] = high_word(product1) ^ c[1] ^ key0;
    c[1] = static_cast<std::uint32_t>(product1);
    c[2] = high_word(product0) ^ c[3] ^ key1;
    c[3] = static_cast<std::uint32_t>(product0);
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
}

GPU_KERNEL dropout_kernel(Strided<float> y, Strided<const float> x, Strided<const float> add, Mask mask, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t c) {
    const std::uint64_t row = mask.first_row + static_cast<std::uint64_t>(n);
    std::uint32_t words[kFour] = {static_cast<std::uint32_t>(row), mask.word1, mask.word2 | static_cast<std::uint32_t>(c / kFour),
                                  mask.word3 | high_word(row) << 24};
    draw(words, mask.key0, mask.key1);
    float value[kFour], behind[kFour] = {};
    load_four(value, x, n, c, extent);
    if (add.data != nullptr) load_four(behind, add, n, c, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      value[i] = words[i] >= mask.threshold ? __fmul_rn(value[i], mask.scale) : 0.0f;
      if (add.data != nullptr) value[i] = __fadd_rn(value[i], behind[i]);
    }
    store_four(y, n, c, extent, value);
  });
}

}  // namespace

void dropout(Stream stream, const Dropout& op) {
  const Extent extent{op.y.rows, op.y.columns, op.add.empty() ? all_aligned(op.y, op.x) : all_aligned(op.y, op.x, op.add)};
  Dropout first = op;
  first.rows_before = 0;
  const std::array<std::uint32_t, 4> counter = first.counter(0, 0);
  const Mask mask{static_cast<std::uint64_t>(op.rows_before),
                  counter[1],
                  counter[2],
                  counter[3],
                  op.key()[0],
                  op.key()[1],
                  op.threshold(),
                  static_cast<float>(op.scale())};
  launch(over_groups(op.kName, extent.rows, extent.columns, stream), dropout_kernel, strided<float>(op.y), strided<float>(op.x),
         strided<float>(op.add), mask, extent);
}

}  // namespace elastiform::ELASTIFORM_GPU
