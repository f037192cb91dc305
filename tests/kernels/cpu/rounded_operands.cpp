// Products whose operands are rounded on the way in: what is not an operand stays as it is.
#include "kernels/operand_rounding.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"

namespace elastiform {
namespace {

/// Everything to E5M2.
struct ToE5M2 final : OperandRounding {
  Rule rule(const std::byte*, OperandSide) const override {
    return {.rounds = true, .measures = false, .format = NumberFormat::e5m2, .scale = 1, .saturates = true};
  }
  void saw(const std::byte*, OperandSide, float) override {}
};

}  // namespace

TEST_CASE("a bias' gradient is the sum of gradients that were not rounded", "[kernels][cpu][rounding]") {
  Cpu cpu(2);
  const Memory memory{.dtype = DType::float32};
  const Matrix x = memory.input(70, 24, 1), dy = memory.input(70, 40, 2);
  const auto gradients = [&](OperandRounding* rounding) {
    std::pair<Matrix, Matrix> made{memory.output(24, 40), memory.output(1, 40)};
    cpu.backend.round_operands(rounding);
    cpu.backend.matmul_dw({.dw = made.first.view(), .dbias = made.second.view(), .x = x.view(), .dy = dy.view(), .accumulate = false});
    cpu.backend.round_operands(nullptr);
    return made;
  };
  ToE5M2 rounding;
  const auto exact = gradients(nullptr), rounded = gradients(&rounding);
  CHECK(rounded.second.same_bits(exact.second));
  CHECK_FALSE(rounded.first.same_bits(exact.first));
}

}  // namespace elastiform
