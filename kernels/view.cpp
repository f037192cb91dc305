#include "kernels/view.hpp"

#include <string_view>

namespace elastiform {

std::string_view name_of(DType dtype) { return dtype == DType::float32 ? "float32" : "float64"; }

}  // namespace elastiform
