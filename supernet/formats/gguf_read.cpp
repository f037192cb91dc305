#include <algorithm>
#include <array>
#include <fstream>
#include <set>
#include <utility>

#include "kernels/errors.hpp"
#include "supernet/formats/gguf.hpp"

namespace elastiform::gguf {
namespace {

constexpr std::int64_t kMaxSize = 1 << 24;  // of any one number of the metadata; products stay far inside 64 bits
constexpr std::int64_t kMaxBlocks = 512;    // LLAMA_MAX_LAYERS
constexpr int kWidestIdle = 32;             // an FFN of zeros up to this width stands for none

int size_of(const Reader& file, const std::string& key, std::int64_t least = 1, std::int64_t most = kMaxSize) {
  const std::int64_t value = file.integer(key);
  if (value < least || value > most)
    throw InputError(
        {file.path() + ": " + key, "a whole number from " + std::to_string(least) + " to " + std::to_string(most), std::to_string(value), ""});
  return static_cast<int>(value);
}

std::vector<std::int64_t> sizes_of(const Reader& file, const std::string& key, int blocks) {
  std::vector<std::int64_t> sizes = file.integers(key, static_cast<std::size_t>(blocks));
  for (const std::int64_t size : sizes)
    if (size < 0 || size > kMaxSize)
      throw InputError({file.path() + ": " + key, "whole numbers from 0 to " + std::to_string(kMaxSize), std::to_string(size), ""});
  return sizes;
}

void only(const Reader& file, const std::string& key, const std::string& expected) {
  if (const std::string found = file.text(key); found != expected)
    throw InputError({file.path() + ": " + key, expected, "'" + found.substr(0, 64) + "'", ""});
}

/// Where one of our tensors stands in the file.
struct Source {
  std::string name;
  std::vector<std::int64_t> shape;
  bool transposed = false;  // [out,in]
  bool rotated = false;     // its outputs are heads whose pairs stand side by side
};

Source source_of(const TensorSpec& tensor) {
  static const std::map<std::string, std::string> names{{"embedding.token", "token_embd.weight"},
                                                        {"final.norm.gain", "output_norm.weight"},
                                                        {"head", "output.weight"},
                                                        {"attention.norm.gain", "attn_norm.weight"},
                                                        {"ffn.norm.gain", "ffn_norm.weight"},
                                                        {"attention.query", "attn_q"},
                                                        {"attention.key", "attn_k"},
                                                        {"attention.value", "attn_v"},
                                                        {"attention.out", "attn_output"},
                                                        {"ffn.gate", "ffn_gate"},
                                                        {"ffn.up", "ffn_up"},
                                                        {"ffn.down", "ffn_down"}};
  constexpr std::string_view kBias = ".bias";
  const std::string block = "block." + std::to_string(tensor.block) + ".";
  std::string stem = tensor.block < 0 ? tensor.name : tensor.name.substr(block.size());
  if (tensor.role == Role::bias) stem.resize(stem.size() - kBias.size());
  const auto found = names.find(stem);
  if (found == names.end()) throw std::logic_error("import: no GGUF name for " + tensor.name);
  Source source{.name = (tensor.block < 0 ? "" : "blk." + std::to_string(tensor.block) + ".") + found->second, .shape = {}};
  source.rotated = stem == "attention.query" || stem == "attention.key";
  if (tensor.role == Role::bias) source.name += kBias;
  if (tensor.role == Role::gain || tensor.role == Role::bias) source.shape = {tensor.columns};
  else if (tensor.role == Role::embedding) source.shape = {tensor.rows, tensor.columns};
  else source.name += ".weight", source.shape = {tensor.columns, tensor.rows}, source.transposed = true;
  return source;
}

/// Place in llama.cpp's order of output `column` of a head matrix: i of the first half stands at 2i, i of the second at 2i + 1.
std::int64_t rotated_place(std::int64_t column, std::int64_t head_dim) {
  const std::int64_t half = head_dim / 2, i = column % head_dim;
  return column - i + (i < half ? 2 * i : 2 * (i - half) + 1);
}

void fill(View into, const Source& source, const std::vector<float>& values, std::int64_t head_dim) {
  for (std::int64_t row = 0; row < into.rows; ++row)
    for (std::int64_t column = 0; column < into.columns; ++column) {
      const std::int64_t output = source.rotated ? rotated_place(column, head_dim) : column;
      const std::int64_t at = source.transposed ? output * into.rows + row : row * into.columns + output;
      into.row<float>(row)[column] = values[static_cast<std::size_t>(at)];
    }
}

/// Whether the FFN of a block adds nothing to the stream.
bool is_idle(const Reader& file, int block, std::int64_t width, std::int64_t embed) {
  const std::string prefix = "blk." + std::to_string(block) + ".ffn_down.";
  if (width > kWidestIdle || file.has(prefix + "bias")) return false;
  file.require(prefix + "weight", {embed, width});
  const std::vector<float> down = file.floats(prefix + "weight");
  return std::all_of(down.begin(), down.end(), [](float value) { return value == 0; });
}

/// Genes of every block, and the queries of a group, which our models have in common.
std::vector<BlockGenes> genes_of(const Reader& file, int embed, int& queries_per_group) {
  const int blocks = size_of(file, "deci.block_count", 1, kMaxBlocks);
  const auto heads = sizes_of(file, "deci.attention.head_count", blocks), groups = sizes_of(file, "deci.attention.head_count_kv", blocks),
             widths = sizes_of(file, "deci.feed_forward_length", blocks);
  std::vector<BlockGenes> genes;
  queries_per_group = 0;
  for (int i = 0; i < blocks; ++i) {
    const auto at = static_cast<std::size_t>(i);
    const std::string where = file.path() + ": block " + std::to_string(i);
    const std::string found = std::to_string(heads[at]) + " heads and " + std::to_string(groups[at]) + " KV heads";
    if ((heads[at] == 0) != (groups[at] == 0) || (groups[at] != 0 && heads[at] % groups[at] != 0))
      throw InputError({where, "heads that are a multiple of KV heads", found, ""});
    if (widths[at] == 0) throw InputError({where, "an FFN, without which llama.cpp leaves out attention too", "none", ""});
    if (heads[at] != 0) {
      const auto queries = static_cast<int>(heads[at] / groups[at]);
      if (queries_per_group != 0 && queries != queries_per_group)
        throw InputError({where, std::to_string(queries_per_group) + " query heads a KV head, as in the blocks before", found, ""});
      queries_per_group = queries;
    }
    const bool idle = heads[at] != 0 && is_idle(file, i, widths[at], embed);
    genes.push_back({static_cast<int>(heads[at]), static_cast<int>(groups[at]), idle ? 0 : static_cast<int>(widths[at])});
  }
  return genes;
}

ModelConfig model_of(const Reader& file) {
  ModelConfig model = preset_model("llama");
  model.vocabulary = size_of(file, "deci.vocab_size");
  model.context = size_of(file, "deci.context_length");
  model.head_dim = size_of(file, "deci.attention.key_length");
  for (const char* key : {"deci.attention.value_length", "deci.rope.dimension_count"})
    if (const int size = size_of(file, key); size != model.head_dim)
      throw InputError({file.path() + ": " + key, "the key length, " + std::to_string(model.head_dim), std::to_string(size), ""});
  model.norm_eps = file.real("deci.attention.layer_norm_rms_epsilon");
  model.rope_theta = file.real("deci.rope.freq_base");
  model.tied = !file.has("output.weight");
  model.biases = file.has("blk.0.attn_q.bias");
  model.branch_scale = 1;
  return model;
}

/// The space's own complaints, with the file that they are about.
SearchSpace space_of(const std::string& path, const ModelConfig& model, const Subnet& subnet) {
  try {
    return SearchSpace::of(model, subnet);
  } catch (const InputError& error) {
    InputError::Parts parts = error.parts();
    parts.where = path + ": " + parts.where;
    throw InputError(std::move(parts));
  }
}

}  // namespace

bool is_gguf(const std::string& path) {
  std::array<char, 4> magic{};
  std::ifstream(path, std::ios::binary).read(magic.data(), magic.size());
  return std::string_view(magic.data(), magic.size()) == "GGUF";
}

DenseModel read_deci(const std::string& path) {
  const Reader file(path);
  only(file, "general.architecture", "deci");
  only(file, "tokenizer.ggml.model", "gpt2");
  ModelConfig model = model_of(file);
  if (const std::uint64_t tokens = file.array_length("tokenizer.ggml.tokens"); tokens != static_cast<std::uint64_t>(model.vocabulary))
    throw InputError({path + ": tokenizer.ggml.tokens", std::to_string(model.vocabulary) + " of them", std::to_string(tokens), ""});
  Subnet subnet{.embed = size_of(file, "deci.embedding_length"), .blocks = {}, .kept = {}};
  subnet.blocks = genes_of(file, subnet.embed, model.queries_per_group);
  if (model.queries_per_group == 0) throw InputError({path, "a block with attention", "none", ""});
  check_unstored_sizes(model, path);

  const auto table = std::make_shared<const WeightTable>(space_of(path, model, subnet));
  std::set<std::string> wanted;
  for (const TensorSpec& tensor : table->tensors()) {
    const Source source = source_of(tensor);
    file.require(source.name, source.shape);
    wanted.insert(source.name);
  }
  for (int i = 0; i < subnet.depth(); ++i)
    if (subnet.blocks[static_cast<std::size_t>(i)].ffn == 0)
      for (const char* name : {"ffn_norm", "ffn_gate", "ffn_up", "ffn_down"})
        wanted.insert("blk." + std::to_string(i) + "." + name + ".weight");
  for (const auto& [name, entry] : file.entries())
    if (wanted.count(name) == 0)
      throw InputError({path, "only tensors of the model that its metadata describe", "'" + name.substr(0, 96) + "'", ""});
  Weights weights(table, DType::float32);  // at most 4 times the file, whose tensors have been checked
  for (const TensorSpec& tensor : table->tensors()) {
    const Source source = source_of(tensor);
    fill(weights.view(tensor), source, file.floats(source.name), model.head_dim);
  }
  return {std::move(model), std::move(subnet), std::move(weights)};
}

}  // namespace elastiform::gguf
