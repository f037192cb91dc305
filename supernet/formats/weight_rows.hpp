#pragma once

#include <vector>

#include "kernels/view.hpp"

namespace elastiform {

/// A matrix without the padding between its rows, as files keep it: as it stands, or [in,out] as [out,in].
std::vector<float> row_major(ConstView x);
std::vector<float> transposed(ConstView x);

}  // namespace elastiform
