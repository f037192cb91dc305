#include "supernet/activation_plan.hpp"

#include <array>

#include "supernet/layers/attention.hpp"
#include "supernet/layers/feed_forward.hpp"
#include "supernet/layers/head.hpp"

namespace elastiform {
namespace {

BlockShape shape_of(std::int64_t batch, std::int64_t tokens, int embed, const BlockGenes& genes) {
  return {.batch = batch, .tokens = tokens, .embed = embed, .heads = genes.heads, .groups = genes.groups, .ffn = genes.ffn};
}

}  // namespace

Saved::Saved(Arena& arena, std::span<const TensorShape> shapes, DType dtype) {
  views_.reserve(shapes.size());
  for (const TensorShape& shape : shapes) views_.push_back(shape.rows == 0 ? View{} : arena.matrix(shape.rows, shape.columns, dtype));
}

std::int64_t ActivationPlan::bytes(std::span<const TensorShape> shapes) const {
  std::int64_t sum = 0;
  for (const TensorShape& shape : shapes)
    if (shape.rows > 0) sum += Arena::bytes_for(shape.rows, shape.columns, dtype_);
  return sum;
}

void ActivationPlan::keep(std::span<const TensorShape> shapes) {
  kept_ += bytes(shapes);
  peak_ = std::max(peak_, kept_);
}

void ActivationPlan::use(std::span<const TensorShape> shapes) { peak_ = std::max(peak_, kept_ + bytes(shapes)); }

void ActivationPlan::release_kept(std::span<const TensorShape> shapes) { kept_ -= bytes(shapes); }

std::int64_t training_arena_bytes(const ModelConfig& model, DType dtype, int slots, const Subnet& subnet, std::int64_t batch,
                                  std::int64_t tokens, bool with_teacher) {
  ActivationPlan plan(dtype);
  const std::array<TensorShape, 1> stream{{{batch * tokens, subnet.embed}}};
  plan.keep(stream);  // the embedding's output
  std::vector<LayerTensors> layers;
  for (const BlockGenes& genes : subnet.blocks) {
    const BlockShape shape = shape_of(batch, tokens, subnet.embed, genes);
    if (genes.heads > 0) layers.push_back(Attention::tensors(model, shape, slots));
    if (genes.ffn > 0) layers.push_back(FeedForward::tensors(model, shape, slots));
  }
  for (const LayerTensors& layer : layers) plan.keep(layer.saved);
  const LayerTensors head = Head::tensors(model, shape_of(batch, tokens, subnet.embed, {}), slots, with_teacher);
  plan.keep(stream);  // the gradient that runs back through the blocks
  plan.keep(head.saved);
  plan.use(head.backward_scratch);
  plan.release_kept(head.saved);
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) plan.use(layer->backward_scratch);
  return plan.peak();
}

std::int64_t block_arena_bytes(const ModelConfig& model, DType dtype, int slots, int embed, const BlockGenes& genes, std::int64_t batch,
                               std::int64_t tokens) {
  const BlockShape shape = shape_of(batch, tokens, embed, genes);
  ActivationPlan plan(dtype);
  if (genes.heads > 0) {
    const auto saved = Attention::tensors(model, shape, slots).saved;
    plan.keep(saved);
    if (genes.ffn == 0) return plan.peak();
  }
  if (genes.ffn > 0) plan.keep(FeedForward::tensors(model, shape, slots).saved);
  return plan.peak();
}

std::int64_t score_arena_bytes(const ModelConfig& model, DType dtype, int slots, int embed, std::int64_t batch, std::int64_t tokens) {
  ActivationPlan plan(dtype);
  const LayerTensors head = Head::tensors(model, shape_of(batch, tokens, embed, {}), slots, false);
  plan.keep(head.saved);
  plan.use(head.forward_scratch);
  return plan.peak();
}

std::int64_t decode_arena_bytes(const ModelConfig& model, DType dtype, int slots, const Subnet& subnet, std::int64_t tokens,
                                std::int64_t logit_rows) {
  ActivationPlan plan(dtype);
  const std::array<TensorShape, 2> streams{{{tokens, subnet.embed}, {tokens, subnet.embed}}};
  plan.keep(streams);  // input and output of a layer take turns
  for (const BlockGenes& genes : subnet.blocks) {
    const BlockShape shape = shape_of(1, tokens, subnet.embed, genes);
    if (genes.heads > 0) plan.use(Attention::decode_scratch(model, shape));
    if (genes.ffn > 0) plan.use(FeedForward::tensors(model, shape, slots).saved);
  }
  plan.use(Head::tensors(model, shape_of(1, logit_rows, subnet.embed, {}), slots, false).saved);
  return plan.peak();
}

std::int64_t cache_arena_bytes(const ModelConfig& model, DType dtype, const Subnet& subnet, std::int64_t context) {
  ActivationPlan plan(dtype);
  for (const BlockGenes& genes : subnet.blocks) {
    const TensorShape rows{genes.heads > 0 ? context : 0, static_cast<std::int64_t>(genes.groups) * model.head_dim};
    plan.keep(std::array<TensorShape, 2>{{rows, rows}});
  }
  return plan.peak();
}

std::int64_t generation_arena_bytes(const ModelConfig& model, DType dtype, int slots, const Subnet& subnet, std::int64_t context) {
  return cache_arena_bytes(model, dtype, subnet, context) +
         decode_arena_bytes(model, dtype, slots, subnet, std::min(context, kPrefillRows), 1) + Arena::bytes_for(1, model.vocabulary, dtype);
}

}  // namespace elastiform
