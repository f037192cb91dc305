// Operands that are stored in 16 bits: bfloat16, which the backend uses, and float16, which kernels take too.
#include <vector>

#include "kernels/cuda/kernels.hpp"
#include "tests/cuda/device_matrix.hpp"
#include "tests/support/conformance.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

/// The same values in any type: those of `stored`.
Matrix operand(std::int64_t rows, std::int64_t columns, std::int64_t padding, DType stored, DType type, std::uint64_t stream) {
  const Matrix values = normal(rows, columns, columns, stored, stream);
  Matrix result(rows, columns, columns + padding, type, 0, kInputMark);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) result.set(i, j, values.at(i, j));
  return result;
}

}  // namespace

TEST_CASE("activations, rope and norms over operands of 16 bits round what they do in float32", "[cuda]") {
  const DType stored = GENERATE(DType::bfloat16, DType::float16);
  const std::int64_t N = GENERATE(1, 9), F = GENERATE(1, 7, 32, 70);
  CAPTURE(name_of(stored), N, F);
  const auto run = [&](DType type, std::int64_t padding, std::int64_t shift) {
    const auto in = [&](std::int64_t columns, std::uint64_t stream) { return operand(N, columns, padding, stored, type, stream); };
    const auto out = [&](std::int64_t columns) { return canary(N, columns, columns + padding, type); };
    const auto wide = [&](std::int64_t rows, std::int64_t columns, std::uint64_t stream) {
      return normal(rows, columns, columns + padding, DType::float32, stream);
    };
    const DeviceMatrix gate(in(F, 1), shift), up(in(F, 2), shift), dy(in(F, 3), shift), turned(in(6 * F, 4), shift);
    const DeviceMatrix y(out(F), shift), dgate(out(F), shift), dup(out(F), shift), gelu(out(F), shift), dx(out(F), shift),
        normed(out(F), shift), narrow(out(F), shift);
    const DeviceMatrix x(wide(N, F, 5), shift), gain(wide(1, F, 6), shift), angles(wide(N, F, 7), shift);
    swiglu_forward(nullptr, {.y = y.view(), .gate = gate.view(), .up = up.view()});
    swiglu_backward(nullptr, {.dgate = dgate.view(), .dup = dup.view(), .dy = dy.view(), .gate = gate.view(), .up = up.view()});
    gelu_forward(nullptr, {.y = gelu.view(), .x = gate.view(), .kind = Gelu::erf});
    gelu_backward(nullptr, {.dx = dx.view(), .dy = dy.view(), .x = gate.view()});
    rope(nullptr, {.x = turned.view(), .cosine = angles.view(), .sine = angles.view(), .period = N});
    norm_forward(nullptr, {.y = normed.view(), .rstd = {}, .mean = {}, .x = x.view(), .gain = gain.view(), .bias = {}});
    copy(nullptr, narrow.view(), x.view());
    return written(y.read(), dgate.read(), dup.read(), gelu.read(), dx.read(), turned.read(), normed.read(), narrow.read());
  };
  const std::vector<Matrix> expected = run(DType::float32, 0, 0);
  for (const std::int64_t padding : {0, 5, 32})
    for (const std::int64_t shift : {0, 3}) {
      CAPTURE(padding, shift);
      const std::vector<Matrix> actual = run(stored, padding, shift), same = run(DType::float32, padding, shift);
      for (std::size_t i = 0; i < expected.size(); ++i) {
        CAPTURE(i);
        CHECK(actual[i].same_bits(converted(expected[i], stored)));
        CHECK(same[i].same_bits(expected[i]));
      }
    }
}

}  // namespace elastiform::ELASTIFORM_GPU
