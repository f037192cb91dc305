#include "supernet/parametrizations/parametrization.hpp"

#include <vector>

#include "supernet/nearest_name.hpp"
#include "supernet/parametrizations/methods.hpp"

namespace elastiform {
namespace {

const std::array<ParametrizationEntry, 7>& entries() {
  static const std::array<ParametrizationEntry, 7> kEntries{{
      {TuningMethod::full, "full", "every weight learns", 0.1, &full_parametrization()},
      {TuningMethod::bitfit, "bitfit", "biases alone learn (arXiv 2106.10199)", 1, &bitfit_parametrization()},
      {TuningMethod::lora, "lora", "W + alpha/rank · A·B, of which A and B learn (arXiv 2106.09685)", 1, &lora_parametrization()},
      {TuningMethod::ssf, "ssf", "outputs of linear maps are scaled and shifted, which alone learns (arXiv 2210.08823)", 1,
       &ssf_parametrization()},
      {TuningMethod::adapter, "adapter", "bottlenecks after branches, which alone learn (arXiv 1902.00751)", 1, &adapter_parametrization()},
      {TuningMethod::prompt, "prompt", "vectors in front of the tokens, which alone learn (arXiv 2104.08691)", 10,
       &prompt_parametrization()},
      {TuningMethod::prefix, "prefix", "keys and values in front of those of each attention, which alone learn (arXiv 2101.00190)", 10,
       &prefix_parametrization()},
  }};
  return kEntries;
}

}  // namespace

std::span<const ParametrizationEntry> parametrizations() { return entries(); }

const ParametrizationEntry& parametrization_of(const Tuning& tuning) { return entries()[static_cast<std::size_t>(tuning.method)]; }

const ParametrizationEntry& find_parametrization(std::string_view name, std::string_view where) {
  std::vector<std::string_view> names;
  for (const ParametrizationEntry& entry : entries()) {
    if (entry.name == name) return entry;
    names.push_back(entry.name);
  }
  throw unknown_name(std::string(where), name, names);
}

void check_targets(const ModelConfig& model) {
  const LinearMaps targets = model.tuning.targets;
  if (targets.empty()) throw InputError({"tune: targets", "at least one linear map", "none", ""});
  if (targets.has(LinearMap::gate) && model.ffn != FeedForwardKind::swiglu)
    throw InputError({"tune: targets", "linear maps of the model", "gate, which only swiglu has", ""});
}

LinearMaps linear_maps_of(const ModelConfig& model) {
  LinearMaps maps;
  for (std::size_t i = 0; i < kLinearMaps.size(); ++i)
    if (static_cast<LinearMap>(i) != LinearMap::gate || model.ffn == FeedForwardKind::swiglu) maps.insert(static_cast<LinearMap>(i));
  return maps;
}

LinearMap find_linear_map(std::string_view name, std::string_view where) {
  for (std::size_t i = 0; i < kLinearMaps.size(); ++i)
    if (kLinearMaps[i] == name) return static_cast<LinearMap>(i);
  throw unknown_name(std::string(where), name, {kLinearMaps.begin(), kLinearMaps.end()});
}

std::vector<std::string_view> names_of(LinearMaps maps) {
  std::vector<std::string_view> names;
  for (std::size_t i = 0; i < kLinearMaps.size(); ++i)
    if (maps.has(static_cast<LinearMap>(i))) names.push_back(kLinearMaps[i]);
  return names;
}

void Linears::declare_effective(ShortList<TensorShape>& shapes, LinearMap map, std::int64_t in, std::int64_t out) const {
  if (!targets(map)) return;
  if (how_.forms_weight()) shapes.push_back({in, out});
  if (how_.forms_bias(model_)) shapes.push_back({1, out});
}

WeightSlice Linears::effective(Backend& backend, LinearMap map, const WeightSlice& w, Arena& arena) const {
  if (!targets(map) || w.weight.empty()) return w;
  GradientSlice formed;
  WeightSlice result = w;
  result.stored_weight = w.weight, result.stored_bias = w.bias;
  if (how_.forms_weight()) result.weight = formed.weight = arena.matrix(w.weight.rows, w.weight.columns, backend.dtype());
  if (how_.forms_bias(model_)) result.bias = formed.bias = arena.matrix(1, w.weight.columns, backend.dtype());
  how_.effective(backend, model_, w, formed);
  return result;
}

std::array<TensorShape, 2> Linears::gradient_scratch(std::int64_t N, std::int64_t out) const {
  std::array<TensorShape, 2> shapes;
  if (model_.tuning.targets.empty()) return shapes;
  const std::array<std::int64_t, 2> columns = how_.scratch_columns(model_, out);
  for (std::size_t i = 0; i < shapes.size(); ++i)
    if (columns[i] > 0) shapes[i] = {N, columns[i]};
  return shapes;
}

void Linears::gradients(Backend& backend, LinearMap map, const LinearBackward& op) const {
  if (!op.dw.weight.empty() || !op.dw.bias.empty())
    backend.matmul_dw({.dw = op.dw.weight, .dbias = op.dw.bias, .x = op.x, .dy = op.dy, .scale = op.scale, .accumulate = op.accumulate});
  if (targets(map)) how_.added_gradients(backend, model_, op);
}

}  // namespace elastiform
