// Hugging Face folders that others made: other names, shards, biases; and what has no place.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "kernels/random.hpp"
#include "supernet/formats/format.hpp"
#include "supernet/formats/hugging_face.hpp"
#include "supernet/formats/hugging_face_config.hpp"
#include "supernet/formats/safetensors_folder.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

using Json = nlohmann::json;
using Catch::Matchers::Contains;
using Values = std::map<std::string, std::pair<std::vector<std::int64_t>, std::vector<float>>>;
namespace fs = std::filesystem;

constexpr int kEmbed = 16, kFfn = 24, kVocabulary = 40, kContext = 12;

Json llama_config() {
  return {{"model_type", "llama"},    {"hidden_act", "silu"},      {"hidden_size", kEmbed},
          {"num_attention_heads", 4}, {"num_key_value_heads", 2},  {"intermediate_size", kFfn},
          {"num_hidden_layers", 2},   {"vocab_size", kVocabulary}, {"max_position_embeddings", kContext},
          {"rms_norm_eps", 1e-5},     {"rope_theta", 20000.0},     {"tie_word_embeddings", false}};
}

Json gpt2_config() {
  return {{"model_type", "gpt2"},
          {"n_embd", kEmbed},
          {"n_head", 2},
          {"n_layer", 2},
          {"n_inner", kFfn},
          {"vocab_size", kVocabulary},
          {"n_positions", kContext},
          {"activation_function", "gelu_new"},
          {"layer_norm_epsilon", 1e-5}};
}

void add(Values& values, const std::string& name, std::vector<std::int64_t> shape) {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  RandomStream random(3, Purpose::test, 1, static_cast<std::uint32_t>(values.size()));
  std::vector<float> list;
  for (std::int64_t i = 0; i < count; ++i) list.push_back(static_cast<float>(random.normal()));
  values[name] = {std::move(shape), std::move(list)};
}

Values llama_values() {
  Values values;
  add(values, "model.embed_tokens.weight", {kVocabulary, kEmbed});
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    for (const char* norm : {"input_layernorm", "post_attention_layernorm"}) add(values, layer + norm + ".weight", {kEmbed});
    for (const char* name : {"q", "o"}) add(values, layer + "self_attn." + name + "_proj.weight", {kEmbed, kEmbed});
    for (const char* name : {"k", "v"}) add(values, layer + "self_attn." + name + "_proj.weight", {kEmbed / 2, kEmbed});
    for (const char* name : {"gate", "up"}) add(values, layer + "mlp." + name + "_proj.weight", {kFfn, kEmbed});
    add(values, layer + "mlp.down_proj.weight", {kEmbed, kFfn});
  }
  add(values, "model.norm.weight", {kEmbed});
  add(values, "lm_head.weight", {kVocabulary, kEmbed});
  return values;
}

Values gpt2_values(const std::string& prefix) {
  Values values;
  add(values, prefix + "wte.weight", {kVocabulary, kEmbed});
  add(values, prefix + "wpe.weight", {kContext, kEmbed});
  for (const std::string& layer : {prefix + "h.0.", prefix + "h.1."}) {
    for (const char* norm : {"ln_1", "ln_2"})
      for (const char* part : {".weight", ".bias"}) add(values, layer + norm + part, {kEmbed});
    const auto linear = [&](const std::string& name, std::int64_t in, std::int64_t out) {
      add(values, layer + name + ".weight", {in, out});
      add(values, layer + name + ".bias", {out});
    };
    linear("attn.c_attn", kEmbed, 3 * kEmbed);
    linear("attn.c_proj", kEmbed, kEmbed);
    linear("mlp.c_fc", kEmbed, kFfn);
    linear("mlp.c_proj", kFfn, kEmbed);
  }
  for (const char* part : {".weight", ".bias"}) add(values, prefix + "ln_f" + part, {kEmbed});
  return values;
}

void write_tensors(const std::string& path, const Values& values) {
  std::vector<safetensors::Tensor> tensors;
  for (const auto& [name, value] : values) {
    const std::vector<float> numbers = value.second;
    tensors.push_back({name, value.first, [numbers] { return numbers; }});
  }
  safetensors::write(path, std::move(tensors));
}

/// A folder of a checkpoint; the same place each time.
std::string folder_with(const TemporaryFolder& folder, const Json& config, const Values& values) {
  fs::remove_all(folder / "model");
  fs::create_directories(folder / "model");
  folder.write("model/config.json", config.dump());
  write_tensors(folder / "model/model.safetensors", values);
  return folder / "model";
}

std::string refusal(const std::string& path) {
  return check_input_error([&] { load_model(path); });
}

float at(const Values& values, const std::string& name, std::int64_t row, std::int64_t column) {
  const auto& [shape, numbers] = values.at(name);
  return numbers[static_cast<std::size_t>(row * shape.back() + column)];
}

}  // namespace

TEST_CASE("a Llama of others has its weights where ours stand", "[formats][import]") {
  const TemporaryFolder folder;
  const Values values = llama_values();
  const DenseModel model = load_model(folder_with(folder, llama_config(), values));
  CHECK(format(model.subnet) == "e16:2xh4k2f24");
  CHECK(model.model.branch_scale == 1);
  CHECK(model.model.rope_theta == 20000);
  CHECK_FALSE(model.model.tied);
  CHECK(model.tokenizer.empty());
  CHECK(model.weights.view("block.1.attention.key").row<float>(3)[5] == at(values, "model.layers.1.self_attn.k_proj.weight", 5, 3));
  CHECK(model.weights.view("block.0.ffn.down").row<float>(20)[7] == at(values, "model.layers.0.mlp.down_proj.weight", 7, 20));
  CHECK(model.weights.view("head").row<float>(39)[15] == at(values, "lm_head.weight", 39, 15));
  CHECK(load_model(folder / "model", 5).model.context == 5);
  CHECK_THROWS_WITH(load_model(folder / "model", 13), Contains("1 to 12"));
}

TEST_CASE("a GPT-2 of others: fused projections, buffers, names with and without a prefix, fewer positions", "[formats][import]") {
  const TemporaryFolder folder;
  const std::string prefix = GENERATE("", "transformer.");
  Values values = gpt2_values(prefix);
  add(values, prefix + "h.0.attn.bias", {1, 1, kContext, kContext});  // a mask, that earlier versions of transformers saved
  add(values, prefix + "h.0.attn.masked_bias", {});
  const std::string path = folder_with(folder, gpt2_config(), values);
  const DenseModel model = load_model(path, 7);
  CHECK(format(model.subnet) == "e16:2xh2f24");
  CHECK(model.model.tied);
  CHECK(model.weights.view("embedding.position").rows == 7);
  CHECK(model.weights.view("embedding.position").row<float>(6)[3] == at(values, prefix + "wpe.weight", 6, 3));
  CHECK(model.weights.view("block.1.attention.value").row<float>(2)[9] == at(values, prefix + "h.1.attn.c_attn.weight", 2, 2 * kEmbed + 9));
  CHECK(model.weights.view("block.1.attention.key.bias").row<float>(0)[4] == at(values, prefix + "h.1.attn.c_attn.bias", 0, kEmbed + 4));
  CHECK(model.weights.view("block.0.ffn.up").row<float>(2)[9] == at(values, prefix + "h.0.mlp.c_fc.weight", 2, 9));
}

TEST_CASE("biases are those of the architecture, and 0 where it has none", "[formats][import]") {
  const TemporaryFolder folder;
  Values values = llama_values();
  for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
    add(values, layer + "self_attn.q_proj.bias", {kEmbed});
    for (const char* name : {"k", "v"}) add(values, layer + "self_attn." + name + "_proj.bias", {kEmbed / 2});
  }
  Json config = llama_config();
  config["model_type"] = "qwen2";
  const DenseModel qwen = load_model(folder_with(folder, config, values));
  CHECK(qwen.model.biases);
  CHECK(qwen.weights.view("block.1.attention.key.bias").row<float>(0)[3] == at(values, "model.layers.1.self_attn.k_proj.bias", 0, 3));
  CHECK(qwen.weights.view("block.1.attention.out.bias").row<float>(0)[3] == 0);
  CHECK(qwen.weights.view("block.1.ffn.gate.bias").row<float>(0)[3] == 0);
  // Llama's class would ignore them.
  CHECK_THAT(refusal(folder_with(folder, llama_config(), values)), Contains("'model.layers.N.self_attn.q_proj.bias' (2)"));
  config["model_type"] = "llama";
  config["attention_bias"] = true;
  CHECK_THAT(refusal(folder_with(folder, config, values)), Contains("tensors 'model.layers.N.self_attn.o_proj.bias' (2)"));
}

TEST_CASE("a stored head that is the embedding may be stored", "[formats][import]") {
  const TemporaryFolder folder;
  Values values = llama_values();
  Json config = llama_config();
  config["tie_word_embeddings"] = true;
  CHECK_THAT(refusal(folder_with(folder, config, values)), Contains("lm_head.weight equal to model.embed_tokens.weight"));
  values["lm_head.weight"] = values["model.embed_tokens.weight"];
  CHECK(load_model(folder_with(folder, config, values)).model.tied);
  values.erase("lm_head.weight");
  CHECK(load_model(folder_with(folder, config, values)).model.tied);
  config["tie_word_embeddings"] = false;
  CHECK_THAT(refusal(folder_with(folder, config, values)), Contains("'lm_head.weight'"));
}

TEST_CASE("keys and tensors without a place are named", "[formats][import][hostile]") {
  struct Row {
    const char *key, *value, *named;
  };
  const auto row = GENERATE(values<Row>(
      {{"hidden_act", "\"gelu\"", "hidden_act"},
       {"rope_scaling", R"({"rope_type": "llama3", "factor": 8.0})", "rope_scaling.low_freq_factor"},
       {"rope_scaling", R"({"type": "dynamic", "factor": 2.0})", "rope_scaling.type"},
       {"rope_scaling", R"({"type": "linear"})", "rope_scaling.factor"},
       {"rope_scaling", R"({"type": "linear", "factor": 0.5})", "rope_scaling.factor: expected a number from 1.0 to 1000000.0, found 0.5"},
       {"rope_scaling", R"({"type": "linear", "factor": "2"})", "rope_scaling.factor"},
       {"rope_scaling", "7", "rope_scaling"},
       {"rope_parameters", R"({"rope_type": "yarn", "rope_theta": 1e4})", "rope_parameters.rope_type"},
       {"rope_parameters", R"({"rope_theta": "x"})", "rope_parameters.rope_theta"},
       {"partial_rotary_factor", "0.5", "partial_rotary_factor"},
       {"sliding_window", "8", "sliding_window"},
       {"layer_types", R"(["linear_attention"])", "layer_types"},
       {"quantization_config", R"({"bits": 4})", "quantization_config"},
       {"auto_map", R"({"AutoConfig": "x.Y"})", "auto_map"},
       {"final_logit_softcapping", "30.0", "final_logit_softcapping"},
       {"num_key_value_heads", "3", "multiple of KV heads"},
       {"num_attention_heads", "3", "multiple of KV heads"},
       {"head_dim", "5", "head_dim"},
       {"head_dim", "8", "self_attn"},
       {"num_hidden_layers", "3", "'model.layers.N.input_layernorm.weight'"},
       {"num_hidden_layers", "1", "without a place"},
       {"vocab_size", "41", "embed_tokens"},
       {"attention_bias", "\"yes\"", "attention_bias"},
       {"rms_norm_eps", "\"x\"", "rms_norm_eps"},
       {"tie_word_embeddings", "0", "tie_word_embeddings"},
       {"model_type", "7", "model_type"},
       {"model_type", "\"mamba\"", "'mamba'"}}));
  CAPTURE(row.key, row.value);
  const TemporaryFolder folder;
  Json config = llama_config();
  config[row.key] = Json::parse(row.value);
  CHECK_THAT(refusal(folder_with(folder, config, llama_values())), Contains(row.named) && Contains("model"));
}

TEST_CASE("scaled rotary positions are read as both versions of transformers write them", "[formats][import]") {
  const TemporaryFolder folder;
  Json config = llama_config();
  const auto read = [&] { return load_model(folder_with(folder, config, llama_values())).model; };
  config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 500.0}};
  CHECK(read().rope_theta == 500);
  CHECK(read().rope_scaling == RopeScaling{});
  const RopeScaling linear{.kind = RopeStretch::linear, .factor = 2};
  const RopeScaling llama3{.kind = RopeStretch::llama3, .factor = 8, .low_factor = 1, .high_factor = 4, .original_context = 64};
  // Both versions of transformers go by rope_scaling where both stand, and then by the rope_theta beside them.
  config["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  CHECK(read().rope_scaling == linear);
  CHECK(read().rope_theta == 20000);
  config["rope_scaling"]["factor"] = 1.0;
  CHECK(read().rope_scaling == RopeScaling{});
  config["rope_scaling"] = nullptr;
  config["rope_parameters"] = {{"rope_type", "llama3"},  {"rope_theta", 500.0},     {"factor", 8.0},
                               {"low_freq_factor", 1.0}, {"high_freq_factor", 4.0}, {"original_max_position_embeddings", 64}};
  CHECK(read().rope_scaling == llama3);
  CHECK(read().rope_theta == 500);
  config["rope_scaling"] = {{"rope_type", "default"}};
  CHECK(read().rope_scaling == RopeScaling{});
  config["rope_scaling"] = config["rope_parameters"];
  CHECK(read().rope_scaling == llama3);
  config["rope_scaling"]["low_freq_factor"] = 4.0;
  CHECK_THAT(refusal(folder_with(folder, config, llama_values())), Contains("rope_low_freq_factor") && Contains("less than"));
}

TEST_CASE("of an unknown architecture the tensors and keys that have no place are named", "[formats][import][hostile]") {
  const TemporaryFolder folder;
  Values values = llama_values();
  add(values, "model.layers.0.self_attn.q_norm.weight", {4});
  for (const char* expert : {"0", "1"}) add(values, std::string("model.layers.1.mlp.experts.") + expert + ".up_proj.weight", {8, kEmbed});
  Json config = llama_config();
  config["model_type"] = "qwen3_moe";
  config["num_experts"] = 2;
  const std::string line = refusal(folder_with(folder, config, values));
  for (const char* part : {"'qwen3_moe'", "num_experts", "'model.layers.N.self_attn.q_norm.weight'",
                           "'model.layers.N.mlp.experts.N.up_proj.weight' (2)", "gpt2, vit, deit, dinov2 or elastiform"})
    CHECK_THAT(line, Contains(part));
}

TEST_CASE("shards are the folder they were cut from, and an index is checked as a claim", "[formats][import][hostile]") {
  const TemporaryFolder folder;
  const Values values = llama_values();
  const std::string path = folder_with(folder, llama_config(), values);
  const DenseModel whole = load_model(path);
  fs::remove(path + "/model.safetensors");
  Values first, second;
  Json map = Json::object();
  for (const auto& [name, value] : values) {
    const bool front = first.size() < 8;
    (front ? first : second)[name] = value;
    map[name] = front ? "model-00001-of-00002.safetensors" : "model-00002-of-00002.safetensors";
  }
  write_tensors(path + "/model-00001-of-00002.safetensors", first);
  write_tensors(path + "/model-00002-of-00002.safetensors", second);
  const auto with_map = [&](const Json& weight_map) {
    folder.write("model/model.safetensors.index.json", Json{{"metadata", {{"total_size", 7}}}, {"weight_map", weight_map}}.dump());
    return path;
  };
  const DenseModel sharded = load_model(with_map(map));
  CHECK(weights_hash(sharded.weights) == weights_hash(whole.weights));

  const std::string moved = second.begin()->first;
  for (const char* name :
       {"../model-00002-of-00002.safetensors", "/etc/passwd", "model.bin", ".hidden.safetensors", "a\\b.safetensors", ""}) {
    Json wrong = map;
    wrong[moved] = name;
    CHECK_THAT(refusal(with_map(wrong)), Contains("names of .safetensors files in the folder"));
  }
  Json wrong = map;
  wrong[moved] = "model-00001-of-00002.safetensors";
  CHECK_THAT(refusal(with_map(wrong)), Contains("'" + moved + "', which the index looks for here"));
  wrong = map;
  wrong[moved] = "model-00003-of-00002.safetensors";
  CHECK_THAT(refusal(with_map(wrong)), Contains("model-00003"));
  wrong = map;
  wrong.erase(moved);
  CHECK_THAT(refusal(with_map(wrong)), Contains("only tensors that the index looks for"));
  CHECK_THAT(refusal(with_map(Json::array())), Contains("weight_map"));
  CHECK_THAT(refusal(with_map(Json{{"a", 7}})), Contains("names of files"));
  CHECK_THAT(refusal(with_map(Json::object())), Contains("empty weight_map"));
  folder.write("model/model.safetensors.index.json", "{");
  CHECK_THAT(refusal(path), Contains("index.json"));
  second[first.begin()->first] = first.begin()->second;  // one tensor in two shards
  write_tensors(path + "/model-00002-of-00002.safetensors", second);
  CHECK_THAT(refusal(with_map(map)), Contains("it stands in another shard too"));
}

TEST_CASE("pickled weights are refused with what to do", "[formats][import][hostile]") {
  const TemporaryFolder folder;
  const std::string path = folder_with(folder, llama_config(), llama_values());
  fs::rename(path + "/model.safetensors", path + "/pytorch_model.bin");
  CHECK_THAT(refusal(path), Contains("pickled weights") && Contains("save_pretrained"));
  fs::remove(path + "/pytorch_model.bin");
  CHECK_THAT(refusal(path), Contains("found neither"));
}

TEST_CASE("a tokenizer goes along with a folder and with our file", "[formats][import]") {
  const TemporaryFolder folder;
  const std::string path = folder_with(folder, llama_config(), llama_values());
  folder.write("model/tokenizer.json", "{\"any\": \"text\"}");
  const DenseModel model = load_model(path);
  CHECK(model.tokenizer == "{\"any\": \"text\"}");
  ModelCard card;
  card.tokenizer = model.tokenizer;
  for (const char* format : {"hf-llama", "elastiform"}) {
    find_format(format).write(model, card, folder / format);
    const DenseModel again = load_model(folder / format);
    CHECK(again.tokenizer == model.tokenizer);
    CHECK(weights_hash(again.weights) == weights_hash(model.weights));
  }
}

TEST_CASE("the end token of a folder comes along", "[formats][import]") {
  const TemporaryFolder folder;
  Json config = llama_config();
  config["eos_token_id"] = 5;
  const std::string path = folder_with(folder, config, llama_values());
  CHECK(load_model(path).end_token == 5);
  folder.write("model/generation_config.json", "{\"eos_token_id\": [7, 5]}");
  const DenseModel model = load_model(path);
  CHECK(model.end_token == 7);
  for (const char* wrong : {"{\"eos_token_id\": null}", "{\"eos_token_id\": -1}", "{\"eos_token_id\": 99999999}", "{}", "[]"}) {
    folder.write("model/generation_config.json", wrong);
    CHECK(load_model(path).end_token == 5);  // config.json's
  }
  ModelCard card;
  card.end_token = model.end_token;
  for (const char* format : {"hf-llama", "elastiform", "hf-auto"}) {
    find_format(format).write(model, card, folder / format);
    CHECK(load_model(folder / format).end_token == 7);
  }
}

TEST_CASE("a mistral without sliding_window sees 4096 tokens", "[formats][import]") {
  Json config = llama_config();
  config["model_type"] = "mistral";
  config.erase("sliding_window");
  config["max_position_embeddings"] = 8192;
  CHECK_THROWS_WITH(hugging_face::parse_config(config.dump(), "config.json"), Contains("sliding_window") && Contains("4096"));
  CHECK_NOTHROW(hugging_face::parse_config(config.dump(), "config.json", 4096));
  config["sliding_window"] = nullptr;
  CHECK_NOTHROW(hugging_face::parse_config(config.dump(), "config.json"));
}

}  // namespace elastiform
