#include "supernet/initialization.hpp"

#include <cmath>

#include "kernels/backend.hpp"
#include "kernels/random.hpp"
#include "supernet/residual_rules/rules.hpp"

namespace elastiform {
namespace {

/// Tensors that a method of tuning adds have starts of their own, whatever the rule: low-rank matrices [in, rank] the deviation of the
/// uniform law on ±1/√in, with which LoRA's A begins as a rule.
Start start_of(const TensorSpec& tensor, const SearchSpace& space) {
  if (tensor.of_decoder) return kBranchScale.start(tensor, space);  // its own rule, whatever that of the network
  if (tensor.role == Role::zero) return {};
  if (tensor.role == Role::low_rank) return {.deviation = 1 / std::sqrt(3.0 * static_cast<double>(tensor.rows))};
  return residual_rule(space.model().residual).start(tensor, space);
}

template <class T>
void fill_normal(View view, std::uint64_t seed, std::uint32_t tensor, double deviation, Backend* backend) {
  const auto fill_row = [&](std::int64_t row) {
    RandomStream random(seed, Purpose::initialization, static_cast<std::uint64_t>(row), tensor);
    T* out = view.row<T>(row);
    for (std::int64_t column = 0; column < view.columns; ++column) out[column] = static_cast<T>(deviation * random.normal());
  };
  if (backend) return backend->for_each(view.rows, fill_row);
  for (std::int64_t row = 0; row < view.rows; ++row) fill_row(row);
}

}  // namespace

void initialize(Weights& weights, std::uint64_t seed, Backend* backend) {
  if (!weights.on_host()) {
    Weights on_host(weights.shared_table(), weights.dtype());
    initialize(on_host, seed, backend);
    return weights.assign(on_host);
  }
  const SearchSpace& space = weights.table().space();
  std::uint32_t index = 0;
  for (const TensorSpec& tensor : weights.table().tensors()) {
    const View view = weights.view(tensor);
    const Start start = start_of(tensor, space);
    dispatch(weights.dtype(), [&]<class T>() {
      if (start.deviation > 0) fill_normal<T>(view, seed, index, start.deviation, backend);
      else if (start.mean != 0)
        for (std::int64_t column = 0; column < view.columns; ++column) view.row<T>(0)[column] = static_cast<T>(start.mean);
    });
    ++index;
  }
}

}  // namespace elastiform
