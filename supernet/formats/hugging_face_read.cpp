#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include "kernels/errors.hpp"
#include "supernet/formats/hugging_face.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/formats/safetensors.hpp"

namespace elastiform::hugging_face {
namespace {

constexpr std::size_t kMaxConfig = 1 << 20;
constexpr int kMaxSize = 1 << 24;  // of any one number in config.json; products stay far inside 64 bits

/// config.json, asked key by key.
class Config {
 public:
  explicit Config(const std::string& folder)
      : where_(folder + "/config.json"), json_(parse_untrusted_json(read_small_file(where_, kMaxConfig), where_, 16)) {
    if (!json_.is_object()) throw InputError({where_, "a JSON object", json_.type_name(), ""});
  }

  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  int integer(const char* key) const {
    const auto& value = at(key);
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() < 1 || value.get<std::uint64_t>() > kMaxSize)
      fail(key, "a whole number from 1 to " + std::to_string(kMaxSize), value);
    return value.get<int>();
  }
  double real(const char* key) const { return real(at(key), key); }
  bool flag(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_[key].is_boolean()) fail(key, "true or false", json_[key]);
    return json_[key].get<bool>();
  }
  std::string text(const char* key) const {
    const auto& value = at(key);
    if (!value.is_string()) fail(key, "text", value);
    return value.get<std::string>();
  }
  /// Refuses a value of `key` other than `expected`, or than absence or null when that is empty.
  void only(const char* key, const std::string& expected) const {
    if (expected.empty() && has(key)) fail(key, "null", json_[key]);
    if (!expected.empty() && text(key) != expected) fail(key, expected, json_[key]);
  }
  double rope_theta() const {
    if (!has("rope_parameters")) return real("rope_theta");
    const auto& rope = json_["rope_parameters"];
    if (!rope.is_object() || !rope.contains("rope_theta")) fail("rope_parameters", "an object with rope_theta", rope);
    if (rope.contains("rope_type") && rope["rope_type"] != "default") fail("rope_parameters.rope_type", "default", rope["rope_type"]);
    return real(rope["rope_theta"], "rope_parameters.rope_theta");
  }
  /// Whole numbers from 0, one a block; `count` of them unless that is 0.
  std::vector<int> list(const char* key, std::size_t count) const {
    const auto& value = at(key);
    if (!value.is_array() || value.empty() || value.size() > kMaxSubnetBlocks || (count != 0 && value.size() != count))
      fail(key, count == 0 ? "a list of numbers" : "a list of " + std::to_string(count) + " numbers", value);
    std::vector<int> numbers;
    for (const auto& number : value) {
      if (!number.is_number_unsigned() || number.get<std::uint64_t>() > kMaxSize) fail(key, "whole numbers from 0", number);
      numbers.push_back(number.get<int>());
    }
    return numbers;
  }
  /// Index of the value of `key` among `choices`.
  std::size_t choice(const char* key, const std::vector<std::string>& choices) const {
    const auto found = std::find(choices.begin(), choices.end(), text(key));
    std::string list;
    for (const std::string& name : choices) list += (list.empty() ? "one of " : ", ") + name;
    if (found == choices.end()) fail(key, list, json_[key]);
    return static_cast<std::size_t>(found - choices.begin());
  }
  int at_most(const char* key, int limit) const {
    const int value = integer(key);
    if (value > limit) fail(key, "at most " + std::to_string(limit), json_[key]);
    return value;
  }
  const std::string& where() const { return where_; }
  [[noreturn]] void fail(const std::string& key, std::string expected, const nlohmann::json& found) const {
    throw InputError(
        {where_ + ": " + key, std::move(expected), found.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 64), ""});
  }

 private:
  const nlohmann::json& at(const char* key) const {
    if (!has(key)) throw InputError({where_, std::string("key ") + key, "none", ""});
    return json_[key];
  }
  double real(const nlohmann::json& value, const std::string& key) const {
    if (!value.is_number()) fail(key, "a number", value);
    return value.get<double>();
  }

  std::string where_;
  nlohmann::json json_;
};

/// Where one of our tensors stands in the file: all of a tensor or, of GPT-2's fused query, key and value, some of its columns.
struct Source {
  std::string name;
  std::vector<std::int64_t> shape;
  bool transposed = false;
  std::int64_t first_column = 0;
};

/// "block.N.REST" → N and REST; outside the blocks N is -1.
std::pair<int, std::string> split_name(const TensorSpec& tensor) {
  if (tensor.block < 0) return {-1, tensor.name};
  return {tensor.block, tensor.name.substr(tensor.name.find('.', sizeof("block.") - 1) + 1)};
}

std::pair<std::string, bool> without_suffix(const std::string& name, std::string_view suffix) {
  const bool ends = name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
  return {ends ? name.substr(0, name.size() - suffix.size()) : name, ends};
}

std::string translated(const std::string& name, const std::map<std::string, std::string>& table) {
  const auto found = table.find(name);
  if (found == table.end()) throw std::logic_error("import: no Hugging Face name for " + name);
  return found->second;
}

Source llama_source(const TensorSpec& tensor) {
  static const std::map<std::string, std::string> names{{"embedding.token", "model.embed_tokens"},
                                                        {"embedding.position", "model.embed_positions"},
                                                        {"final.norm", "model.norm"},
                                                        {"head", "lm_head"},
                                                        {"attention.norm", "input_layernorm"},
                                                        {"ffn.norm", "post_attention_layernorm"},
                                                        {"attention.query", "self_attn.q_proj"},
                                                        {"attention.key", "self_attn.k_proj"},
                                                        {"attention.value", "self_attn.v_proj"},
                                                        {"attention.out", "self_attn.o_proj"},
                                                        {"ffn.gate", "mlp.gate_proj"},
                                                        {"ffn.up", "mlp.up_proj"},
                                                        {"ffn.down", "mlp.down_proj"}};
  const auto [block, rest] = split_name(tensor);
  const auto [stem, is_bias] = without_suffix(rest, ".bias");
  const std::string prefix = block < 0 ? "" : "model.layers." + std::to_string(block) + ".";
  const std::string name = prefix + translated(without_suffix(stem, ".gain").first, names) + (is_bias ? ".bias" : ".weight");
  if (tensor.role == Role::gain || tensor.role == Role::bias) return {name, {tensor.columns}};
  if (tensor.role == Role::embedding) return {name, {tensor.rows, tensor.columns}};
  return {name, {tensor.columns, tensor.rows}, true};
}

Source gpt2_source(const TensorSpec& tensor) {
  static const std::map<std::string, std::string> names{{"embedding.token", "transformer.wte"},
                                                        {"embedding.position", "transformer.wpe"},
                                                        {"final.norm", "transformer.ln_f"},
                                                        {"head", "lm_head"},
                                                        {"attention.norm", "ln_1"},
                                                        {"ffn.norm", "ln_2"},
                                                        {"attention.query", "attn.c_attn"},
                                                        {"attention.key", "attn.c_attn"},
                                                        {"attention.value", "attn.c_attn"},
                                                        {"attention.out", "attn.c_proj"},
                                                        {"ffn.up", "mlp.c_fc"},
                                                        {"ffn.down", "mlp.c_proj"}};
  const auto [block, rest] = split_name(tensor);
  const auto [stem, is_bias] = without_suffix(rest, ".bias");
  const std::string prefix = block < 0 ? "" : "transformer.h." + std::to_string(block) + ".";
  Source source{.name = prefix + translated(without_suffix(stem, ".gain").first, names) + (is_bias ? ".bias" : ".weight"), .shape = {}};
  std::int64_t columns = tensor.columns;
  if (stem == "attention.query" || stem == "attention.key" || stem == "attention.value") {
    source.first_column = stem == "attention.query" ? 0 : stem == "attention.key" ? columns : 2 * columns;
    columns *= 3;
  }
  const bool is_vector = tensor.role == Role::gain || tensor.role == Role::bias;
  source.shape = is_vector ? std::vector<std::int64_t>{columns} : std::vector<std::int64_t>{tensor.rows, columns};
  return source;
}

void fill(View into, const Source& source, const std::vector<float>& values) {
  const std::int64_t width = source.shape.back();
  for (std::int64_t row = 0; row < into.rows; ++row)
    for (std::int64_t column = 0; column < into.columns; ++column) {
      const std::int64_t at = source.transposed ? column * width + row : row * width + source.first_column + column;
      into.row<float>(row)[column] = values[static_cast<std::size_t>(at)];
    }
}

/// The space's own complaints, with the file that they are about.
SearchSpace space_of(const std::string& folder, const ModelConfig& model, const Subnet& subnet) {
  try {
    return SearchSpace::of(model, subnet);
  } catch (const InputError& error) {
    InputError::Parts parts = error.parts();
    parts.where = folder + "/config.json: " + parts.where;
    throw InputError(std::move(parts));
  }
}

DenseModel read_weights(const std::string& folder, const ModelConfig& model, Subnet subnet, Source (*source_of)(const TensorSpec&)) {
  check_unstored_sizes(model, folder + "/config.json");
  const safetensors::Reader file(folder + "/model.safetensors");
  const auto table = std::make_shared<const WeightTable>(space_of(folder, model, subnet));
  std::set<std::string> wanted;
  for (const TensorSpec& tensor : table->tensors()) {
    const Source source = source_of(tensor);
    file.require(source.name, source.shape);
    wanted.insert(source.name);
  }
  for (const auto& [name, entry] : file.entries())
    if (wanted.count(name) == 0)
      throw InputError(
          {folder + "/model.safetensors", "only tensors of the model that config.json describes", "'" + name.substr(0, 96) + "'", ""});
  Weights weights(table, DType::float32);  // no larger than the file, whose tensors have been checked
  for (const TensorSpec& tensor : table->tensors()) {
    const Source source = source_of(tensor);
    fill(weights.view(tensor), source, file.floats(source.name));
  }
  return {model, std::move(subnet), std::move(weights)};
}

Subnet uniform(int embed, int layers, const BlockGenes& genes) {
  return {.embed = embed, .blocks = std::vector<BlockGenes>(static_cast<std::size_t>(layers), genes), .kept = {}};
}

}  // namespace

std::string model_type(const std::string& folder) { return Config(folder).text("model_type"); }

DenseModel read_llama(const std::string& path) {
  const Config config(path);
  const bool mistral = config.text("model_type") == "mistral";
  if (!mistral) config.only("model_type", "llama");
  config.only("hidden_act", "silu");
  config.only("rope_scaling", "");
  if (mistral) config.only("sliding_window", "");
  const int embed = config.integer("hidden_size"), heads = config.integer("num_attention_heads");
  const int groups = config.has("num_key_value_heads") ? config.integer("num_key_value_heads") : heads;
  if (heads % groups != 0)
    throw InputError(
        {config.where(), "heads that are a multiple of KV heads", std::to_string(heads) + " and " + std::to_string(groups), ""});
  if (!config.has("head_dim") && embed % heads != 0) throw InputError({config.where(), "key head_dim", "none", ""});
  const bool biases = config.flag("attention_bias", false);
  if (config.flag("mlp_bias", false) != biases)
    throw InputError({config.where(), "attention_bias and mlp_bias equal", "one of them true", ""});

  ModelConfig model = preset_model("llama");
  model.vocabulary = config.integer("vocab_size");
  model.context = config.integer("max_position_embeddings");
  model.head_dim = config.has("head_dim") ? config.integer("head_dim") : embed / heads;
  model.queries_per_group = heads / groups;
  model.norm_eps = config.real("rms_norm_eps");
  model.rope_theta = config.rope_theta();
  model.biases = biases;
  model.tied = config.flag("tie_word_embeddings", false);
  model.branch_scale = 1;
  return read_weights(
      path, model,
      uniform(embed, config.at_most("num_hidden_layers", kMaxSubnetBlocks), {heads, groups, config.integer("intermediate_size")}),
      llama_source);
}

DenseModel read_gpt2(const std::string& path) {
  const Config config(path);
  config.only("model_type", "gpt2");
  const int embed = config.integer("n_embd"), heads = config.integer("n_head");
  if (embed % heads != 0)
    throw InputError({config.where(), "n_embd that is a multiple of n_head", std::to_string(embed) + " and " + std::to_string(heads), ""});
  const std::string activation = config.text("activation_function");
  if (activation != "gelu" && activation != "gelu_new")
    throw InputError({config.where() + ": activation_function", "gelu or gelu_new", activation.substr(0, 64), ""});

  ModelConfig model = preset_model("gpt2");
  model.ffn = activation == "gelu" ? FeedForwardKind::gelu_erf : FeedForwardKind::gelu_tanh;
  model.vocabulary = config.integer("vocab_size");
  model.context = config.integer("n_positions");
  model.head_dim = embed / heads;
  model.queries_per_group = 1;
  model.norm_eps = config.real("layer_norm_epsilon");
  model.tied = config.flag("tie_word_embeddings", true);
  model.branch_scale = 1;
  const int ffn = config.has("n_inner") ? config.integer("n_inner") : 4 * embed;
  return read_weights(path, model, uniform(embed, config.at_most("n_layer", kMaxSubnetBlocks), {heads, heads, ffn}), gpt2_source);
}

DenseModel read_auto(const std::string& path) {
  const Config config(path);
  config.only("model_type", "elastiform");
  const std::vector<int> heads = config.list("block_heads", 0), groups = config.list("block_key_value_heads", heads.size()),
                         widths = config.list("block_ffn", heads.size());
  ModelConfig model = preset_model(config.choice("norm", {"rmsnorm", "layernorm"}) == 0 ? "llama" : "gpt2");
  Subnet subnet{.embed = config.integer("hidden_size"), .blocks = {}, .kept = {}};
  int queries = 0;
  for (std::size_t i = 0; i < heads.size(); ++i) {
    const std::string where = config.where() + ": block " + std::to_string(i);
    const std::string found = std::to_string(heads[i]) + " heads and " + std::to_string(groups[i]) + " key and value heads";
    if ((heads[i] == 0) != (groups[i] == 0) || (groups[i] != 0 && heads[i] % groups[i] != 0))
      throw InputError({where, "heads that are a multiple of key and value heads", found, ""});
    if (heads[i] == 0 && widths[i] == 0) throw InputError({where, "attention or an FFN", "neither", ""});
    if (heads[i] != 0 && queries != 0 && heads[i] / groups[i] != queries)
      throw InputError({where, std::to_string(queries) + " query heads a key and value head, as before", found, ""});
    if (heads[i] != 0) queries = heads[i] / groups[i];
    subnet.blocks.push_back({heads[i], groups[i], widths[i]});
  }
  constexpr std::array kinds{FeedForwardKind::swiglu, FeedForwardKind::gelu_tanh, FeedForwardKind::gelu_erf};
  model.ffn = kinds[config.choice("ffn_kind", {"swiglu", "gelu_tanh", "gelu_erf"})];
  model.positions = config.choice("positions", {"rope", "learned"}) == 0 ? Positions::rope : Positions::learned;
  model.vocabulary = config.integer("vocab_size");
  model.context = config.integer("max_position_embeddings");
  model.head_dim = config.integer("head_dim");
  model.queries_per_group = std::max(queries, 1);
  model.norm_eps = config.real("norm_eps");
  model.rope_theta = config.real("rope_theta");
  model.biases = config.flag("biases", false);
  model.tied = config.flag("tie_word_embeddings", true);
  model.branch_scale = 1;
  return read_weights(path, model, std::move(subnet), llama_source);
}

}  // namespace elastiform::hugging_face
