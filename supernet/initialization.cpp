#include "supernet/initialization.hpp"

#include <cmath>

#include "kernels/random.hpp"

namespace elastiform {
namespace {

// Standard deviation of matrices and embeddings: GPT-2's. The branch scale s = (2·N_max)^-1/2 of a space trained from scratch is a runtime
// constant (methods §4.4), so residual outputs need no second factor; imported models have s = 1 and bring their own weights.
constexpr double kDeviation = 0.02;

template <class T>
void fill_normal(View view, std::uint64_t seed, std::uint32_t tensor) {
  for (std::int64_t row = 0; row < view.rows; ++row) {
    RandomStream random(seed, Purpose::initialization, static_cast<std::uint64_t>(row), tensor);
    T* out = view.row<T>(row);
    for (std::int64_t column = 0; column < view.columns; ++column) out[column] = static_cast<T>(kDeviation * random.normal());
  }
}

}  // namespace

void initialize(Weights& weights, std::uint64_t seed) {
  if (!weights.on_host()) {
    Weights on_host(weights.shared_table(), weights.dtype());
    initialize(on_host, seed);
    return weights.assign(on_host);
  }
  std::uint32_t index = 0;
  for (const TensorSpec& tensor : weights.table().tensors()) {
    const View view = weights.view(tensor);
    dispatch(weights.dtype(), [&]<class T>() {
      if (tensor.role == Role::gain) {
        for (std::int64_t column = 0; column < view.columns; ++column) view.row<T>(0)[column] = T(1);
      } else if (tensor.role != Role::bias) {
        fill_normal<T>(view, seed, index);
      }
    });
    ++index;
  }
}

}  // namespace elastiform
