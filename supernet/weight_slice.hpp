#pragma once

#include <array>

#include "kernels/view.hpp"

namespace elastiform {

/// Tensors that a method of tuning may add beside a linear map (supernet/parametrizations).
constexpr int kAddedTensors = 2;

/// The rows and columns of one linear map that a subnet uses, weight [in, out] and bias [1, out] (empty: none) together, in place in the
/// shared weights. Borrows from Weights and must not outlive the step; cheap to copy, so pass it by value and store it nowhere.
template <class V>
struct BasicLinearSlice {
  V weight, bias;
  std::array<V, kAddedTensors> added{};
  V stored_weight{}, stored_bias{};  // what stands in the shared weights, where weight and bias were formed anew
};
using WeightSlice = BasicLinearSlice<ConstView>;
using GradientSlice = BasicLinearSlice<View>;

template <class V>
struct BasicNormSlice {
  V gain, bias;  // [1, C]; bias empty for rms and where the model has none
};

}  // namespace elastiform
