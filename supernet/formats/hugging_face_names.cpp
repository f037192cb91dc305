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

const Names& vit_names() {
  static const Names names{{"embedding.patch", "embeddings.patch_embeddings.projection"},
                           {"embedding.class", "embeddings.cls_token"},
                           {"embedding.distillation", "embeddings.distillation_token"},
                           {"embedding.position", "embeddings.position_embeddings"},
                           {"final.norm", "layernorm"},
                           {"attention.norm", "layernorm_before"},
                           {"ffn.norm", "layernorm_after"},
                           {"attention.query", "attention.attention.query"},
                           {"attention.key", "attention.attention.key"},
                           {"attention.value", "attention.attention.value"},
                           {"attention.out", "attention.output.dense"},
                           {"ffn.up", "intermediate.dense"},
                           {"ffn.down", "output.dense"}};
  return names;
}

const Names& dinov2_names() {
  static const Names names = [] {
    Names renamed = vit_names();
    renamed["attention.norm"] = "norm1";
    renamed["ffn.norm"] = "norm2";
    renamed["ffn.up"] = "mlp.fc1";
    renamed["ffn.down"] = "mlp.fc2";
    renamed["attention.residual.gate"] = "layer_scale1.lambda1";
    renamed["ffn.residual.gate"] = "layer_scale2.lambda1";
    return renamed;
  }();
  return names;
}

/// How a family names its tensors.
struct Layout {
  const Names& (*names)();
  const char *prefix, *layers, *head, *first;
  bool images = false;
};

const Layout& layout_of(Architecture::Family family) {
  static const Layout llama{llama_names, "model.", "layers.", "lm_head", "embed_tokens.weight"},
      gpt2{gpt2_names, "transformer.", "h.", "lm_head", "wte.weight"},
      vit{vit_names, "vit.", "encoder.layer.", "classifier", "embeddings.cls_token", true},
      dinov2{dinov2_names, "dinov2.", "encoder.layer.", "classifier", "embeddings.cls_token", true};
  switch (family) {
    case Architecture::Family::gpt2: return gpt2;
    case Architecture::Family::vit: return vit;
    case Architecture::Family::dinov2: return dinov2;
    case Architecture::Family::llama: break;
  }
  return llama;
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

std::string full_name(const TensorSpec& tensor, const Stem& stem, const Layout& layout, const std::string& prefix) {
  // A parameter that belongs to no layer of its own has no suffix.
  const bool bare = tensor.role == Role::gate || (layout.images && tensor.role == Role::embedding && stem.text != "head");
  const std::string suffix = bare ? "" : stem.is_bias ? ".bias" : ".weight";
  if (stem.text == "head") return layout.head + suffix;  // outside of the prefix
  const auto found = layout.names().find(stem.text);
  if (found == layout.names().end()) throw std::logic_error("import: no Hugging Face name for " + tensor.name);
  return prefix + (tensor.block < 0 ? "" : layout.layers + std::to_string(tensor.block) + ".") + found->second + suffix;
}

}  // namespace

Source source_of(const TensorSpec& tensor, const Architecture& architecture, const std::string& prefix) {
  const bool gpt2 = architecture.family == Architecture::Family::gpt2;
  const Stem stem = stem_of(tensor);
  Source source{.name = full_name(tensor, stem, layout_of(architecture.family), prefix), .shape = {}};
  source.absent = (stem.is_bias && !has_bias(architecture, stem.text)) || (architecture.headless && stem.text == "head");
  std::int64_t rows = tensor.rows, columns = tensor.columns;
  if (stem.text == "embedding.position") rows = architecture.positions;
  if (gpt2 && is_query_key_value(stem.text)) {
    source.first_column = stem.text == "attention.query" ? 0 : stem.text == "attention.key" ? columns : 2 * columns;
    columns *= 3;
  }
  const bool is_vector = tensor.role == Role::gain || tensor.role == Role::bias || tensor.role == Role::gate;
  source.transposed = !gpt2 && !is_vector && tensor.role != Role::embedding;
  const ImageShape& image = architecture.model.image;
  const bool embeds = layout_of(architecture.family).images && tensor.role == Role::embedding && stem.text != "head";
  if (is_vector) source.shape = {columns};
  else if (stem.text == "embedding.patch") source.shape = {columns, image.channels, image.patch, image.patch};  // a convolution's
  else if (embeds) source.shape = {1, rows, columns};
  else if (source.transposed) source.shape = {columns, rows};
  else source.shape = {rows, columns};
  return source;
}

std::string usual_prefix(const Architecture& architecture) {
  return architecture.type == "deit" ? "deit." : layout_of(architecture.family).prefix;
}
std::string first_tensor(Architecture::Family family) { return layout_of(family).first; }
std::string head_name(Architecture::Family family) { return layout_of(family).head; }

bool is_buffer(const std::string& name) {
  if (without_suffix("." + name, "embeddings.mask_token").second) return true;  // of DINOv2's training
  for (const char* suffix : {".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"})
    if (without_suffix(name, suffix).second) return true;
  return false;
}

}  // namespace elastiform::hugging_face
