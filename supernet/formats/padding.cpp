#include "supernet/formats/padding.hpp"

#include <algorithm>
#include <stdexcept>

namespace elastiform {
namespace {

Padded uniform(ModelConfig model, const Subnet& subnet, int heads, int ffn) {
  const BlockGenes genes{heads, heads / model.queries_per_group, ffn};
  return {std::move(model), {.embed = subnet.embed, .blocks = std::vector<BlockGenes>(subnet.blocks.size(), genes), .kept = {}}};
}

int most_heads(const Subnet& subnet, int least) {
  for (const BlockGenes& genes : subnet.blocks) least = std::max(least, genes.heads);
  return least;
}

int widest_ffn(const Subnet& subnet) {
  int widest = 1;
  for (const BlockGenes& genes : subnet.blocks) widest = std::max(widest, genes.ffn);
  return widest;
}

/// Columns of `to` are heads; each repeats those of the group that its query head had.
void copy_repeated(View to, ConstView from, int queries_per_group, int head_dim) {
  for (std::int64_t row = 0; row < from.rows; ++row)
    for (std::int64_t column = 0; column < from.columns * queries_per_group; ++column) {
      const std::int64_t group = column / head_dim / queries_per_group;
      to.row<float>(row)[column] = from.row<float>(row)[group * head_dim + column % head_dim];
    }
}

}  // namespace

DenseModel pad(const DenseModel& model, const Padded& to) {
  Weights weights(std::make_shared<const WeightTable>(SearchSpace::of(to.model, to.subnet)), DType::float32);
  for (const TensorSpec& tensor : model.weights.table().tensors()) {
    const ConstView from = model.weights.view(tensor);
    const View into = weights.view(tensor.name);
    const bool repeats = tensor.column_axis == Axis::key_value && to.model.queries_per_group != model.model.queries_per_group;
    const int times = repeats ? model.model.queries_per_group : 1;
    if (into.rows < from.rows || into.columns < from.columns * times)
      throw std::logic_error("pad: " + tensor.name + " is larger than its place");
    if (repeats) copy_repeated(into, from, times, model.model.head_dim);
    else
      for (std::int64_t row = 0; row < from.rows; ++row) std::copy_n(from.row<float>(row), from.columns, into.row<float>(row));
  }
  return {to.model, to.subnet, std::move(weights), model.tokenizer, model.end_token, model.reading, model.class_names};
}

NetworkSize size_of(const ModelConfig& model, const Subnet& subnet) {
  NetworkSize size;
  const WeightTable table(SearchSpace::of(model, subnet));
  for (const TensorSpec& tensor : table.tensors()) size.parameters += tensor.rows * tensor.columns;
  if (model.classifies()) return size;
  for (const BlockGenes& genes : subnet.blocks)
    size.cache_bytes += std::int64_t{2} * genes.groups * model.head_dim * model.context * static_cast<std::int64_t>(sizeof(float));
  return size;
}

Padded padded_llama(const ModelConfig& model, const Subnet& subnet) {
  int heads = most_heads(subnet, model.queries_per_group);
  // The class that takes any number of heads, Mistral, has no biases.
  if (model.biases)
    for (int more = heads; more <= subnet.embed; more += model.queries_per_group)
      if (subnet.embed % more == 0) {
        heads = more;
        break;
      }
  return uniform(model, subnet, heads, widest_ffn(subnet));
}

Padded padded_gpt2(const ModelConfig& model, const Subnet& subnet) {
  ModelConfig separate = model;
  separate.queries_per_group = 1;
  return uniform(std::move(separate), subnet, most_heads(subnet, std::max(1, subnet.embed / model.head_dim)), widest_ffn(subnet));
}

// ViT's class has the same arithmetic inside its blocks.
Padded padded_vit(const ModelConfig& model, const Subnet& subnet) { return padded_gpt2(model, subnet); }

}  // namespace elastiform
