#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "supernet/layers/attention.hpp"
#include "supernet/layers/feed_forward.hpp"
#include "supernet/layers/head.hpp"
#include "supernet/layers/masked_ends.hpp"
#include "supernet/layers/patch_embedding.hpp"
#include "supernet/layers/pooling.hpp"
#include "supernet/layers/prompt.hpp"
#include "supernet/network.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "supernet/patch_decoder.hpp"

namespace elastiform {

/// A constant matrix that a Network owns.
struct ConstantTable {
  MemoryBlock block;
  ConstView view;
};

/// Places of a linear map's or norm's tensors in the weight table; -1: absent.
struct LinearPlace {
  int weight = -1, bias = -1;
  std::array<int, kAddedTensors> added{-1, -1};
};
struct EndPlace {
  int down = -1, up = -1;
};
struct ResidualPlaces {
  int gate = -1, skip = -1, input = -1, activation = -1, output = -1;
};
/// Of a decoder's ends, beside what any network has.
struct DecoderPlaces {
  LinearPlace hidden;
  int mask = -1;
};
struct BlockPlaces {
  LinearPlace attention_norm, query, key, value, out, ffn_norm, gate, up, down;
  ResidualPlaces attention_residual, ffn_residual;
  EndPlace attention_end, ffn_end;
  LinearPlace prefix_key{}, prefix_value{};
};

/// What a Network is made of: its layers and the places of their tensors in the weight table.
struct Network::Parts {
  SearchSpace space;
  DType dtype;
  MemorySpace& memory;
  WeightTable table;
  ConstantTable cosine, sine;
  Attention attention;
  FeedForward feed_forward;
  PatchEmbedding patch_embedding;
  Pooling pooling;
  Head head;
  AddedTensors added;  // beside each linear map that the model's tuning has as a target
  std::int64_t adapter_width;
  LinearPlace token, patch, class_token, distillation_token, position, prompt, final_norm, head_table;
  std::vector<BlockPlaces> blocks;
  std::string prefix;  // of the names of its tensors in the table
  int blocks_before;   // of the network that it belongs to: tells its work from that of those
  DecoderPlaces decoder_ends;
  std::unique_ptr<const Parts> decoder;  // of a model that has one
  Subnet subnet_of_decoder;

  Parts(const SearchSpace& space_, DType dtype_, MemorySpace& memory_) : Parts(space_, dtype_, memory_, WeightTable(space_), "", 0) {
    if (!space.model().decoder.present()) return;
    const SearchSpace own = decoder_space(space.model());
    decoder_ends = {place("decoder.hidden", "decoder.hidden.bias"), index("decoder.mask")};
    decoder = std::make_unique<const Parts>(own, dtype, memory, table, std::string(kDecoderPrefix), space.max_depth());
    subnet_of_decoder = own.largest();
  }
  Parts(const SearchSpace& space_, DType dtype_, MemorySpace& memory_, WeightTable table_, std::string prefix_, int blocks_before_)
      : space(space_), dtype(dtype_), memory(memory_), table(std::move(table_)), cosine(rotary(std::cos)), sine(rotary(std::sin)),
        attention(space.model(), cosine.view, sine.view), feed_forward(space.model()), patch_embedding(space.model()),
        pooling(space.model()), head(space.model()), added(parametrization_of(space.model().tuning).how->added(space.model())),
        adapter_width(parametrization_of(space.model().tuning).how->adapter_width(space.model())), prefix(std::move(prefix_)),
        blocks_before(blocks_before_) {
    token = place("embedding.token", "");
    patch = place("embedding.patch", "embedding.patch.bias");
    class_token = place("embedding.class", "");
    distillation_token = place("embedding.distillation", "");
    position = place("embedding.position", "");
    prompt = place("embedding.prompt", "");
    final_norm = place("final.norm.gain", "final.norm.bias");
    head_table = space.model().tied ? token : place("head", "head.bias");
    for (int block = 0; block < space.max_depth(); ++block) {
      const std::string its = "block." + std::to_string(block);
      const auto linear = [&](const char* name) { return place(its + name, its + name + ".bias"); };
      const auto norm = [&](const char* name) { return place(its + name + ".gain", its + name + ".bias"); };
      const auto end = [&](const char* name) { return EndPlace{index(its + name + ".down"), index(its + name + ".up")}; };
      blocks.push_back({norm(".attention.norm"), linear(".attention.query"), linear(".attention.key"), linear(".attention.value"),
                        linear(".attention.out"), norm(".ffn.norm"), linear(".ffn.gate"), linear(".ffn.up"), linear(".ffn.down"),
                        residual(its, ".attention"), residual(its, ".ffn"), end(".attention.adapter"), end(".ffn.adapter"),
                        place(its + ".attention.prefix.key", ""), place(its + ".attention.prefix.value", "")});
    }
  }

  /// cos or sin of position · theta^(-2i/D), computed in double whatever the element type; empty for learned positions.
  ConstantTable rotary(double (*function)(double)) const;

  int index(const std::string& name) const {
    const std::string whole = prefix + name;
    return table.has(whole) ? static_cast<int>(&table.at(whole) - table.tensors().data()) : -1;
  }
  LinearPlace place(const std::string& weight, const std::string& bias) const {
    LinearPlace found{index(weight), index(bias)};
    for (std::size_t i = 0; i < added.size(); ++i) found.added[i] = index(weight + std::string(added[i].suffix));
    return found;
  }
  /// A gate that the branches of a block share is both's.
  ResidualPlaces residual(const std::string& block, const char* branch) const {
    const std::string its = block + branch + ".residual.";
    const int gate = index(its + "gate");
    return {gate >= 0 ? gate : index(block + ".residual.gate"), index(its + "skip"), index(its + "input"), index(its + "activation"),
            index(its + "output")};
  }

  /// The first rows × columns of a tensor; empty where the model has none. W is const Weights, or Weights: gradients, which frozen tensors
  /// have none of. They lie where the weights' own table says: those of a mapped file lie elsewhere than others.
  template <class W>
  auto slice(W& weights, int index, std::int64_t rows, std::int64_t columns) const {
    using V = decltype(weights.view(table.tensors()[0]));
    if (index < 0) return V{};
    const TensorSpec& tensor = weights.table().tensors()[static_cast<std::size_t>(index)];
    return tensor.trained || std::is_const_v<W> ? weights.view(tensor).slice(rows, columns) : V{};
  }
  template <class W>
  auto linear(W& weights, LinearPlace place, std::int64_t in, std::int64_t out, int rank = 0) const {
    using V = decltype(weights.view(table.tensors()[0]));
    BasicLinearSlice<V> result{slice(weights, place.weight, in, out), slice(weights, place.bias, 1, out)};
    if (rank == 0) rank = space.model().tuning.rank;
    const auto along = [&](Side side) { return side == Side::in ? in : side == Side::out ? out : side == Side::rank ? rank : 1; };
    for (std::size_t i = 0; i < added.size(); ++i)
      result.added[i] = slice(weights, place.added[i], along(added[i].rows), along(added[i].columns));
    return result;
  }
  template <class W>
  auto norm(W& weights, LinearPlace place, std::int64_t embed) const {
    using V = decltype(weights.view(table.tensors()[0]));
    return BasicNormSlice<V>{slice(weights, place.weight, 1, embed), slice(weights, place.bias, 1, embed)};
  }
  /// [1, C], or the single number that a tensor is.
  template <class W>
  auto row(W& weights, int index, std::int64_t embed) const {
    return slice(weights, index, 1, index >= 0 && table.tensors()[static_cast<std::size_t>(index)].column_axis == Axis::embed ? embed : 1);
  }
  template <class W>
  auto residual_slices(W& weights, const ResidualPlaces& at, std::int64_t embed) const {
    using V = decltype(weights.view(table.tensors()[0]));
    return BasicResidualSlices<V>{row(weights, at.gate, embed), row(weights, at.skip, embed), row(weights, at.input, embed),
                                  row(weights, at.activation, embed), row(weights, at.output, embed)};
  }
  template <class W>
  auto end(W& weights, EndPlace place, std::int64_t embed) const {
    using V = decltype(weights.view(table.tensors()[0]));
    return BasicAdapterSlice<V>{slice(weights, place.down, embed, adapter_width), slice(weights, place.up, adapter_width, embed)};
  }
  /// rank: Subnet::rank.
  template <class W>
  auto attention_slices(W& weights, int block, int embed, const BlockGenes& genes, int rank = 0) const {
    using V = decltype(weights.view(table.tensors()[0]));
    const BlockPlaces& at = blocks[static_cast<std::size_t>(block)];
    const std::int64_t A = static_cast<std::int64_t>(genes.heads) * space.model().head_dim;
    const std::int64_t G = static_cast<std::int64_t>(genes.groups) * space.model().head_dim;
    return BasicAttentionSlices<V>{norm(weights, at.attention_norm, embed),
                                   linear(weights, at.query, embed, A, rank),
                                   linear(weights, at.key, embed, G, rank),
                                   linear(weights, at.value, embed, G, rank),
                                   linear(weights, at.out, A, embed, rank),
                                   residual_slices(weights, at.attention_residual, embed),
                                   end(weights, at.attention_end, embed),
                                   slice(weights, at.prefix_key.weight, space.model().tuning.keys, G),
                                   slice(weights, at.prefix_value.weight, space.model().tuning.keys, G)};
  }
  template <class W>
  auto feed_forward_slices(W& weights, int block, int embed, const BlockGenes& genes, int rank = 0) const {
    using V = decltype(weights.view(table.tensors()[0]));
    const BlockPlaces& at = blocks[static_cast<std::size_t>(block)];
    return BasicFeedForwardSlices<V>{norm(weights, at.ffn_norm, embed),
                                     linear(weights, at.gate, embed, genes.ffn, rank),
                                     linear(weights, at.up, embed, genes.ffn, rank),
                                     linear(weights, at.down, genes.ffn, embed, rank),
                                     residual_slices(weights, at.ffn_residual, embed),
                                     end(weights, at.ffn_end, embed)};
  }
  /// The slices as layers multiply by them, in the arena until the caller's scope ends where the model's tuning forms them anew.
  AttentionSlices effective(Backend& backend, AttentionSlices w, Arena& arena) const {
    const Linears linears(space.model());
    w.query = linears.effective(backend, LinearMap::query, w.query, arena);
    w.key = linears.effective(backend, LinearMap::key, w.key, arena);
    w.value = linears.effective(backend, LinearMap::value, w.value, arena);
    w.out = linears.effective(backend, LinearMap::out, w.out, arena);
    return w;
  }
  FeedForwardSlices effective(Backend& backend, FeedForwardSlices w, Arena& arena) const {
    const Linears linears(space.model());
    w.gate = linears.effective(backend, LinearMap::gate, w.gate, arena);
    w.up = linears.effective(backend, LinearMap::up, w.up, arena);
    w.down = linears.effective(backend, LinearMap::down, w.down, arena);
    return w;
  }
  template <class W>
  auto head_slices(W& weights, int embed) const {
    using V = decltype(weights.view(table.tensors()[0]));
    const int vocabulary = space.model().vocabulary;
    return BasicHeadSlices<V>{norm(weights, final_norm, embed), slice(weights, head_table.weight, vocabulary, embed),
                              slice(weights, head_table.bias, 1, vocabulary)};
  }
  template <class W>
  auto patch_slices(W& weights, int embed) const {
    using V = decltype(weights.view(table.tensors()[0]));
    const ModelConfig& model = space.model();
    return BasicPatchSlices<V>{linear(weights, patch, model.image.patch_values(), embed), slice(weights, class_token.weight, 1, embed),
                               slice(weights, distillation_token.weight, 1, embed), slice(weights, position.weight, model.context, embed)};
  }
  /// What stands around the blocks of the decoder, for an encoder of so many channels.
  template <class W>
  auto masked_slices(W& weights, int embed) const {
    using V = decltype(weights.view(table.tensors()[0]));
    const Parts& own = *decoder;
    const int width = own.space.max_embed();
    const auto head = own.head_slices(weights, width);
    return BasicMaskedSlices<V>{norm(weights, final_norm, embed),
                                linear(weights, decoder_ends.hidden, embed, width),
                                slice(weights, decoder_ends.mask, 1, width),
                                slice(weights, own.position.weight, own.space.model().context, width),
                                head.norm,
                                {head.table, head.bias}};
  }

  /// depth: of the subnet, where there is one.
  BlockShape shape(std::int64_t batch, std::int64_t tokens, int embed, const BlockGenes& genes, int depth) const {
    BlockShape shape = BlockShape::of(batch, tokens, embed, genes);
    shape.depth = depth;
    return shape;
  }

  /// Of the head, which reads every token or one row a sequence.
  BlockShape head_shape(std::int64_t batch, std::int64_t tokens, int embed) const {
    return shape(batch, Pooling::present(space.model()) ? 1 : tokens, embed, {}, 0);
  }

  template <class W>
  auto prompt_of(W& weights, int embed) const {
    return slice(weights, prompt.weight, space.model().tuning.tokens, embed);
  }
  void embed(Backend& backend, const Weights& values, int embed, const Batch& batch, View x, Arena& arena) const {
    const ArenaScope scope(arena);
    const bool prompted = Prompt::present(space.model());
    const View tokens = prompted ? arena.matrix(batch.rows(), embed, dtype) : x;
    if (space.model().classifies()) patch_embedding.forward(backend, patch_slices(values, embed), batch, tokens, arena);
    else embed_tokens(backend, values, embed, batch.inputs, batch.tokens, 0, tokens);
    if (prompted) Prompt::prepend(backend, x, prompt_of(values, embed), tokens, batch.sequences);
  }
  /// What the head reads of x: x itself, the tokens' rows, or one row a sequence, these in the arena.
  ConstView pooled(Backend& backend, ConstView x, const Batch& batch, Arena& arena) const {
    if (Prompt::present(space.model())) {
      const View tokens = arena.matrix(batch.rows(), x.columns, dtype);
      Prompt::strip(backend, tokens, x, batch.sequences);
      x = tokens;
    }
    if (!Pooling::present(space.model())) return x;
    const View rows = arena.matrix(batch.sequences, x.columns, dtype);
    pooling.forward(backend, rows, x, batch);
    return rows;
  }
  /// Rows of the stream that blocks process.
  std::int64_t stream_rows(const Batch& batch) const { return batch.sequences * space.model().stream_tokens(batch.tokens); }
  void embed_tokens(Backend& backend, const Weights& values, int embed, std::span<const std::int32_t> tokens, std::int64_t period,
                    std::int64_t offset, View x) const {
    backend.embedding_forward({.y = x,
                               .table = slice(values, token.weight, space.model().vocabulary, embed),
                               .positions = slice(values, position.weight, space.model().context, embed),
                               .tokens = tokens,
                               .period = period,
                               .offset = offset});
  }
};

}  // namespace elastiform
