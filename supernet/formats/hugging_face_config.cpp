#include "supernet/formats/hugging_face_config.hpp"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "kernels/errors.hpp"
#include "supernet/formats/foreign_model.hpp"
#include "supernet/formats/json.hpp"

namespace elastiform::hugging_face {
namespace {

constexpr std::size_t kMaxConfig = 1 << 20;
constexpr int kMaxSize = 1 << 24;  // of any one number in config.json; products stay far inside 64 bits

/// config.json, asked key by key.
class Config {
 public:
  Config(std::string_view text, std::string where) : where_(std::move(where)), json_(parse_untrusted_json(text, where_, 16)) {
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
  void only(const char* key, const std::string& expected) const {
    if (text(key) != expected) fail(key, expected, json_[key]);
  }
  void absent(const char* key) const {
    if (has(key)) fail(key, "null", json_[key]);
  }
  void only_flag(const char* key, bool expected) const {
    if (flag(key, expected) != expected) fail(key, expected ? "true" : "false", json_[key]);
  }
  int at_most(const char* key, int limit) const {
    const int value = integer(key);
    if (value > limit) fail(key, "at most " + std::to_string(limit), json_[key]);
    return value;
  }
  /// transformers 5 writes rope_parameters, 4 wrote rope_theta and rope_scaling; before that the kind was called "type".
  double rope_theta() const {
    std::optional<double> theta;
    for (const std::string table : {"rope_parameters", "rope_scaling"}) {
      if (!has(table.c_str())) continue;
      const auto& rope = json_[table];
      if (!rope.is_object()) fail(table, "an object", rope);
      for (const char* kind : {"rope_type", "type"})
        if (rope.contains(kind) && rope[kind] != "default") fail(table + "." + kind, "default", rope[kind]);
      if (rope.contains("partial_rotary_factor") && rope["partial_rotary_factor"] != 1.0)
        fail(table + ".partial_rotary_factor", "1", rope["partial_rotary_factor"]);
      if (!theta && rope.contains("rope_theta")) theta = real(rope["rope_theta"], table + ".rope_theta");
    }
    if (theta) return *theta;
    return has("rope_theta") ? real("rope_theta") : 10000;  // the classes' own default
  }
  /// Every layer attends to everything before it, as far as `context` tokens can tell.
  void full_attention(int context) const {
    if (has("layer_types")) {
      if (!json_["layer_types"].is_array()) fail("layer_types", "a list", json_["layer_types"]);
      for (const auto& layer : json_["layer_types"])
        if (layer != "full_attention" && !(layer == "sliding_attention" && has("sliding_window")))
          fail("layer_types", "full_attention", layer);
    }
    constexpr int kMistral = 4096;  // what its class takes when the key is absent; null is none
    if (!json_.contains("sliding_window") && text("model_type") == "mistral" && context > kMistral)
      throw InputError({where_ + ": sliding_window", "null, or at least the context of " + std::to_string(context) + " tokens",
                        "no such key, which means 4096 to a mistral", "write null if every token may see all before it"});
    if (!has("sliding_window") || !flag("use_sliding_window", true)) return;
    if (integer("sliding_window") < context)
      fail("sliding_window", "null, or at least the context of " + std::to_string(context) + " tokens", json_["sliding_window"]);
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

Subnet uniform(int embed, int layers, const BlockGenes& genes) {
  return {.embed = embed, .blocks = std::vector<BlockGenes>(static_cast<std::size_t>(layers), genes), .kept = {}};
}

/// Keys whose value changes what a layer computes, wherever they stand.
void refuse_foreign_arithmetic(const Config& config) {
  config.absent("quantization_config");
  config.absent("attn_logit_softcapping");
  config.absent("final_logit_softcapping");
}

Architecture parse_llama(const Config& config, const std::string& type, std::optional<int> context) {
  config.absent("auto_map");
  config.only("hidden_act", "silu");
  if (config.has("partial_rotary_factor") && config.real("partial_rotary_factor") != 1)
    throw InputError({config.where() + ": partial_rotary_factor", "1", std::to_string(config.real("partial_rotary_factor")), ""});
  const int embed = config.integer("hidden_size"), heads = config.integer("num_attention_heads");
  const int groups = config.has("num_key_value_heads") ? config.integer("num_key_value_heads") : heads;
  if (heads % groups != 0)
    throw InputError(
        {config.where(), "heads that are a multiple of KV heads", std::to_string(heads) + " and " + std::to_string(groups), ""});
  if (!config.has("head_dim") && embed % heads != 0) throw InputError({config.where(), "key head_dim", "none", ""});

  Architecture found{.type = type, .family = Architecture::Family::llama, .model = preset_model("llama"), .subnet = {}};
  // Mistral's class has no biases, Qwen2's has them for query, key and value whatever its config says.
  const bool flagged = type == "llama" && config.flag("attention_bias", false);
  found.query_key_value_biases = flagged || type == "qwen2";
  found.out_bias = flagged;
  found.ffn_biases = type == "llama" && config.flag("mlp_bias", false);
  ModelConfig& model = found.model;
  model.biases = found.query_key_value_biases || found.ffn_biases;
  model.vocabulary = config.integer("vocab_size");
  found.positions = config.integer("max_position_embeddings");
  model.context = context_within(config.integer("max_position_embeddings"), context, config.where() + ": " + "max_position_embeddings");
  config.full_attention(model.context);
  model.head_dim = config.has("head_dim") ? config.integer("head_dim") : embed / heads;
  model.queries_per_group = heads / groups;
  model.norm_eps = config.real("rms_norm_eps");
  model.rope_theta = config.rope_theta();
  model.tied = config.flag("tie_word_embeddings", false);
  model.branch_scale = 1;
  found.subnet =
      uniform(embed, config.at_most("num_hidden_layers", kMaxSubnetBlocks), {heads, groups, config.integer("intermediate_size")});
  return found;
}

Architecture parse_gpt2(const Config& config, std::optional<int> context) {
  config.absent("auto_map");
  const int embed = config.integer("n_embd"), heads = config.integer("n_head");
  if (embed % heads != 0)
    throw InputError({config.where(), "n_embd that is a multiple of n_head", std::to_string(embed) + " and " + std::to_string(heads), ""});
  const std::string activation = config.text("activation_function");
  // gelu_pytorch_tanh is gelu_new by another name.
  if (activation != "gelu" && activation != "gelu_new" && activation != "gelu_pytorch_tanh")
    throw InputError({config.where() + ": activation_function", "gelu or gelu_new", "'" + activation.substr(0, 64) + "'", ""});
  config.only_flag("scale_attn_weights", true);
  config.only_flag("scale_attn_by_inverse_layer_idx", false);
  config.only_flag("add_cross_attention", false);

  Architecture found{.type = "gpt2", .family = Architecture::Family::gpt2, .model = preset_model("gpt2"), .subnet = {}};
  found.query_key_value_biases = found.out_bias = found.ffn_biases = true;
  ModelConfig& model = found.model;
  model.ffn = activation == "gelu" ? FeedForwardKind::gelu_erf : FeedForwardKind::gelu_tanh;
  model.vocabulary = config.integer("vocab_size");
  found.positions = config.integer("n_positions");
  model.context = context_within(config.integer("n_positions"), context, config.where() + ": " + "n_positions");
  model.head_dim = embed / heads;
  model.queries_per_group = 1;
  model.norm_eps = config.real("layer_norm_epsilon");
  model.tied = config.flag("tie_word_embeddings", true);
  model.branch_scale = 1;
  const int ffn = config.has("n_inner") ? config.integer("n_inner") : 4 * embed;
  found.subnet = uniform(embed, config.at_most("n_layer", kMaxSubnetBlocks), {heads, heads, ffn});
  return found;
}

/// Genes of every block; `queries`: those of a KV group, which our models have in common (0: no block has attention).
std::vector<BlockGenes> block_genes(const Config& config, int& queries) {
  const std::vector<int> heads = config.list("block_heads", 0), groups = config.list("block_key_value_heads", heads.size()),
                         widths = config.list("block_ffn", heads.size());
  std::vector<BlockGenes> blocks;
  for (std::size_t i = 0; i < heads.size(); ++i) {
    const std::string where = config.where() + ": block " + std::to_string(i);
    const std::string found = std::to_string(heads[i]) + " heads and " + std::to_string(groups[i]) + " key and value heads";
    if ((heads[i] == 0) != (groups[i] == 0) || (groups[i] != 0 && heads[i] % groups[i] != 0))
      throw InputError({where, "heads that are a multiple of key and value heads", found, ""});
    if (heads[i] == 0 && widths[i] == 0) throw InputError({where, "attention or an FFN", "neither", ""});
    if (heads[i] != 0 && queries != 0 && heads[i] / groups[i] != queries)
      throw InputError({where, std::to_string(queries) + " query heads a key and value head, as before", found, ""});
    if (heads[i] != 0) queries = heads[i] / groups[i];
    blocks.push_back({heads[i], groups[i], widths[i]});
  }
  return blocks;
}

/// Our own class, whose code we know (hugging_face_modules.hpp).
Architecture parse_auto(const Config& config, std::optional<int> context) {
  Architecture found{.type = "elastiform", .family = Architecture::Family::llama, .model = {}, .subnet = {}};
  ModelConfig& model = found.model = preset_model(config.choice("norm", {"rmsnorm", "layernorm"}) == 0 ? "llama" : "gpt2");
  int queries = 0;
  found.subnet = {.embed = config.integer("hidden_size"), .blocks = block_genes(config, queries), .kept = {}};
  constexpr std::array kinds{FeedForwardKind::swiglu, FeedForwardKind::gelu_tanh, FeedForwardKind::gelu_erf};
  model.ffn = kinds[config.choice("ffn_kind", {"swiglu", "gelu_tanh", "gelu_erf"})];
  model.positions = config.choice("positions", {"rope", "learned"}) == 0 ? Positions::rope : Positions::learned;
  model.vocabulary = config.integer("vocab_size");
  found.positions = config.integer("max_position_embeddings");
  model.context = context_within(config.integer("max_position_embeddings"), context, config.where() + ": " + "max_position_embeddings");
  model.head_dim = config.integer("head_dim");
  model.queries_per_group = std::max(queries, 1);
  model.norm_eps = config.real("norm_eps");
  model.rope_theta = config.real("rope_theta");
  model.biases = config.flag("biases", false);
  model.tied = config.flag("tie_word_embeddings", true);
  model.branch_scale = 1;
  found.query_key_value_biases = found.out_bias = found.ffn_biases = model.biases;
  return found;
}

}  // namespace

std::string read_config(const std::string& folder) { return read_small_file(folder + "/config.json", kMaxConfig); }

std::string model_type_of(std::string_view json, const std::string& where) { return Config(json, where).text("model_type"); }

std::string telling_keys(std::string_view json, const std::string& where) {
  const Config config(json, where);
  std::string keys;
  for (const char* key : {"num_local_experts", "num_experts", "n_routed_experts", "attn_logit_softcapping", "final_logit_softcapping",
                          "state_size", "mamba_d_state", "use_qk_norm", "qk_layernorm", "kv_lora_rank", "logits_scaling", "alibi"})
    if (config.has(key)) keys += (keys.empty() ? "" : ", ") + std::string(key);
  return keys;
}

Architecture parse_config(std::string_view json, const std::string& where, std::optional<int> context) {
  const Config config(json, where);
  const std::string type = config.text("model_type");
  refuse_foreign_arithmetic(config);
  if (type == "llama" || type == "mistral" || type == "qwen2") return parse_llama(config, type, context);
  if (type == "gpt2") return parse_gpt2(config, context);
  if (type == "elastiform") return parse_auto(config, context);
  throw InputError({where + ": model_type", "llama, mistral, qwen2, gpt2 or elastiform", "'" + type.substr(0, 64) + "'", ""});
}

}  // namespace elastiform::hugging_face
