#include "supernet/network.hpp"

#include <cmath>
#include <utility>
#include <vector>

#include "supernet/arena_bytes.hpp"
#include "supernet/network_parts.hpp"
#include "supernet/rotary.hpp"

namespace elastiform {

ConstantTable Network::Parts::rotary(double (*function)(double)) const {
  const ModelConfig& model = space.model();
  if (model.positions != Positions::rope) return {};
  const std::int64_t rows = model.stream_tokens(model.context), columns = model.head_dim / 2, bytes = rows * columns * bytes_of(dtype);
  MemoryBlock made = allocate_block(bytes);
  const std::vector<double> frequencies = rotary_frequencies(model);
  const View values{made.get(), rows, columns, columns, dtype};
  dispatch(dtype, [&]<class T>() {
    for (std::int64_t position = 0; position < rows; ++position)
      for (std::int64_t i = 0; i < columns; ++i)
        values.row<T>(position)[i] = static_cast<T>(function(static_cast<double>(position) * frequencies[static_cast<std::size_t>(i)]));
  });
  const bool stays = &memory == &host_memory();
  ConstantTable table{stays ? std::move(made) : allocate_block(bytes, memory), {}};
  if (!stays && bytes > 0) memory.copy(table.block.get(), made.get(), bytes);
  table.view = {table.block.get(), rows, columns, columns, dtype};
  return table;
}

Network::Network(const SearchSpace& space, DType dtype, MemorySpace& memory) : parts_(std::make_unique<Parts>(space, dtype, memory)) {}
Network::~Network() = default;
Network::Network(Network&&) noexcept = default;

const SearchSpace& Network::space() const { return parts_->space; }
DType Network::dtype() const { return parts_->dtype; }
MemorySpace& Network::memory() const { return parts_->memory; }

void Network::embed(Backend& backend, const Weights& values, int embed, const Batch& batch, View x, Arena& arena) const {
  parts_->embed(backend, values, embed, batch, x, arena);
}

void Network::forward_block(Backend& backend, const Weights& values, int embed, const BlockGenes& genes, int index, int depth,
                            std::int64_t tokens, ConstView x_in, View x_out, Arena& arena, PartDone done) const {
  const Parts& p = *parts_;
  const ModelConfig& model = p.space.model();
  const BlockShape shape = p.shape(x_in.rows / tokens, tokens, embed, genes, depth);
  const ArenaScope scope(arena);
  ConstView x = x_in;
  if (genes.heads > 0) {
    const Saved nothing(arena, Attention::tensors(model, shape, backend.traits()), Attention::levels().back(), backend.traits());
    const View y = genes.ffn > 0 ? arena.matrix(x_in.rows, embed, p.dtype) : x_out;
    const ArenaScope layer_scope(arena);
    p.attention.forward(backend, p.effective(backend, p.attention_slices(values, index, embed, genes), arena), shape, nothing, y, x, arena);
    x = y;
    done(PassPart::attention, index);
  }
  if (genes.ffn > 0) {
    const Saved nothing(arena, FeedForward::tensors(model, shape, backend.traits()), FeedForward::levels().back(), backend.traits());
    p.feed_forward.forward(backend, p.effective(backend, p.feed_forward_slices(values, index, embed, genes), arena), shape, nothing, x_out,
                           x, arena);
    done(PassPart::feed_forward, index);
  }
}

bool Network::depends_on_depth() const { return residual_form(space().model()).scales_by_depth; }

void Network::score(Backend& backend, const Weights& values, int embed, ConstView x, const Batch& batch, View losses, View correct,
                    Arena& arena) const {
  const Parts& p = *parts_;
  const ArenaScope scope(arena);
  const BlockShape shape = p.head_shape(batch.sequences, batch.tokens, embed);
  const ConstView read = p.pooled(backend, x, batch, arena);
  const Saved saved(arena, Head::tensors(p.space.model(), shape, backend.traits(), false).saved, p.dtype);
  p.head.score(backend, p.head_slices(values, embed), saved, read, batch, losses, correct, arena);
}

void Network::hidden(Backend& backend, const Weights& values, const Subnet& subnet, const Batch& batch, View hidden, Arena& arena) const {
  const Parts& p = *parts_;
  const ArenaScope scope(arena);
  const ConstView read = p.pooled(backend, passed_through(backend, values, subnet, batch, arena), batch, arena);
  const BlockShape shape = p.head_shape(batch.sequences, batch.tokens, subnet.embed);
  const Saved saved(arena, Head::tensors(p.space.model(), shape, backend.traits(), false).saved, p.dtype);
  p.head.hidden(backend, p.head_slices(values, subnet.embed), saved, read);
  backend.copy(hidden, saved.read(Head::kHidden));
}

ConstView Network::passed_through(Backend& backend, const Weights& values, const Subnet& subnet, const Batch& batch, Arena& arena,
                                  PartDone done) const {
  const Parts& p = *parts_;
  const std::int64_t rows = p.stream_rows(batch);
  View x = arena.matrix(rows, subnet.embed, p.dtype), y = arena.matrix(rows, subnet.embed, p.dtype);
  p.embed(backend, values, subnet.embed, batch, x, arena);
  done(PassPart::embedding, 0);
  for (int i = 0; i < subnet.depth(); ++i) {
    forward_block(backend, values, subnet.embed, subnet.blocks[static_cast<std::size_t>(i)], subnet.block_index(i), subnet.depth(),
                  p.space.model().stream_tokens(batch.tokens), x, y, arena, [&](PassPart part, int) { done(part, i); });
    std::swap(x, y);
  }
  return x;
}

void Network::classify(Backend& backend, const Weights& values, const Subnet& subnet, const Batch& batch, View logits, Arena& arena,
                       PartDone done) const {
  const Parts& p = *parts_;
  const ArenaScope scope(arena);
  const ConstView read = p.pooled(backend, passed_through(backend, values, subnet, batch, arena, done), batch, arena);
  const BlockShape shape = p.head_shape(batch.sequences, batch.tokens, subnet.embed);
  const Saved saved(arena, Head::tensors(p.space.model(), shape, backend.traits(), false).saved, p.dtype);
  p.head.logits(backend, p.head_slices(values, subnet.embed), saved, read, logits);
  done(PassPart::head, 0);
}

ConstView Network::decode_stream(Backend& backend, const Weights& values, const Subnet& subnet, KeyValueCache& cache, View x, View y,
                                 Arena& arena, PartDone done) const {
  const Parts& p = *parts_;
  const ModelConfig& model = p.space.model();
  for (int i = 0; i < subnet.depth(); ++i) {
    const std::size_t at = static_cast<std::size_t>(i);
    const BlockGenes& genes = subnet.blocks[at];
    const BlockShape shape = p.shape(1, x.rows, subnet.embed, genes, subnet.depth());
    const int block = subnet.block_index(i);
    if (genes.heads > 0) {
      const ArenaScope layer_scope(arena);
      p.attention.decode(backend, p.effective(backend, p.attention_slices(values, block, subnet.embed, genes, subnet.rank), arena), shape,
                         {cache.keys[at], cache.values[at], cache.tokens}, y, x, arena);
      std::swap(x, y);
      done(PassPart::attention, i);
    }
    if (genes.ffn > 0) {
      const ArenaScope layer_scope(arena);
      const Saved saved(arena, FeedForward::tensors(model, shape, backend.traits()), {}, backend.traits());
      p.feed_forward.forward(backend, p.effective(backend, p.feed_forward_slices(values, block, subnet.embed, genes, subnet.rank), arena),
                             shape, saved, y, x, arena);
      std::swap(x, y);
      done(PassPart::feed_forward, i);
    }
  }
  cache.tokens += x.rows;
  return x;
}

void Network::decode(Backend& backend, const Weights& values, const Subnet& subnet, std::span<const std::int32_t> tokens,
                     KeyValueCache& cache, View logits, Arena& arena, PartDone done) const {
  const Parts& p = *parts_;
  const ModelConfig& model = p.space.model();
  const std::int64_t count = static_cast<std::int64_t>(tokens.size()), prompt = model.tuning.tokens;
  if (prompt > 0 && cache.tokens == 0) {
    const ArenaScope scope(arena);
    const View x = arena.matrix(prompt, subnet.embed, p.dtype), y = arena.matrix(prompt, subnet.embed, p.dtype);
    backend.copy(x, p.prompt_of(values, subnet.embed));
    decode_stream(backend, values, subnet, cache, x, y, arena);
  }
  if (model.tuning.keys > 0 && cache.tokens == 0) {
    for (int i = 0; i < subnet.depth(); ++i) {
      const std::size_t at = static_cast<std::size_t>(i);
      if (subnet.blocks[at].heads == 0) continue;
      const AttentionSlices w = p.attention_slices(values, subnet.block_index(i), subnet.embed, subnet.blocks[at]);
      backend.copy(cache.keys[at].row_range(0, w.prefix_key.rows), w.prefix_key);
      backend.copy(cache.values[at].row_range(0, w.prefix_value.rows), w.prefix_value);
    }
    cache.tokens = model.tuning.keys;
  }
  const ArenaScope scope(arena);
  const View x = arena.matrix(count, subnet.embed, p.dtype), y = arena.matrix(count, subnet.embed, p.dtype);
  p.embed_tokens(backend, values, subnet.embed, tokens, count, cache.tokens - model.front_rows(), x);
  done(PassPart::embedding, 0);
  const ConstView z = decode_stream(backend, values, subnet, cache, x, y, arena, done);
  const Saved saved(arena, Head::tensors(model, p.shape(1, logits.rows, subnet.embed, {}, 0), backend.traits(), false).saved, p.dtype);
  p.head.logits(backend, p.head_slices(values, subnet.embed), saved, z.row_range(count - logits.rows, logits.rows), logits);
  done(PassPart::head, 0);
}

KeyValueCache Network::make_cache(const Subnet& subnet, std::int64_t context, Arena& arena) const {
  KeyValueCache cache;
  for (const BlockGenes& genes : subnet.blocks) {
    const std::int64_t columns = static_cast<std::int64_t>(genes.groups) * parts_->space.model().head_dim;
    const bool present = genes.heads > 0;
    const std::int64_t rows = parts_->space.model().stream_tokens(context);
    cache.keys.push_back(present ? arena.matrix(rows, columns, parts_->dtype) : View{});
    cache.values.push_back(present ? arena.matrix(rows, columns, parts_->dtype) : View{});
  }
  return cache;
}

std::int64_t Network::plan_embed(const BackendTraits& traits, int embed, std::int64_t batch) const {
  return embedding_arena_bytes(space().model(), traits.dtype, embed, batch, space().model().context);
}
std::int64_t Network::plan_hidden(const BackendTraits& traits, const Subnet& subnet, std::int64_t batch, std::int64_t tokens) const {
  return hidden_arena_bytes(space().model(), traits, subnet, batch, tokens);
}
std::int64_t Network::plan_classify(const BackendTraits& traits, const Subnet& subnet, std::int64_t batch) const {
  return classify_arena_bytes(space().model(), traits, subnet, batch);
}
std::int64_t Network::plan_block(const BackendTraits& traits, int embed, const BlockGenes& genes, std::int64_t batch,
                                 std::int64_t tokens) const {
  return block_arena_bytes(space().model(), traits, embed, genes, batch, tokens);
}
std::int64_t Network::plan_score(const BackendTraits& traits, int embed, std::int64_t batch, std::int64_t tokens) const {
  return score_arena_bytes(space().model(), traits, embed, batch, tokens);
}
std::int64_t Network::plan_decode(const BackendTraits& traits, const Subnet& subnet, std::int64_t tokens, std::int64_t logit_rows) const {
  return decode_arena_bytes(space().model(), traits, subnet, tokens, logit_rows);
}
std::int64_t Network::plan_cache(const Subnet& subnet, std::int64_t context) const {
  return cache_arena_bytes(space().model(), dtype(), subnet, context);
}

}  // namespace elastiform
