#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops/rounding.hpp"

namespace elastiform {

/// Which operand of a weight's products: x of matmul and matmul_dw, or dy of matmul_dx and matmul_dw.
enum class OperandSide : std::uint8_t { activation, gradient };

/// Emulates products in a narrower format: says, for the products of each weight, how their other operand is rounded before it is multiplied
/// in float32. The weight itself is given as it should be. Called by several workers at once.
class OperandRounding {
 public:
  struct Rule {
    bool rounds = false;    // false: the operand stays as it is
    bool measures = false;  // asks for saw()
    NumberFormat format = NumberFormat::float16;
    double scale = 1;
    bool saturates = false;
  };
  virtual ~OperandRounding() = default;
  /// weight: the first element of a slice of it, or of its gradient.
  virtual Rule rule(const std::byte* weight, OperandSide side) const = 0;
  /// The largest magnitude of some rows of that operand, before they are rounded; infinite where an element is not finite.
  virtual void saw(const std::byte* weight, OperandSide side, float largest) = 0;
};

}  // namespace elastiform
