#include "kernels/view.hpp"

#include <string_view>

namespace elastiform {

std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return "float32";
    case DType::float64: return "float64";
    case DType::bfloat16: return "bfloat16";
    case DType::float16: return "float16";
    case DType::uint8: return "uint8";
  }
  return "unknown";
}

}  // namespace elastiform
