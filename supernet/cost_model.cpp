#include "supernet/cost_model.hpp"

#include <algorithm>
#include <memory>
#include <utility>

#include "supernet/activation_plan.hpp"
#include "supernet/arena_bytes.hpp"
#include "supernet/parametrizations/merge.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "supernet/weights.hpp"

namespace elastiform {
namespace {

std::int64_t norm_parameters(const ModelConfig& model, std::int64_t embed) {
  if (residual_form(model).norm == NormPlace::none) return 0;
  return embed * (model.norm == Norm::layer && model.biases ? 2 : 1);
}

std::int64_t linear_parameters(const ModelConfig& model, std::int64_t in, std::int64_t out) { return in * out + (model.biases ? out : 0); }

/// What the residual rule stores for a branch with so many shifts; what exports fold into other weights is not stored.
std::int64_t residual_parameters(const ModelConfig& model, std::int64_t embed, int shifts) {
  const ResidualForm& form = residual_form(model);
  if (form.folds()) return 0;
  const std::int64_t gate = form.gate == Gate::branch ? 1 : form.gate == Gate::channels ? embed : 0;
  return gate + (form.skip_gain ? embed : 0) + (form.shifts ? shifts : 0);
}

}  // namespace

AdditiveCosts& AdditiveCosts::operator+=(const AdditiveCosts& other) {
  parameters += other.parameters;
  block_parameters += other.block_parameters;
  macs += other.macs;
  latency_sum += other.latency_sum;
  return *this;
}

CostModel::CostModel(const SearchSpace& space, Deploy deploy, int sequences, std::function<std::int64_t(const WeightTable&)> state_bytes,
                     Precision precision, double dropout, std::vector<std::int64_t> kept)
    : space_(space), deploy_(std::move(deploy)), sequences_(sequences), precision_(precision), dropout_(dropout), kept_(std::move(kept)),
      state_bytes_(std::move(state_bytes)) {
  if (deploy_.context == 0) deploy_.context = space_.model().context;
}

AdditiveCosts CostModel::frame(int embed) const {
  const ModelConfig& model = space_.model();
  const std::int64_t table = static_cast<std::int64_t>(model.vocabulary) * embed;
  const std::int64_t patch = static_cast<std::int64_t>(model.image.patch_values()) * embed;
  AdditiveCosts costs;
  costs.parameters = table + (model.head_bias ? model.vocabulary : 0);  // the head, or the table that both ends share
  if (!model.tied && !model.classifies()) costs.parameters += table;
  if (model.classifies()) costs.parameters += patch + (model.biases ? embed : 0);
  costs.parameters += static_cast<std::int64_t>(model.tokens_before_patches()) * embed;
  if (residual_form(model).final_norm()) costs.parameters += norm_parameters(model, embed);
  if (model.positions == Positions::learned) costs.parameters += static_cast<std::int64_t>(model.context) * embed;
  costs.parameters += static_cast<std::int64_t>(model.tuning.tokens) * embed;
  costs.macs = table + model.image.patches() * patch;
  if (latency_) costs.latency_sum = latency_->at(embed).frame;
  return costs;
}

// Rounded up for each head, group and neuron, so that costs stay linear in their numbers.
std::int64_t CostModel::in_stream(std::int64_t macs, std::int64_t context) const {
  const std::int64_t rows = space_.model().stream_tokens(context), counted = units(context);
  return (macs * rows + counted - 1) / counted;
}

std::int64_t CostModel::attention_macs(const BlockGenes& genes, std::int64_t context) const {
  const ModelConfig& model = space_.model();
  return genes.heads * in_stream(model.head_dim * model.keys_met_twice(model.stream_tokens(context)), context);
}

AdditiveCosts CostModel::block(int embed, const BlockGenes& genes, std::int64_t context) const {
  const ModelConfig& model = space_.model();
  const std::int64_t C = embed, F = genes.ffn;
  const std::int64_t A = static_cast<std::int64_t>(genes.heads) * model.head_dim,
                     G = static_cast<std::int64_t>(genes.groups) * model.head_dim;
  // What follows a branch, a matrix in and one out.
  const std::int64_t end = 2 * C * parametrization_of(model.tuning).how->adapter_width(model);
  const int ends = (genes.heads > 0 ? 1 : 0) + (F > 0 ? 1 : 0);
  AdditiveCosts costs;
  costs.parameters = end * ends;
  costs.macs = in_stream(end, context) * ends + attention_macs(genes, context);
  if (genes.heads > 0) {
    costs.parameters += residual_parameters(model, C, 2) + 2 * model.tuning.keys * G;
    costs.parameters +=
        norm_parameters(model, C) + linear_parameters(model, C, A) + 2 * linear_parameters(model, C, G) + linear_parameters(model, A, C);
    costs.macs += (genes.heads + genes.groups) * in_stream(2 * C * model.head_dim, context);
  }
  if (F > 0) {
    const int inputs = model.ffn == FeedForwardKind::swiglu ? 2 : 1;
    costs.parameters += residual_parameters(model, C, 3);
    costs.parameters += norm_parameters(model, C) + inputs * linear_parameters(model, C, F) + linear_parameters(model, F, C);
    costs.macs += F * in_stream((inputs + 1) * C, context);
  }
  if (residual_form(model).gate == Gate::block) costs.parameters += 1;
  costs.block_parameters = costs.parameters;
  if (latency_) costs.latency_sum = latency_->at(embed).of(genes);
  return costs;
}

AdditiveCosts CostModel::additive(const Subnet& subnet) const {
  AdditiveCosts sum = frame(subnet.embed);
  for (const BlockGenes& genes : subnet.blocks) sum += block(subnet.embed, genes);
  return sum;
}

double CostModel::training_flops(const Subnet& subnet) const {
  std::int64_t attention = 0;
  for (const BlockGenes& genes : subnet.blocks) attention += attention_macs(genes, deploy_.context);
  return training_flops(static_cast<double>(additive(subnet).macs), static_cast<double>(attention));
}

double CostModel::training_flops(double macs, double attention) const {
  const int products = 1 + parametrization_of(space_.model().tuning).how->backward_products();
  return 2.0 * products * (macs - attention) + 6.0 * attention;  // products of activations have both gradients, whatever learns
}

Costs CostModel::of(const Subnet& subnet) const {
  const ModelConfig& model = space_.model();
  const AdditiveCosts sum = additive(subnet);
  Costs costs{.parameters = sum.parameters, .block_parameters = sum.block_parameters, .macs = sum.macs};
  if (latency_) {
    costs.latency = latency_->whole_of(sum.latency_sum);
    costs.latency_bound = latency_->bound_of(sum.latency_sum);
  }
  const SearchSpace dense_space = SearchSpace::of(model, subnet), deployed = merged_space(dense_space);
  const WeightTable table(dense_space);
  const Subnet dense = dense_space.largest();
  constexpr std::int64_t kFloat = bytes_of(DType::float32);
  costs.inference_bytes =
      WeightTable(deployed).elements() * kFloat +
      inference_arena_bytes(deployed.model(), traits_of(Precision::f32, deploy_.threads), dense, deploy_.batch, deploy_.context);
  std::int64_t arena = 0;
  for (const std::int64_t kept : kept_) {
    const PassShape pass{.batch = sequences_, .tokens = model.context, .kept = kept, .dropout = dropout_};
    arena = std::max(arena, plan_activations(model, traits_of(precision_, deploy_.threads), dense, pass).arena_bytes);
  }
  costs.training_bytes = (table.elements() + table.trained_elements()) * kFloat + state_bytes_(table) + arena;
  return costs;
}

}  // namespace elastiform
