#pragma once

#include <algorithm>
#include <stdexcept>
#include <string>
#include <string_view>

#include "kernels/view.hpp"

namespace elastiform {

struct Tolerance {
  double relative = 0;  // of the expected element
  double absolute = 0;  // in a conformance test: of the largest element of the expected matrix, or of `unit` if that is more
  const char* reason = "";
  double unit = 0;

  Tolerance scaled(double largest) const { return {relative, absolute * std::max(largest, unit), reason}; }
};

struct ToleranceRow {
  std::string_view operation;
  DType dtype;
  Tolerance tolerance;
};

// One unit in the last place of float32 is 6e-8 of an element (2^-24), of float64 1.1e-16 (2^-53).
constexpr ToleranceRow kTolerances[] = {
    {"matmul", DType::float32, {1e-6, 1e-6, "sums of ≤ 160 products in float32: error grows like sqrt(K) ulp of the largest"}},
    {"matmul_dx", DType::float32, {1e-6, 1e-6, "as matmul"}},
    {"matmul_dw", DType::float32, {2e-6, 2e-6, "sums over ≤ 700 tokens in float32"}},
    {"matmul bf16",
     DType::float32,
     {1e-6, 1e-6, "products of bf16 are exact in float32, and the reference rounds operands too: sums as f32"}},
    {"matmul_dx bf16", DType::float32, {1e-6, 1e-6, "as matmul bf16"}},
    {"matmul_dw bf16", DType::float32, {2e-6, 2e-6, "as matmul_dw"}},
    {"matmul stored", DType::float32, {2e-3, 2e-3, "the bias rounded to bf16, and then the sum: 2^-9 of each"}},
    {"norm", DType::float32, {2e-6, 1e-6, "two sums over ≤ 160 channels, a square root and a division"}},
    {"norm_backward", DType::float32, {4e-6, 4e-6, "three sums, and rstd of the forward that is itself rounded"}},
    {"affine", DType::float32, {1e-6, 2e-6, "two products and two sums forward; sums of ≤ 300 products backward"}},
    {"sum_panels", DType::float32, {1e-6, 1e-6, "a tree of ≤ 9 partials"}},
    {"swiglu", DType::float32, {2e-6, 1e-7, "exp of at most 2 ulp and a division"}},
    {"gelu", DType::float32, {2e-6, 3e-7, "1 + tanh cancels in the left tail: an ulp of x is left there", 1}},
    {"hadamard", DType::float32, {1e-7, 0, "one rounding"}},
    {"rope", DType::float32, {1e-6, 2e-7, "two products and a sum that may cancel"}},
    {"dropout", DType::float32, {1e-6, 2e-7, "a product and a sum that may cancel"}},
    {"embedding", DType::float32, {1e-6, 1e-6, "one sum forward; up to 90 rows of one token backward"}},
    {"exact copy", DType::float32, {0, 0, "elements are moved, not computed with"}},
    {"attention", DType::float32, {4e-6, 4e-6, "scores of ≤ 64 products through exp, sums over ≤ 300 keys"}},
    {"attention_backward", DType::float32, {1e-5, 1e-5, "p from the rounded lse; differences dP - D cancel"}},
    {"attention bf16", DType::float32, {0, 3e-3, "p is rounded to bf16 before it meets v: 2^-9 of each term; 1.5e-3 were seen"}},
    {"attention stored", DType::float32, {4e-3, 3e-3, "as attention bf16, then rounded to bf16: 2^-9 of the element"}},
    {"attention_backward bf16",
     DType::float32,
     {0, 8e-3, "p, ds and the forward's out hold rounded terms: 2^-9 of each; 4.2e-3 were seen; one key alone has gradient 0", 0.05}},
    {"compression",
     DType::float32,
     {0, 1e-2, "one step of 255: where x and its noise meet a whole number, float32 may fall on the other side"}},
    {"round",
     DType::float32,
     {2e-7, 0, "the scaled number is rounded to float32 before it is rounded to its format; a scale of 1 is exact"}},
    {"softmax_loss", DType::float32, {4e-6, 2e-6, "log-sum-exp over ≤ 1000 logits; KL subtracts equal numbers"}},
    {"network loss", DType::float32, {4e-6, 0, "one block and softmax_loss, mean over 600 tokens"}},
    {"network loss bf16", DType::float32, {3e-3, 0, "operands of a dozen products rounded to 2^-9; errors of 600 tokens cancel"}},
    {"training", DType::float32, {2e-4, 0, "losses of 20 steps: AdamW divides by the root of squares that differ in their last bits"}},
    {"training bf16", DType::float32, {2e-2, 0, "the same from operands rounded to 2^-9"}},
    {"adamw", DType::float32, {1e-6, 2e-7, "ten roundings an element; the update is small against the weight"}},
    {"momentum_step", DType::float32, {1e-6, 2e-7, "six roundings an element; the update is small against the weight"}},
    {"adamw_direction", DType::float32, {2e-6, 4e-7, "as adamw, without the rate; sums of squares in double"}},
    {"factored", DType::float32, {4e-6, 1e-6, "means of ≤ 4097 squares in float32 in chunks of ≤ 512, a square root and two divisions"}},
    {"adamw_8bit", DType::float32, {1e-6, 1e-6, "as adamw, from numbers of the map that are rounded to float32"}},
    {"adamw_8bit codes", DType::float32, {0, 1 / 255.0, "a number between two of the map is coded as either", 255}},
    {"add", DType::float32, {1e-6, 2e-7, "a product and a sum that may cancel"}},
    {"accumulation", DType::float32, {1e-5, 0, "the same products summed in another order: four sums of 144 rows instead of one of 576"}},
    {"sum_squares", DType::float32, {1e-13, 0, "products and sums in float64"}},
    {"finite_difference", DType::float64, {1e-6, 1e-8, "central differences, h = 1e-5: truncation ~1e-10, rounding 1e-16/h ~1e-11"}},
    {"exact", DType::float64, {1e-12, 1e-14, "the same formula in float64"}},
};

/// The allowance of an operation; asking for a row that does not exist is a bug of the test.
inline Tolerance tolerance(std::string_view operation, DType dtype) {
  for (const ToleranceRow& row : kTolerances)
    if (row.operation == operation && row.dtype == dtype) return row.tolerance;
  throw std::logic_error("no tolerance for " + std::string(operation));
}

}  // namespace elastiform
