#include "supernet/network.hpp"

#include <cmath>
#include <cstring>
#include <string>
#include <utility>

#include "supernet/activation_plan.hpp"
#include "supernet/layers/attention.hpp"
#include "supernet/layers/feed_forward.hpp"
#include "supernet/layers/head.hpp"

namespace elastiform {
namespace {

/// A constant matrix of either element type that a Network owns.
struct Table {
  std::vector<float> f32;
  std::vector<double> f64;
  std::int64_t rows = 0, columns = 0;

  ConstView view(DType dtype) const {
    if (rows == 0) return {};
    return dtype == DType::float32 ? view_of(f32.data(), rows, columns, columns) : view_of(f64.data(), rows, columns, columns);
  }
};

/// cos or sin of position · theta^(-2i/D), computed in double whatever the element type.
Table rotary_table(const ModelConfig& model, DType dtype, double (*function)(double)) {
  Table table{.f32 = {}, .f64 = {}, .rows = model.context, .columns = model.head_dim / 2};
  for (std::int64_t position = 0; position < table.rows; ++position)
    for (std::int64_t i = 0; i < table.columns; ++i) {
      const double angle = static_cast<double>(position) * std::pow(model.rope_theta, -2.0 * static_cast<double>(i) / model.head_dim);
      if (dtype == DType::float32) table.f32.push_back(static_cast<float>(function(angle)));
      else table.f64.push_back(function(angle));
    }
  return table;
}

/// Places of a linear map's or norm's tensors in the weight table; -1: absent.
struct LinearPlace {
  int weight = -1, bias = -1;
};
struct BlockPlaces {
  LinearPlace attention_norm, query, key, value, out, ffn_norm, gate, up, down;
};

}  // namespace

struct Network::Parts {
  SearchSpace space;
  DType dtype;
  WeightTable table;
  Table cosine, sine;
  Attention attention;
  FeedForward feed_forward;
  Head head;
  LinearPlace token, position, final_norm, head_table;
  std::vector<BlockPlaces> blocks;

  Parts(const SearchSpace& space_, DType dtype_)
      : space(space_), dtype(dtype_), table(space_), cosine(rotary(std::cos)), sine(rotary(std::sin)),
        attention(space.model(), cosine.view(dtype), sine.view(dtype)), feed_forward(space.model()), head(space.model()) {
    token = place("embedding.token", "");
    position = place("embedding.position", "");
    final_norm = place("final.norm.gain", "final.norm.bias");
    head_table = space.model().tied ? token : place("head", "");
    for (int block = 0; block < space.max_depth(); ++block) {
      const std::string prefix = "block." + std::to_string(block);
      const auto linear = [&](const char* name) { return place(prefix + name, prefix + name + ".bias"); };
      const auto norm = [&](const char* name) { return place(prefix + name + ".gain", prefix + name + ".bias"); };
      blocks.push_back({norm(".attention.norm"), linear(".attention.query"), linear(".attention.key"), linear(".attention.value"),
                        linear(".attention.out"), norm(".ffn.norm"), linear(".ffn.gate"), linear(".ffn.up"), linear(".ffn.down")});
    }
  }

  Table rotary(double (*function)(double)) const {
    return space.model().positions == Positions::rope ? rotary_table(space.model(), dtype, function) : Table{};
  }

  LinearPlace place(const std::string& weight, const std::string& bias) const {
    const auto index = [&](const std::string& name) {
      return table.has(name) ? static_cast<int>(&table.at(name) - table.tensors().data()) : -1;
    };
    return {index(weight), index(bias)};
  }

  /// The first rows × columns of a tensor; empty where the model has none. W is Weights or const Weights.
  template <class W>
  auto slice(W& weights, int index, std::int64_t rows, std::int64_t columns) const {
    using V = decltype(weights.view(table.tensors()[0]));
    return index < 0 ? V{} : weights.view(table.tensors()[static_cast<std::size_t>(index)]).slice(rows, columns);
  }
  template <class W>
  auto linear(W& weights, LinearPlace place, std::int64_t in, std::int64_t out) const {
    using V = decltype(weights.view(table.tensors()[0]));
    return BasicLinearSlice<V>{slice(weights, place.weight, in, out), slice(weights, place.bias, 1, out)};
  }
  template <class W>
  auto norm(W& weights, LinearPlace place, std::int64_t embed) const {
    using V = decltype(weights.view(table.tensors()[0]));
    return BasicNormSlice<V>{slice(weights, place.weight, 1, embed), slice(weights, place.bias, 1, embed)};
  }
  template <class W>
  auto attention_slices(W& weights, int block, int embed, const BlockGenes& genes) const {
    using V = decltype(weights.view(table.tensors()[0]));
    const BlockPlaces& at = blocks[static_cast<std::size_t>(block)];
    const std::int64_t A = static_cast<std::int64_t>(genes.heads) * space.model().head_dim;
    const std::int64_t G = static_cast<std::int64_t>(genes.groups) * space.model().head_dim;
    return BasicAttentionSlices<V>{norm(weights, at.attention_norm, embed), linear(weights, at.query, embed, A),
                                   linear(weights, at.key, embed, G), linear(weights, at.value, embed, G),
                                   linear(weights, at.out, A, embed)};
  }
  template <class W>
  auto feed_forward_slices(W& weights, int block, int embed, const BlockGenes& genes) const {
    using V = decltype(weights.view(table.tensors()[0]));
    const BlockPlaces& at = blocks[static_cast<std::size_t>(block)];
    return BasicFeedForwardSlices<V>{norm(weights, at.ffn_norm, embed), linear(weights, at.gate, embed, genes.ffn),
                                     linear(weights, at.up, embed, genes.ffn), linear(weights, at.down, genes.ffn, embed)};
  }
  template <class W>
  auto head_slices(W& weights, int embed) const {
    using V = decltype(weights.view(table.tensors()[0]));
    return BasicHeadSlices<V>{norm(weights, final_norm, embed), slice(weights, head_table.weight, space.model().vocabulary, embed)};
  }

  BlockShape shape(std::int64_t batch, std::int64_t tokens, int embed, const BlockGenes& genes) const {
    return {.batch = batch, .tokens = tokens, .embed = embed, .heads = genes.heads, .groups = genes.groups, .ffn = genes.ffn};
  }

  void embed(Backend& backend, const Weights& values, int embed, std::span<const std::int32_t> tokens, std::int64_t period,
             std::int64_t offset, View x) const {
    backend.embedding_forward({.y = x,
                               .table = slice(values, token.weight, space.model().vocabulary, embed),
                               .positions = slice(values, position.weight, space.model().context, embed),
                               .tokens = tokens,
                               .period = period,
                               .offset = offset});
  }
};

Network::Network(const SearchSpace& space, DType dtype) : parts_(std::make_unique<Parts>(space, dtype)) {}
Network::~Network() = default;
Network::Network(Network&&) noexcept = default;

const SearchSpace& Network::space() const { return parts_->space; }
DType Network::dtype() const { return parts_->dtype; }

namespace {

void copy_rows(ConstView from, View to) {
  for (std::int64_t row = 0; row < from.rows; ++row)
    std::memcpy(to.row_range(row, 1).data, from.row_range(row, 1).data, static_cast<std::size_t>(from.columns * bytes_of(from.dtype)));
}

/// One branch of a block between forward and backward.
struct Layer {
  bool attention = false;
  int block = 0;  // the supernet's
  BlockGenes genes;
  BlockShape shape;
  Saved saved;
  ConstView input;
};

}  // namespace

LossReport Network::forward_backward(Backend& backend, const Weights& values, Weights& gradients, const Subnet& subnet, const Batch& batch,
                                     const LossOptions& options, const Teacher& teacher, View keep_hidden, Arena& arena) const {
  const Parts& p = *parts_;
  const ModelConfig& model = p.space.model();
  const ArenaScope scope(arena);
  const View stream = arena.matrix(batch.rows(), subnet.embed, p.dtype);
  p.embed(backend, values, subnet.embed, batch.inputs, batch.tokens, 0, stream);

  ConstView x = stream;
  std::vector<Layer> layers;
  layers.reserve(2 * subnet.blocks.size());
  for (int i = 0; i < subnet.depth(); ++i) {
    const BlockGenes& genes = subnet.blocks[static_cast<std::size_t>(i)];
    const int block = subnet.block_index(i);
    const BlockShape shape = p.shape(batch.sequences, batch.tokens, subnet.embed, genes);
    if (genes.heads > 0) {
      layers.push_back({true, block, genes, shape, Saved(arena, Attention::tensors(model, shape, backend.slots()).saved, p.dtype), x});
      const View y = layers.back().saved.write(Attention::kResult);
      p.attention.forward(backend, p.attention_slices(values, block, subnet.embed, genes), shape, layers.back().saved, y, x);
      x = y;
    }
    if (genes.ffn > 0) {
      layers.push_back({false, block, genes, shape, Saved(arena, FeedForward::tensors(model, shape, backend.slots()).saved, p.dtype), x});
      const View y = layers.back().saved.write(FeedForward::kResult);
      p.feed_forward.forward(backend, p.feed_forward_slices(values, block, subnet.embed, genes), layers.back().saved, y, x);
      x = y;
    }
  }

  const View d = arena.matrix(batch.rows(), subnet.embed, p.dtype);
  LossReport report;
  {
    const ArenaScope head_scope(arena);
    const BlockShape shape = p.shape(batch.sequences, batch.tokens, subnet.embed, {});
    const bool taught = !teacher.hidden.empty();
    const Saved saved(arena, Head::tensors(model, shape, backend.slots(), taught).saved, p.dtype);
    const ConstView teacher_table = !taught ? ConstView{} : p.head_slices(values, teacher.embed).table;
    report = p.head.forward_backward(backend, p.head_slices(values, subnet.embed), p.head_slices(gradients, subnet.embed), teacher_table,
                                     shape, saved, d, x, batch, options, teacher, arena);
    if (!keep_hidden.empty()) copy_rows(saved.read(Head::kHidden), keep_hidden);
  }
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer) {
    if (layer->attention)
      p.attention.backward(backend, p.attention_slices(values, layer->block, subnet.embed, layer->genes),
                           p.attention_slices(gradients, layer->block, subnet.embed, layer->genes), layer->shape, layer->saved, d,
                           layer->input, arena);
    else
      p.feed_forward.backward(backend, p.feed_forward_slices(values, layer->block, subnet.embed, layer->genes),
                              p.feed_forward_slices(gradients, layer->block, subnet.embed, layer->genes), layer->shape, layer->saved, d,
                              layer->input, arena);
  }
  backend.embedding_backward({.dtable = p.slice(gradients, p.token.weight, model.vocabulary, subnet.embed),
                              .dpositions = p.slice(gradients, p.position.weight, model.context, subnet.embed),
                              .dy = d,
                              .tokens = batch.inputs,
                              .period = batch.tokens});
  return report;
}

void Network::embed(Backend& backend, const Weights& values, int embed, const Batch& batch, View x) const {
  parts_->embed(backend, values, embed, batch.inputs, batch.tokens, 0, x);
}

void Network::forward_block(Backend& backend, const Weights& values, int embed, const BlockGenes& genes, int index, std::int64_t tokens,
                            ConstView x_in, View x_out, Arena& arena) const {
  const Parts& p = *parts_;
  const ModelConfig& model = p.space.model();
  const BlockShape shape = p.shape(x_in.rows / tokens, tokens, embed, genes);
  const ArenaScope scope(arena);
  ConstView x = x_in;
  if (genes.heads > 0) {
    const Saved saved(arena, Attention::tensors(model, shape, backend.slots()).saved, p.dtype);
    const View y = genes.ffn > 0 ? saved.write(Attention::kResult) : x_out;
    p.attention.forward(backend, p.attention_slices(values, index, embed, genes), shape, saved, y, x);
    x = y;
  }
  if (genes.ffn > 0) {
    const Saved saved(arena, FeedForward::tensors(model, shape, backend.slots()).saved, p.dtype);
    p.feed_forward.forward(backend, p.feed_forward_slices(values, index, embed, genes), saved, x_out, x);
  }
}

void Network::score(Backend& backend, const Weights& values, int embed, ConstView x, const Batch& batch, View losses, View correct,
                    Arena& arena) const {
  const Parts& p = *parts_;
  const ArenaScope scope(arena);
  const BlockShape shape = p.shape(batch.sequences, batch.tokens, embed, {});
  const Saved saved(arena, Head::tensors(p.space.model(), shape, backend.slots(), false).saved, p.dtype);
  p.head.score(backend, p.head_slices(values, embed), saved, x, batch, losses, correct, arena);
}

void Network::decode(Backend& backend, const Weights& values, const Subnet& subnet, std::span<const std::int32_t> tokens,
                     KeyValueCache& cache, View logits, Arena& arena) const {
  const Parts& p = *parts_;
  const ModelConfig& model = p.space.model();
  const ArenaScope scope(arena);
  const std::int64_t count = static_cast<std::int64_t>(tokens.size());
  View x = arena.matrix(count, subnet.embed, p.dtype), y = arena.matrix(count, subnet.embed, p.dtype);
  p.embed(backend, values, subnet.embed, tokens, count, cache.tokens, x);
  for (int i = 0; i < subnet.depth(); ++i) {
    const std::size_t at = static_cast<std::size_t>(i);
    const BlockGenes& genes = subnet.blocks[at];
    const BlockShape shape = p.shape(1, count, subnet.embed, genes);
    if (genes.heads > 0) {
      p.attention.decode(backend, p.attention_slices(values, subnet.block_index(i), subnet.embed, genes), shape,
                         {cache.keys[at], cache.values[at], cache.tokens}, y, x, arena);
      std::swap(x, y);
    }
    if (genes.ffn > 0) {
      const ArenaScope layer_scope(arena);
      const Saved saved(arena, FeedForward::tensors(model, shape, backend.slots()).saved, p.dtype);
      p.feed_forward.forward(backend, p.feed_forward_slices(values, subnet.block_index(i), subnet.embed, genes), saved, y, x);
      std::swap(x, y);
    }
  }
  const Saved saved(arena, Head::tensors(model, p.shape(1, logits.rows, subnet.embed, {}), backend.slots(), false).saved, p.dtype);
  p.head.logits(backend, p.head_slices(values, subnet.embed), saved, x.row_range(count - logits.rows, logits.rows), logits);
  cache.tokens += count;
}

KeyValueCache Network::make_cache(const Subnet& subnet, std::int64_t context, Arena& arena) const {
  KeyValueCache cache;
  for (const BlockGenes& genes : subnet.blocks) {
    const std::int64_t columns = static_cast<std::int64_t>(genes.groups) * parts_->space.model().head_dim;
    const bool present = genes.heads > 0;
    cache.keys.push_back(present ? arena.matrix(context, columns, parts_->dtype) : View{});
    cache.values.push_back(present ? arena.matrix(context, columns, parts_->dtype) : View{});
  }
  return cache;
}

std::int64_t Network::plan_training(int slots, const Subnet& subnet, std::int64_t batch, std::int64_t tokens, bool with_teacher) const {
  return training_arena_bytes(space().model(), dtype(), slots, subnet, batch, tokens, with_teacher);
}
std::int64_t Network::plan_block(int slots, int embed, const BlockGenes& genes, std::int64_t batch, std::int64_t tokens) const {
  return block_arena_bytes(space().model(), dtype(), slots, embed, genes, batch, tokens);
}
std::int64_t Network::plan_score(int slots, int embed, std::int64_t batch, std::int64_t tokens) const {
  return score_arena_bytes(space().model(), dtype(), slots, embed, batch, tokens);
}
std::int64_t Network::plan_decode(int slots, const Subnet& subnet, std::int64_t tokens, std::int64_t logit_rows) const {
  return decode_arena_bytes(space().model(), dtype(), slots, subnet, tokens, logit_rows);
}
std::int64_t Network::plan_cache(const Subnet& subnet, std::int64_t context) const {
  return cache_arena_bytes(space().model(), dtype(), subnet, context);
}

}  // namespace elastiform
