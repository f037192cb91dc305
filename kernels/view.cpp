#include "kernels/view.hpp"

#include <string_view>

namespace elastiform {

std::string_view name_of(DType dtype) { return dtype == DType::float32 ? "float32" : dtype == DType::float64 ? "float64" : "bfloat16"; }

}  // namespace elastiform
