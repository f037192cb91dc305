#include "supernet/formats/hugging_face_config.hpp"

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "kernels/errors.hpp"
#include "supernet/formats/foreign_model.hpp"
#include "supernet/formats/hugging_face_keys.hpp"

namespace elastiform::hugging_face {
namespace {

constexpr std::size_t kMaxConfig = 16 << 20;  // id2label and label2id of 65,536 classes are some MiB

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
  config.rope(model);
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
  if (config.has("rotary_scaling")) model.rope_scaling = config.scaling("rotary_scaling");
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
  if (type == "vit" || type == "deit") return parse_vit(config, type);
  if (type == "dinov2") return parse_dinov2(config);
  throw InputError({where + ": model_type", kModelTypes, "'" + type.substr(0, 64) + "'", ""});
}

}  // namespace elastiform::hugging_face
