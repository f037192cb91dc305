#include "supernet/patch_decoder.hpp"

#include <cmath>

#include "supernet/residual_rules/residual_rule.hpp"

namespace elastiform {
namespace {

constexpr int kFeedForwardRatio = 4;

}  // namespace

SearchSpace decoder_space(const ModelConfig& model) {
  const PatchDecoder& decoder = model.decoder;
  ModelConfig own = preset_model("vit");
  own.image = model.image;
  own.readout = model.readout;
  own.distillation_token = model.distillation_token;
  own.context = model.context;
  own.vocabulary = model.image.patch_values();
  own.head_dim = decoder.embed / decoder.heads;
  own.branch_scale = residual_rule(own.residual).constants(decoder.depth).branch_scale;
  const SearchSpace::Block block{.heads = {decoder.heads}, .ffn = {.widths = {kFeedForwardRatio * decoder.embed}, .ratios = {}}};
  return {std::move(own), {decoder.embed}, {decoder.depth}, {static_cast<std::size_t>(decoder.depth), block}};
}

SearchSpace without_decoder(const SearchSpace& space) {
  if (!space.model().decoder.present()) return space;
  ModelConfig model = space.model();
  model.decoder = {};
  return {std::move(model), space.embed(), space.depth(), space.blocks()};
}

int masked_patches(const ModelConfig& model, double ratio) {
  constexpr double kRounding = 1e-9;  // 25 · (1 - 0.8) is 5 less a bit
  return model.image.patches() - static_cast<int>(std::floor(model.image.patches() * (1 - ratio) + kRounding));
}

MaskedMacs masked_macs(const ModelConfig& model, int embed, int masked) {
  const std::int64_t C = embed, E = model.decoder.embed, T = model.context, values = model.image.patch_values();
  const std::int64_t patches = model.image.patches() - masked, visible = patches + model.tokens_before_patches();
  MaskedMacs macs;
  macs.attention = model.decoder.depth * 2 * T * T * E;
  macs.all = macs.attention + patches * values * C + visible * C * E + model.decoder.depth * T * (4 + 2 * kFeedForwardRatio) * E * E +
             masked * E * values;
  return macs;
}

}  // namespace elastiform
