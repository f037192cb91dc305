#include <algorithm>
#include <array>
#include <fstream>
#include <set>
#include <utility>

#include "kernels/errors.hpp"
#include "supernet/formats/foreign_model.hpp"
#include "supernet/formats/gguf.hpp"
#include "supernet/formats/gguf_rotary.hpp"
#include "supernet/formats/gguf_vocabulary.hpp"
#include "supernet/formats/weight_rows.hpp"

namespace elastiform::gguf {
namespace {

constexpr std::int64_t kMaxSize = 1 << 24;  // of any one number of the metadata; products stay far inside 64 bits
constexpr std::int64_t kMaxBlocks = 512;    // LLAMA_MAX_LAYERS

int size_of(const Reader& file, const std::string& key, std::int64_t least = 1, std::int64_t most = kMaxSize) {
  const std::int64_t value = file.integer(key);
  if (value < least || value > most)
    throw InputError({file.path() + ": " + key, "a whole number from " + std::to_string(least) + " to " + std::to_string(most),
                      std::to_string(value), ""});
  return static_cast<int>(value);
}

std::vector<std::int64_t> sizes_of(const Reader& file, const std::string& key, int blocks) {
  std::vector<std::int64_t> sizes = file.integers(key, static_cast<std::size_t>(blocks));
  for (const std::int64_t size : sizes)
    if (size < 0 || size > kMaxSize)
      throw InputError({file.path() + ": " + key, "whole numbers from 0 to " + std::to_string(kMaxSize), std::to_string(size), ""});
  return sizes;
}

/// One of the two architectures whose arithmetic is ours, and its metadata: keys are asked for without "llama." or "deci.".
class Description {
 public:
  explicit Description(const Reader& file) : file_(file), architecture_(file.text("general.architecture")) {
    if (architecture_ != "llama" && architecture_ != "deci")
      throw InputError({file.path() + ": general.architecture", "llama or deci", "'" + architecture_.substr(0, 64) + "'", ""});
    for (const char* name : {"rope.scaling.attn_factor", "rope.scaling.alpha", "attention.sliding_window", "expert_count", "logit_scale",
                             "attention.scale", "attention.clamp_kqv", "attention.max_alibi_bias", "attention.causal"})
      if (has(name) && !is_neutral(name))
        throw InputError({file.path() + ": " + key(name), "none, which is plain Llama", "another arithmetic", "it has no place here"});
  }
  bool is_deci() const { return architecture_ == "deci"; }
  std::string key(const std::string& name) const { return architecture_ + "." + name; }
  bool has(const std::string& name) const { return file_.has_key(key(name)); }
  int size(const std::string& name, std::int64_t most = kMaxSize) const { return size_of(file_, key(name), 1, most); }
  int size_or(const std::string& name, int otherwise) const { return has(name) ? size(name) : otherwise; }
  double real(const std::string& name) const { return file_.real(key(name)); }
  const std::string& architecture() const { return architecture_; }
  std::vector<std::int64_t> sizes(const std::string& name, int blocks) const { return sizes_of(file_, key(name), blocks); }

 private:
  bool is_neutral(const std::string& name) const {
    if (name == "rope.scaling.alpha") return file_.real(key(name)) == 0;
    if (name == "rope.scaling.attn_factor") return file_.real(key(name)) == 1;
    if (name == "attention.causal") return file_.flag(key(name));
    return name == "expert_count" && file_.integer(key(name)) == 0;
  }
  const Reader& file_;
  std::string architecture_;
};

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
  std::vector<std::int64_t> places;
  for (std::int64_t column = 0; column < into.columns; ++column)
    places.push_back(source.rotated ? rotated_place(column, head_dim) : column);
  const auto place = [&](std::int64_t column) { return places[static_cast<std::size_t>(column)]; };
  if (source.transposed) return fill_transposed(into, values.data(), into.rows, place);
  for (std::int64_t row = 0; row < into.rows; ++row)
    for (std::int64_t column = 0; column < into.columns; ++column)
      into.row<float>(row)[column] = values[static_cast<std::size_t>(row * into.columns + place(column))];
}

/// Whether the FFN of a block stands for none: it adds nothing to the stream, and ours say so, while of others a single column is taken for one.
bool is_idle(const Reader& file, int block, std::int64_t width, std::int64_t embed) {
  constexpr const char* kOwn = "elastiform.feed_forward_length";
  const bool ours = file.has_key(kOwn) && file.array_length(kOwn) > static_cast<std::uint64_t>(block);
  const std::string prefix = "blk." + std::to_string(block) + ".ffn_down.";
  if (ours ? file.integers(kOwn, file.array_length(kOwn))[static_cast<std::size_t>(block)] != 0 : width > 1) return false;
  if (file.has(prefix + "bias")) return false;
  file.require(prefix + "weight", {embed, width});
  const std::vector<float> down = file.floats(prefix + "weight");
  return std::all_of(down.begin(), down.end(), [](float value) { return value == 0; });
}

/// Genes of every block, and the queries of a group, which our models have in common.
std::vector<BlockGenes> genes_of(const Reader& file, const Description& description, int embed, int& queries_per_group) {
  const int blocks = description.size("block_count", kMaxBlocks);
  const auto heads = description.sizes("attention.head_count", blocks), widths = description.sizes("feed_forward_length", blocks);
  const auto groups = description.has("attention.head_count_kv") ? description.sizes("attention.head_count_kv", blocks) : heads;
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
    const bool idle = description.is_deci() && heads[at] != 0 && is_idle(file, i, widths[at], embed);
    genes.push_back({static_cast<int>(heads[at]), static_cast<int>(groups[at]), idle ? 0 : static_cast<int>(widths[at])});
  }
  if (queries_per_group == 0) throw InputError({file.path(), "a block with attention", "none", ""});
  return genes;
}

/// Width of a head: said, or what the first block's heads make of the embed width.
int head_dim_of(const Reader& file, const Description& description, int embed, const BlockGenes& first) {
  if (description.has("attention.key_length")) return description.size("attention.key_length");
  if (first.heads == 0 || embed % first.heads != 0)
    throw InputError({file.path(), "key " + description.key("attention.key_length"), "none", ""});
  return embed / first.heads;
}

bool has_biases(const Reader& file) {
  return std::any_of(file.entries().begin(), file.entries().end(), [](const auto& entry) {
    constexpr std::string_view kBias = ".bias";
    return entry.first.size() > kBias.size() && entry.first.compare(entry.first.size() - kBias.size(), kBias.size(), kBias) == 0;
  });
}

ModelConfig model_of(const Reader& file, const Description& description, int embed, const BlockGenes& first, std::optional<int> context) {
  ModelConfig model = preset_model("llama");
  const std::uint64_t tokens = file.has_key("tokenizer.ggml.tokens") ? file.array_length("tokenizer.ggml.tokens") : 0;
  model.vocabulary = description.size_or("vocab_size", static_cast<int>(std::min<std::uint64_t>(tokens, kMaxSize)));
  if (model.vocabulary == 0) throw InputError({file.path(), "key " + description.key("vocab_size"), "none", ""});
  if (tokens != 0 && tokens != static_cast<std::uint64_t>(model.vocabulary))
    throw InputError({file.path() + ": tokenizer.ggml.tokens", std::to_string(model.vocabulary) + " of them", std::to_string(tokens), ""});
  model.context = context_within(description.size("context_length"), context, file.path() + ": " + description.key("context_length"));
  model.head_dim = head_dim_of(file, description, embed, first);
  for (const char* name : {"attention.value_length", "rope.dimension_count"})
    if (const int size = description.size_or(name, model.head_dim); size != model.head_dim)
      throw InputError(
          {file.path() + ": " + description.key(name), "the key length, " + std::to_string(model.head_dim), std::to_string(size), ""});
  model.norm_eps = description.real("attention.layer_norm_rms_epsilon");
  model.rope_theta = description.has("rope.freq_base") ? description.real("rope.freq_base") : 10000;  // llama.cpp's own default
  model.rope_scaling = read_scaling(file, description.architecture(), model);
  model.tied = !file.has("output.weight");
  model.biases = has_biases(file);
  model.branch_scale = 1;
  return model;
}

/// A bias that the file leaves out: 0 here. Ours are everywhere or nowhere.
bool is_absent(const Reader& file, const TensorSpec& tensor, const Source& source) {
  return tensor.role == Role::bias && !file.has(source.name);
}

/// Every tensor of the table in its shape, and none beside them: before memory is taken.
void check_tensors(const Reader& file, const WeightTable& table, const Subnet& subnet) {
  std::set<std::string> wanted;
  for (const TensorSpec& tensor : table.tensors()) {
    const Source source = source_of(tensor);
    if (is_absent(file, tensor, source)) continue;
    file.require(source.name, source.shape);
    wanted.insert(source.name);
  }
  for (int i = 0; i < subnet.depth(); ++i)
    if (subnet.blocks[static_cast<std::size_t>(i)].ffn == 0)
      for (const char* name : {"ffn_norm", "ffn_gate", "ffn_up", "ffn_down"})
        wanted.insert("blk." + std::to_string(i) + "." + name + ".weight");
  std::vector<std::string> homeless;
  for (const auto& [name, entry] : file.entries())
    if (name != kRopeDivisors && wanted.count(name) == 0) homeless.push_back(name);
  if (!homeless.empty())
    throw InputError(
        {file.path(), "only tensors of the model that its metadata describe", grouped_names(homeless) + ", without a place here", ""});
}

}  // namespace

bool is_gguf(const std::string& path) {
  std::array<char, 4> magic{};
  std::ifstream(path, std::ios::binary).read(magic.data(), magic.size());
  return std::string_view(magic.data(), magic.size()) == "GGUF";
}

DenseModel read(const std::string& path, std::optional<int> context) {
  const Reader file(path);
  const Description description(file);
  Subnet subnet{.embed = description.size("embedding_length"), .blocks = {}, .kept = {}};
  int queries_per_group = 0;
  subnet.blocks = genes_of(file, description, subnet.embed, queries_per_group);
  ModelConfig model = model_of(file, description, subnet.embed, subnet.blocks.front(), context);
  model.queries_per_group = queries_per_group;
  check_unstored_sizes(model, path);
  const auto table = std::make_shared<const WeightTable>(space_of_file(model, subnet, path));
  check_tensors(file, *table, subnet);
  check_stored_sizes(*table, file.bytes(), path);
  Weights weights(table, DType::float32);
  for (const TensorSpec& tensor : table->tensors()) {
    const Source source = source_of(tensor);
    if (!is_absent(file, tensor, source)) fill(weights.view(tensor), source, file.floats(source.name), model.head_dim);
  }
  std::optional<InputError> refused;
  std::string tokenizer = tokenizer_of(file, refused);
  return {.model = std::move(model),
          .subnet = std::move(subnet),
          .weights = std::move(weights),
          .tokenizer = std::move(tokenizer),
          .end_token = end_token_of(file),
          .no_tokenizer = std::move(refused)};
}

}  // namespace elastiform::gguf
