#include "supernet/arena_bytes.hpp"

#include <algorithm>

#include "supernet/layers/attention.hpp"
#include "supernet/layers/feed_forward.hpp"
#include "supernet/layers/head.hpp"
#include "supernet/layers/patch_embedding.hpp"
#include "supernet/layers/pooling.hpp"
#include "supernet/layers/prompt.hpp"

namespace elastiform {
std::int64_t embedding_arena_bytes(const ModelConfig& model, DType dtype, std::int64_t embed, std::int64_t batch, std::int64_t tokens,
                                   std::int64_t masked) {
  return Prompt::arena_bytes(model, dtype, batch * tokens, embed) + PatchEmbedding::arena_bytes(model, dtype, batch, embed, masked);
}

std::int64_t block_arena_bytes(const ModelConfig& model, const BackendTraits& traits, int embed, const BlockGenes& genes,
                               std::int64_t batch, std::int64_t tokens) {
  const BlockShape shape = BlockShape::of(batch, tokens, embed, genes);
  std::int64_t attention = 0, feed_forward = 0, middle = 0;
  if (genes.heads > 0) attention = Attention::tensors(model, shape, traits).forward_bytes(Attention::levels().back(), traits);
  if (genes.ffn > 0) feed_forward = FeedForward::tensors(model, shape, traits).forward_bytes(FeedForward::levels().back(), traits);
  if (genes.heads > 0 && genes.ffn > 0) middle = TensorShape{shape.rows(), embed}.bytes(traits.dtype);
  return middle + std::max(attention, feed_forward);
}

std::int64_t score_arena_bytes(const ModelConfig& model, const BackendTraits& traits, int embed, std::int64_t batch, std::int64_t tokens) {
  const bool pools = Pooling::present(model);
  const HeadTensors head = Head::tensors(model, BlockShape::of(batch, pools ? 1 : tokens, embed, {}), traits, false);
  return Prompt::arena_bytes(model, traits.dtype, batch * tokens, embed) + TensorShape{pools ? batch : 0, embed}.bytes(traits.dtype) +
         bytes_of_all(head.saved, traits.dtype) + bytes_of_all(head.forward_scratch, traits.dtype);
}

std::int64_t hidden_arena_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, std::int64_t batch,
                                std::int64_t tokens) {
  const bool pools = Pooling::present(model);
  const std::int64_t rows = model.stream_tokens(tokens);
  const std::int64_t stream = TensorShape{batch * rows, subnet.embed}.bytes(traits.dtype);
  const BlockShape read = BlockShape::of(batch, pools ? 1 : tokens, subnet.embed, {});
  const std::int64_t head = Prompt::arena_bytes(model, traits.dtype, batch * tokens, subnet.embed) +
                            TensorShape{pools ? batch : 0, subnet.embed}.bytes(traits.dtype) +
                            bytes_of_all(Head::tensors(model, read, traits, false).saved, traits.dtype);
  std::int64_t most = std::max(head, embedding_arena_bytes(model, traits.dtype, subnet.embed, batch, tokens));
  for (const BlockGenes& genes : subnet.blocks) most = std::max(most, block_arena_bytes(model, traits, subnet.embed, genes, batch, rows));
  return 2 * stream + most;
}

std::int64_t classify_arena_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, std::int64_t batch) {
  return hidden_arena_bytes(model, traits, subnet, batch, model.context);
}

std::int64_t inference_arena_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, std::int64_t batch,
                                   std::int64_t context) {
  if (!Pooling::present(model)) return batch * generation_arena_bytes(model, traits, subnet, context);
  return classify_arena_bytes(model, traits, subnet, batch) + Arena::bytes_for(batch, model.vocabulary, traits.dtype);
}

std::int64_t decode_arena_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, std::int64_t tokens,
                                std::int64_t logit_rows) {
  tokens = std::max<std::int64_t>(tokens, model.tuning.tokens);  // a prompt's vectors come first, all at once
  std::int64_t most =
      bytes_of_all(Head::tensors(model, BlockShape::of(1, logit_rows, subnet.embed, {}), traits, false).saved, traits.dtype);
  for (const BlockGenes& genes : subnet.blocks) {
    const BlockShape shape = BlockShape::of(1, tokens, subnet.embed, genes);
    if (genes.heads > 0)
      most = std::max(most, bytes_of_all(Attention::decode_scratch(model, shape), traits.dtype) +
                                bytes_of_all(Attention::tensors(model, shape, traits).effective, traits.dtype));
    if (genes.ffn > 0) {
      const LayerTensors tensors = FeedForward::tensors(model, shape, traits);
      most = std::max(most, tensors.saved_bytes({}, traits) + tensors.forward_bytes({}, traits));
    }
  }
  return 2 * TensorShape{tokens, subnet.embed}.bytes(traits.dtype) + most;  // input and output of a layer take turns
}

std::int64_t cache_arena_bytes(const ModelConfig& model, DType dtype, const Subnet& subnet, std::int64_t context) {
  std::int64_t sum = 0;
  for (const BlockGenes& genes : subnet.blocks)
    if (genes.heads > 0)
      sum += 2 * TensorShape{model.stream_tokens(context), static_cast<std::int64_t>(genes.groups) * model.head_dim}.bytes(dtype);
  return sum;
}

std::int64_t generation_arena_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, std::int64_t context) {
  return cache_arena_bytes(model, traits.dtype, subnet, context) +
         decode_arena_bytes(model, traits, subnet, std::min(context, kPrefillRows), 1) +
         Arena::bytes_for(1, model.vocabulary, traits.dtype);
}

}  // namespace elastiform
