#include "supernet/parametrizations/merge.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "kernels/cpu/cpu_backend.hpp"
#include "supernet/copy_rows.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "supernet/patch_decoder.hpp"

namespace elastiform {
namespace {

/// The linear map that a tensor is the weight of, of all its rows and columns; an empty one where it is none or no target.
WeightSlice target_at(const Weights& weights, const TensorSpec& tensor, const ModelConfig& model, int rank) {
  const Tuning& tuning = model.tuning;
  WeightSlice slice;
  const std::string_view name(tensor.name);
  const bool is_linear = tensor.role == Role::matrix || tensor.role == Role::residual_out;  // a residual rule has gates too
  for (std::size_t i = 0; i < kLinearMaps.size(); ++i)
    if (tuning.targets.has(static_cast<LinearMap>(i)) && is_linear && name.ends_with("." + std::string(kLinearMaps[i])))
      slice.weight = weights.view(tensor);
  if (slice.weight.empty()) return slice;
  const WeightTable& table = weights.table();
  if (table.has(tensor.name + ".bias")) slice.bias = weights.view(tensor.name + ".bias");
  std::size_t i = 0;
  for (const AddedTensor& one : parametrization_of(tuning).how->added(model)) {
    ConstView all = weights.view(tensor.name + std::string(one.suffix));
    if (rank > 0 && one.rows == Side::rank) all = all.row_range(0, rank);
    if (rank > 0 && one.columns == Side::rank) all = all.column_range(0, rank);
    slice.added[i++] = all;
  }
  return slice;
}

}  // namespace

SearchSpace without_tuning(const SearchSpace& space) {
  ModelConfig model = space.model();
  model.tuning = {};
  return SearchSpace(std::move(model), space.embed(), space.depth(), space.blocks());
}

SearchSpace merged_space(const SearchSpace& space) {
  const Parametrization& how = *parametrization_of(space.model().tuning).how;
  return without_decoder(how.merges() ? without_tuning(space) : space);
}

Weights merged(const Weights& stored, int rank) {
  const PlacedWeights on_host(stored);
  const Weights& tuned = *on_host;
  const SearchSpace& space = tuned.table().space();
  Weights result(std::make_shared<const WeightTable>(merged_space(space)), tuned.dtype());
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  for (const TensorSpec& tensor : result.table().tensors()) {
    const TensorSpec& source = tuned.table().at(tensor.name);
    copy_rows(result.view(tensor), tuned.view(source));
  }
  const Parametrization& how = *parametrization_of(space.model().tuning).how;
  for (const TensorSpec& tensor : result.table().tensors()) {
    const WeightSlice target = target_at(tuned, tuned.table().at(tensor.name), space.model(), rank);
    if (target.weight.empty()) continue;
    GradientSlice formed;
    if (how.forms_weight()) formed.weight = result.view(tensor);
    if (how.forms_bias(space.model())) formed.bias = result.view(tensor.name + ".bias");
    how.effective(backend, space.model(), target, formed);
  }
  return result;
}

void copy_by_name(Weights& to, const Weights& from) {
  if (!to.on_host()) {
    Weights on_host(to.shared_table(), to.dtype());
    on_host.assign(to);
    copy_by_name(on_host, from);
    return to.assign(on_host);
  }
  const PlacedWeights source(from);
  for (const TensorSpec& tensor : from.table().tensors()) copy_rows(to.view(tensor.name), (*source).view(tensor));
}

}  // namespace elastiform
