#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/precision.hpp"

namespace elastiform {

/// One call of an operation in a line of text, as ELASTIFORM_VERBOSE=kernels prints it: `matmul y=256x384/416 x=… scale=1 dtype=float32`,
/// rows x columns / leading dimension of each operand, then the scalars. `precision=bf16` may stand beside them.
struct CaseLine {
  struct Operand {
    std::string name;
    std::int64_t rows = 0, columns = 0, ld = 0;
    bool bf16 = false;   // stored so: `:bf16` behind the leading dimension
    bool codes = false;  // of one byte: `:uint8`
  };
  std::string operation;
  std::vector<Operand> operands;
  std::vector<std::pair<std::string, std::string>> scalars;
  Precision precision = Precision::f32;

  /// Throws InputError (where: "case") for what is no such line.
  static CaseLine parse(std::string_view text);
  std::string text() const;
  std::int64_t bytes() const;  // of all operands
};

}  // namespace elastiform
