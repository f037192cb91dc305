// Checkpoints of ViT, DeiT and DINOv2 under the names that transformers gives their tensors. tests/consumers compares logits with transformers'.
#include <map>
#include <nlohmann/json.hpp>

#include "kernels/random.hpp"
#include "supernet/formats/format.hpp"
#include "supernet/formats/safetensors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/temporary_folder.hpp"

using namespace elastiform;
using Catch::Contains;
using Json = nlohmann::json;

namespace {

constexpr std::int64_t kEmbed = 12, kWidth = 24, kBlocks = 2, kClasses = 5, kPatchValues = 3 * 2 * 2, kPatches = 3 * 4;

Json config_of(const std::string& type) {
  Json config{{"model_type", type},   {"hidden_size", kEmbed},  {"num_hidden_layers", kBlocks}, {"num_attention_heads", 3},
              {"hidden_act", "gelu"}, {"layer_norm_eps", 1e-5}, {"image_size", {6, 8}},         {"patch_size", 2},
              {"num_channels", 3},    {"qkv_bias", true},       {"id2label", Json::object()}};
  for (int i = 0; i < kClasses; ++i) config["id2label"][std::to_string(i)] = "class " + std::to_string(i);
  if (type == "dinov2") config.update({{"mlp_ratio", 2}, {"use_swiglu_ffn", false}, {"apply_layernorm", true}, {"intermediate_size", 99}});
  else config["intermediate_size"] = kWidth;
  return config;
}

using Shapes = std::map<std::string, std::vector<std::int64_t>>;

void add_linear(Shapes& shapes, const std::string& name, std::int64_t out, std::int64_t in) {
  shapes[name + ".weight"] = {out, in};
  shapes[name + ".bias"] = {out};
}

Shapes shapes_of(const std::string& type) {
  const bool dino = type == "dinov2";
  const std::string body = dino ? "" : type + ".";
  Shapes shapes{{body + "embeddings.cls_token", {1, 1, kEmbed}},
                {body + "embeddings.position_embeddings", {1, kPatches + (type == "deit" ? 2 : 1), kEmbed}},
                {body + "embeddings.patch_embeddings.projection.weight", {kEmbed, 3, 2, 2}},
                {body + "embeddings.patch_embeddings.projection.bias", {kEmbed}}};
  if (type == "deit") shapes[body + "embeddings.distillation_token"] = {1, 1, kEmbed};
  if (dino) shapes["embeddings.mask_token"] = {1, kEmbed};
  const auto norm = [&](const std::string& name) { shapes[name + ".weight"] = shapes[name + ".bias"] = {kEmbed}; };
  for (int i = 0; i < kBlocks; ++i) {
    const std::string layer = body + "encoder.layer." + std::to_string(i) + ".";
    norm(layer + (dino ? "norm1" : "layernorm_before"));
    norm(layer + (dino ? "norm2" : "layernorm_after"));
    for (const char* map : {"query", "key", "value"}) add_linear(shapes, layer + "attention.attention." + map, kEmbed, kEmbed);
    add_linear(shapes, layer + "attention.output.dense", kEmbed, kEmbed);
    add_linear(shapes, layer + (dino ? "mlp.fc1" : "intermediate.dense"), kWidth, kEmbed);
    add_linear(shapes, layer + (dino ? "mlp.fc2" : "output.dense"), kEmbed, kWidth);
    if (dino) shapes[layer + "layer_scale1.lambda1"] = shapes[layer + "layer_scale2.lambda1"] = {kEmbed};
  }
  norm(body + "layernorm");
  if (!dino) add_linear(shapes, "classifier", kClasses, kEmbed);
  return shapes;
}

using Values = std::map<std::string, std::vector<float>>;

/// Writes the folder; the values that its tensors have.
Values write(const TemporaryFolder& folder, const Json& config, const Shapes& shapes) {
  folder.write("config.json", config.dump());
  Values all;
  std::vector<safetensors::Tensor> tensors;
  RandomStream random(4, Purpose::test);
  for (const auto& [name, shape] : shapes) {
    std::int64_t size = 1;
    for (const std::int64_t side : shape) size *= side;
    std::vector<float>& values = all[name];
    for (std::int64_t i = 0; i < size; ++i) values.push_back(static_cast<float>(random.normal()));
    tensors.push_back({name, shape, [values] { return values; }});
  }
  safetensors::write(folder / "model.safetensors", tensors);
  return all;
}

void check_refused(const TemporaryFolder& folder, const std::string& part) {
  check_input_error([&] { load_model(folder.path()); }, part);
}

}  // namespace

TEST_CASE("ViT, DeiT and DINOv2 are read as transformers names them", "[formats][import][vision]") {
  const std::string type = GENERATE("vit", "deit", "dinov2");
  const TemporaryFolder folder;
  const Values values = write(folder, config_of(type), shapes_of(type));
  const DenseModel model = load_model(folder.path());
  CHECK(format(model.subnet) == "e12:2xh3f24");
  CHECK(model.model.image == ImageShape{6, 8, 3, 2});
  CHECK(model.model.distillation_token == (type == "deit"));
  CHECK(model.model.residual == (type == "dinov2" ? ResidualRule::layerscale : ResidualRule::branch_scale));
  CHECK(model.model.vocabulary == kClasses);
  CHECK(model.headless == (type == "dinov2"));
  CHECK(model.class_names.at(4) == "class 4");
  const std::string body = type == "dinov2" ? "" : type + ".", layer = body + "encoder.layer.1.";
  const auto at = [&](const std::string& name, std::int64_t row, std::int64_t column) {
    return model.weights.view(name).row<float>(row)[column];
  };
  const auto of = [&](const std::string& name, std::int64_t index) { return values.at(name)[static_cast<std::size_t>(index)]; };
  CHECK(at("embedding.class", 0, 3) == of(body + "embeddings.cls_token", 3));
  if (type == "deit") CHECK(at("embedding.distillation", 0, 3) == of("deit.embeddings.distillation_token", 3));
  CHECK(at("embedding.position", 2, 3) == of(body + "embeddings.position_embeddings", 2 * kEmbed + 3));
  for (std::int64_t value = 0; value < kPatchValues; ++value)
    CHECK(at("embedding.patch", value, 7) == of(body + "embeddings.patch_embeddings.projection.weight", 7 * kPatchValues + value));
  CHECK(at("block.1.attention.key", 2, 5) == of(layer + "attention.attention.key.weight", 5 * kEmbed + 2));
  CHECK(at("block.1.attention.out.bias", 0, 5) == of(layer + "attention.output.dense.bias", 5));
  CHECK(at("block.1.ffn.down", 20, 5) == of(layer + (type == "dinov2" ? "mlp.fc2.weight" : "output.dense.weight"), 5 * kWidth + 20));
  CHECK(at("block.1.ffn.norm.gain", 0, 5) == of(layer + (type == "dinov2" ? "norm2.weight" : "layernorm_after.weight"), 5));
  if (type == "dinov2") CHECK(at("block.1.ffn.residual.gate", 0, 5) == of(layer + "layer_scale2.lambda1", 5));
  else CHECK(at("head", 4, 5) == of("classifier.weight", 4 * kEmbed + 5));
}

TEST_CASE("what a classifier's checkpoint has and we have no place for is refused by name", "[formats][import][vision]") {
  const TemporaryFolder folder;
  const auto with = [&](const std::string& type, const Json& edit, const Shapes& more, const std::string& less, const std::string& part) {
    Json config = config_of(type);
    if (!edit.is_null()) config.update(edit);
    Shapes shapes = shapes_of(type);
    for (const auto& [name, shape] : more) shapes[name] = shape;
    shapes.erase(less);
    write(folder, config, shapes);
    check_refused(folder, part);
  };
  with("vit", {{"hidden_act", "relu"}}, {}, "", "hidden_act");
  with("vit", {{"patch_size", {2, 4}}}, {}, "", "patch_size");
  with("vit", {{"image_size", {6, 8, 10}}}, {}, "", "image_size");
  with("vit", {{"image_size", 7}}, {}, "", "patch");
  with("vit", {{"image_size", 0}}, {}, "", "image_size");
  with("vit", {{"image_size", 1 << 20}}, {}, "", "");
  with("vit", {{"num_attention_heads", 5}}, {}, "", "num_attention_heads");
  with("vit", {{"num_channels", 4000}}, {}, "", "channels");
  with("vit", {{"id2label", {{"0", "a"}, {"2", "b"}}}}, {}, "", "id2label");
  with("vit", {{"id2label", "none"}}, {}, "", "id2label");
  with("vit", {{"auto_map", {{"AutoConfig", "x.Y"}}}}, {}, "", "auto_map");
  with("vit", {{"quantization_config", {{"bits", 4}}}}, {}, "", "quantization_config");
  with("vit", {{"layer_norm_eps", nullptr}}, {}, "", "layer_norm_eps");
  with("vit", {}, {{"vit.pooler.dense.weight", {kEmbed, kEmbed}}}, "", "vit.pooler.dense.weight");
  with("vit", {}, {{"vit.layernorm.weight", {kEmbed - 1}}}, "", "vit.layernorm.weight");
  with("vit", {}, {}, "vit.encoder.layer.1.attention.attention.key.bias", "key.bias");
  with("vit", {{"image_size", {8, 8}}}, {}, "", "position_embeddings");
  with("vit", {{"id2label", {{"0", "a"}, {"1", "b"}}}}, {}, "", "classifier");
  with("deit", {}, {{"distillation_classifier.weight", {kClasses, kEmbed}}}, "", "distillation_classifier.weight");
  with("dinov2", {{"use_swiglu_ffn", true}}, {}, "", "use_swiglu_ffn");
  with("dinov2", {{"mlp_ratio", 0}}, {}, "", "mlp_ratio");
  with("dinov2", {}, {{"classifier.weight", {kClasses, 2 * kEmbed}}}, "", "classifier.weight");
  with("bert", {}, {{"pooler.dense.weight", {kEmbed, kEmbed}}}, "", "encoder of text");
}
