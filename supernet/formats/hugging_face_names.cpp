#include "supernet/formats/hugging_face_names.hpp"

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace elastiform::hugging_face {
namespace {

using Names = std::map<std::string, std::string>;

const Names& llama_names() {
  static const Names names{{"embedding.token", "embed_tokens"},
                           {"embedding.position", "embed_positions"},  // of elastiform's own class
                           {"final.norm", "norm"},
                           {"attention.norm", "input_layernorm"},
                           {"ffn.norm", "post_attention_layernorm"},
                           {"attention.query", "self_attn.q_proj"},
                           {"attention.key", "self_attn.k_proj"},
                           {"attention.value", "self_attn.v_proj"},
                           {"attention.out", "self_attn.o_proj"},
                           {"ffn.gate", "mlp.gate_proj"},
                           {"ffn.up", "mlp.up_proj"},
                           {"ffn.down", "mlp.down_proj"}};
  return names;
}

const Names& gpt2_names() {
  static const Names names{{"embedding.token", "wte"},
                           {"embedding.position", "wpe"},
                           {"final.norm", "ln_f"},
                           {"attention.norm", "ln_1"},
                           {"ffn.norm", "ln_2"},
                           {"attention.query", "attn.c_attn"},
                           {"attention.key", "attn.c_attn"},
                           {"attention.value", "attn.c_attn"},
                           {"attention.out", "attn.c_proj"},
                           {"ffn.up", "mlp.c_fc"},
                           {"ffn.down", "mlp.c_proj"}};
  return names;
}

std::pair<std::string, bool> without_suffix(const std::string& name, std::string_view suffix) {
  const bool ends = name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
  return {ends ? name.substr(0, name.size() - suffix.size()) : name, ends};
}

/// One of our names without its block, ".gain" and ".bias".
struct Stem {
  std::string text;
  bool is_bias = false;
};

Stem stem_of(const TensorSpec& tensor) {
  const std::string rest =
      tensor.block < 0 ? tensor.name : tensor.name.substr(tensor.name.find('.', sizeof("block.") - 1) + 1);  // "block.N.REST"
  const auto [stem, is_bias] = without_suffix(rest, ".bias");
  return {without_suffix(stem, ".gain").first, is_bias};
}

bool is_query_key_value(const std::string& stem) {
  return stem == "attention.query" || stem == "attention.key" || stem == "attention.value";
}

bool has_bias(const Architecture& architecture, const std::string& stem) {
  if (is_query_key_value(stem)) return architecture.query_key_value_biases;
  if (stem == "attention.out") return architecture.out_bias;
  return stem.rfind("ffn.", 0) != 0 || stem == "ffn.norm" || architecture.ffn_biases;
}

std::string full_name(const TensorSpec& tensor, const Stem& stem, const Names& names, const std::string& prefix, const char* layers) {
  const std::string suffix = stem.is_bias ? ".bias" : ".weight";
  if (stem.text == "head") return "lm_head" + suffix;  // outside of the prefix
  const auto found = names.find(stem.text);
  if (found == names.end()) throw std::logic_error("import: no Hugging Face name for " + tensor.name);
  return prefix + (tensor.block < 0 ? "" : layers + std::to_string(tensor.block) + ".") + found->second + suffix;
}

}  // namespace

Source source_of(const TensorSpec& tensor, const Architecture& architecture, const std::string& prefix) {
  const bool gpt2 = architecture.family == Architecture::Family::gpt2;
  const Stem stem = stem_of(tensor);
  Source source{.name = full_name(tensor, stem, gpt2 ? gpt2_names() : llama_names(), prefix, gpt2 ? "h." : "layers."), .shape = {}};
  source.absent = stem.is_bias && !has_bias(architecture, stem.text);
  std::int64_t rows = tensor.rows, columns = tensor.columns;
  if (stem.text == "embedding.position") rows = architecture.positions;
  if (gpt2 && is_query_key_value(stem.text)) {
    source.first_column = stem.text == "attention.query" ? 0 : stem.text == "attention.key" ? columns : 2 * columns;
    columns *= 3;
  }
  const bool is_vector = tensor.role == Role::gain || tensor.role == Role::bias;
  source.transposed = !gpt2 && !is_vector && tensor.role != Role::embedding;
  if (is_vector) source.shape = {columns};
  else if (source.transposed) source.shape = {columns, rows};
  else source.shape = {rows, columns};
  return source;
}

std::string usual_prefix(Architecture::Family family) { return family == Architecture::Family::gpt2 ? "transformer." : "model."; }
std::string first_tensor(Architecture::Family family) {
  return family == Architecture::Family::gpt2 ? "wte.weight" : "embed_tokens.weight";
}

bool is_buffer(const std::string& name) {
  for (const char* suffix : {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"})
    if (without_suffix(name, suffix).second) return true;
  return false;
}

}  // namespace elastiform::hugging_face
