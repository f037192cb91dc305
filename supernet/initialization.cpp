#include "supernet/initialization.hpp"

#include <array>
#include <cmath>

#include "kernels/backend.hpp"
#include "kernels/random.hpp"
#include "supernet/residual_rules/rules.hpp"

namespace elastiform {
namespace {

/// Tensors that a method of tuning adds have starts of their own, whatever the rule: low-rank matrices [in, rank] the deviation of the
/// uniform law on ±1/√in, with which LoRA's A begins as a rule.
Start start_of(const TensorSpec& tensor, const SearchSpace& space, Init init) {
  if (tensor.role == Role::zero) return {};
  if (tensor.role == Role::low_rank) return {.deviation = 1 / std::sqrt(3.0 * static_cast<double>(tensor.rows))};
  const ResidualRuleEntry& rule = residual_rule(space.model().residual);
  if (rule.start != nullptr && !tensor.of_decoder) return rule.start(tensor, space);  // a decoder has a rule of its own
  if (rule.first_gate != nullptr && tensor.role == Role::gate) return {.mean = rule.first_gate(space.max_depth())};
  return init == Init::xavier ? xavier_start(tensor) : gpt2_start(tensor);
}

constexpr std::array<InitEntry, 2> kInits{{
    {Init::xavier, "xavier", "matrices N(0, 2 / (in + out)), embeddings N(0, 1 / embed), of the largest subnet's sizes"},
    {Init::gpt2, "gpt2", "matrices and embeddings N(0, 0.02²), made for about 768 channels"},
}};

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

std::span<const InitEntry> inits() { return kInits; }

void initialize(Weights& weights, std::uint64_t seed, Backend* backend, Init init) {
  if (!weights.on_host()) {
    Weights on_host(weights.shared_table(), weights.dtype());
    initialize(on_host, seed, backend, init);
    return weights.assign(on_host);
  }
  const SearchSpace& space = weights.table().space();
  std::uint32_t index = 0;
  for (const TensorSpec& tensor : weights.table().tensors()) {
    const View view = weights.view(tensor);
    const Start start = start_of(tensor, space, init);
    dispatch(weights.dtype(), [&]<class T>() {
      if (start.deviation > 0) fill_normal<T>(view, seed, index, start.deviation, backend);
      else if (start.mean != 0)
        for (std::int64_t column = 0; column < view.columns; ++column) view.row<T>(0)[column] = static_cast<T>(start.mean);
    });
    ++index;
  }
}

}  // namespace elastiform
