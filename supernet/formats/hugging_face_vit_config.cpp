#include <algorithm>

#include "supernet/data/class_names.hpp"
#include "supernet/formats/hugging_face_keys.hpp"

namespace elastiform::hugging_face {
namespace {

FeedForwardKind activation_of(const Config& config) {
  // gelu_pytorch_tanh is gelu_new by another name.
  return config.choice("hidden_act", {"gelu", "gelu_new", "gelu_pytorch_tanh"}) == 0 ? FeedForwardKind::gelu_erf
                                                                                     : FeedForwardKind::gelu_tanh;
}

ImageShape image_of(const Config& config) {
  constexpr int kMaxSide = 4096, kMaxChannels = 64;  // products stay far inside 32 bits
  const auto [height, width] = config.sides("image_size", kMaxSide);
  const auto [patch, other] = config.sides("patch_size", kMaxSide);
  if (patch != other)
    throw InputError({config.where() + ": patch_size", "a square patch", std::to_string(patch) + " by " + std::to_string(other), ""});
  return {height, width, config.at_most("num_channels", kMaxChannels), patch};
}

/// What ViT, DeiT and DINOv2 have in common; the FFN width is left.
Architecture parse_body(const Config& config, const std::string& type, bool distillation) {
  config.absent("auto_map");
  const int embed = config.integer("hidden_size"), heads = config.integer("num_attention_heads");
  if (embed % heads != 0)
    throw InputError({config.where(), "a hidden_size that is a multiple of num_attention_heads",
                      std::to_string(embed) + " and " + std::to_string(heads), ""});
  Architecture found{.type = type, .family = Architecture::Family::vit, .model = preset_model("vit"), .subnet = {}};
  found.query_key_value_biases = config.flag("qkv_bias", true);
  found.out_bias = found.ffn_biases = true;
  ModelConfig& model = found.model;
  model.ffn = activation_of(config);
  model.norm_eps = config.real("layer_norm_eps");
  model.image = image_of(config);
  model.distillation_token = distillation;
  model.head_dim = embed / heads;
  model.branch_scale = 1;
  std::vector<std::string> names = config.labels();
  model.vocabulary = static_cast<int>(names.size());
  // A class may be called LABEL_n among others that have names of their own.
  if (!are_default_labels(names) && std::none_of(names.begin(), names.end(), [](const std::string& name) { return name.empty(); })) {
    check_class_names(names, config.where() + ": id2label");
    found.class_names = std::move(names);
  }
  found.positions = model.context = model.tokens_of_image();
  found.subnet = uniform(embed, config.at_most("num_hidden_layers", kMaxSubnetBlocks), {heads, heads, 1});
  return found;
}

}  // namespace

Architecture parse_vit(const Config& config, const std::string& type) {
  Architecture found = parse_body(config, type, type == "deit");
  for (BlockGenes& genes : found.subnet.blocks) genes.ffn = config.integer("intermediate_size");
  return found;
}

Architecture parse_dinov2(const Config& config) {
  config.only_flag("use_swiglu_ffn", false);
  config.only_flag("apply_layernorm", true);
  Architecture found = parse_body(config, "dinov2", false);
  found.family = Architecture::Family::dinov2;
  found.model.residual = ResidualRule::layerscale;
  for (BlockGenes& genes : found.subnet.blocks) genes.ffn = found.subnet.embed * config.at_most("mlp_ratio", 64);
  return found;
}

}  // namespace elastiform::hugging_face
