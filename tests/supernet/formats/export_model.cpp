#include <algorithm>
#include <filesystem>

#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "supernet/formats/format.hpp"
#include "supernet/formats/hugging_face.hpp"
#include "supernet/initialization.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/residual.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/temporary_folder.hpp"

using namespace elastiform;
namespace fs = std::filesystem;

namespace {

SearchSpace space_of(const char* preset, bool tied = true, int queries_per_group = 1) {
  ModelConfig model = preset_model(preset);
  model.context = 24;
  model.head_dim = 8;
  model.tied = tied;
  model.queries_per_group = queries_per_group;
  model.branch_scale = 0.4;
  const SearchSpace::Block block{.heads = {2, 4, 6}, .ffn = {.widths = {24, 40}, .ratios = {}}};
  return {model, {32, 48}, {1, 2, 3}, {block, block, block}};
}

/// Values that no symmetry hides: every gain and bias differs from its neutral value.
Weights weights_of(const SearchSpace& space) {
  Weights weights(std::make_shared<const WeightTable>(space), DType::float32);
  std::uint32_t index = 0;
  for (const TensorSpec& tensor : weights.table().tensors()) {
    RandomStream random(5, Purpose::test, 1, ++index);
    const View view = weights.view(tensor);
    const double mean = tensor.role == Role::gain ? 1 : 0, spread = tensor.role == Role::gain || tensor.role == Role::bias ? 0.3 : 0.15;
    for (std::int64_t row = 0; row < view.rows; ++row)
      for (std::int64_t column = 0; column < view.columns; ++column)
        view.row<float>(row)[column] = static_cast<float>(mean + spread * random.normal());
  }
  return weights;
}

const std::vector<std::int32_t>& tokens() {
  static const std::vector<std::int32_t> text = [] {
    std::vector<std::int32_t> ids;
    for (const char c : std::string("In the beginning God crea")) ids.push_back(c);
    return ids;
  }();
  return text;
}

ModelCard card() {
  ModelCard card;
  card.subnet = "e48:2xh4f40";
  card.quality = {{"search", 1.5, 0.01, 2.164, 1000}, {"report", 1.6, 0.02, 2.308, 900}};
  card.data_sha256 = std::string(64, 'd');
  card.weights_hash = std::string(64, 'e');
  card.version = "0.1.0";
  card.training_steps = 12;
  return card;
}

std::vector<std::string> names_in(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void replace_in(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = content_of(path);
  const auto at = text.find(from);
  REQUIRE(at != std::string::npos);
  overwrite(path, text.replace(at, from.size(), to));
}

}  // namespace

TEST_CASE("an export read back gives the logits of the subnet inside the supernet", "[formats][export]") {
  struct Row {
    const char *preset, *format, *subnet;
    bool tied;
    int queries_per_group;
  };
  const auto row = GENERATE(values<Row>({{"llama", "hf-llama", "e48:2xh4f40", true, 1},
                                         {"llama", "hf-llama", "e32:3xh6k3f24", false, 2},  // 6 heads do not divide 32: mistral
                                         {"llama", "hf-llama", "e48:h2k1f24", true, 2},
                                         {"gpt2", "hf-gpt2", "e32:2xh4f24", true, 1},
                                         {"gpt2", "hf-gpt2", "e48:3xh6f40", false, 1},
                                         {"llama", "hf-auto", "e48:h4f40", true, 1},
                                         {"llama", "hf-auto", "e32:h2k1f40,h6k3f24", false, 2},
                                         {"gpt2", "hf-auto", "e48:h6f24,h2f40@0,2", true, 1},
                                         {"llama", "elastiform", "e32:h2f40,h6f24", true, 1},
                                         {"gpt2", "elastiform", "e48:h6f24,h2f40@0,2", false, 1}}));
  CAPTURE(row.format, row.subnet);
  const TemporaryFolder folder;
  const SearchSpace space = space_of(row.preset, row.tied, row.queries_per_group);
  const Weights weights = weights_of(space);
  const Subnet subnet = parse_subnet(row.subnet);
  const std::string path = folder / "model";
  const double difference = export_model(find_format(row.format), weights, subnet, card(), tokens(), path);
  CHECK(difference < kExportTolerance);
  CHECK(names_in(folder.path()) == std::vector<std::string>{"model"});

  const DenseModel model = load_model(path);
  CHECK(model.subnet.blocks == subnet.blocks);
  CHECK(model.subnet.kept.empty());
  CHECK(model.model.branch_scale == 1);
  CHECK(model.model.tied == row.tied);
  CHECK(model.model.context == space.model().context);

  // Nothing but the folded scale may have changed: exporting the export again gives the same weights bit for bit.
  export_model(find_format(row.format), model.weights, model.subnet, card(), tokens(), folder / "again");
  const DenseModel again = load_model(folder / "again");
  CHECK(again.weights.table().space() == model.weights.table().space());
  CHECK(same_values(again.weights, model.weights));
}

TEST_CASE("exports fold the residual rules that leave plain pre-norm blocks, and refuse the others by name",
          "[formats][export][residual]") {
  const ResidualRule rule = GENERATE(from_range(every_residual_rule()));
  const std::string preset = GENERATE("llama", "gpt2");
  const ResidualRuleEntry& entry = residual_rule(rule);
  CAPTURE(entry.name, preset);
  const SearchSpace space = with_residual(space_of(preset.c_str(), false), rule);
  const Weights weights = weights_of(space);
  const Subnet subnet = parse_subnet(preset == "llama" ? "e48:2xh4f40" : "e32:2xh4f24");
  const Format& format = find_format("hf-" + preset);
  const TemporaryFolder folder;
  // Our own format holds any rule; folded or not, the logits are the subnet's inside the supernet.
  CHECK(export_model(find_format("elastiform"), weights, subnet, card(), tokens(), folder / "own") <= 1e-6);
  const DenseModel own = load_model(folder / "own");
  std::int64_t scalars = 0;
  for (const TensorSpec& tensor : own.weights.table().tensors()) scalars += tensor.rows * tensor.columns;
  const CostModel costs(space, {}, 1, [](const WeightTable&) { return std::int64_t{0}; });
  CHECK(costs.of(subnet).parameters == scalars);
  if (entry.form.folds()) {
    CHECK(own.model.residual == ResidualRule::branch_scale);
    CHECK(own.model.branch_scale == 1);
    CHECK(export_model(format, weights, subnet, card(), tokens(), folder / "model") <= 1e-6);
    CHECK(load_model(folder / "model").subnet.blocks == subnet.blocks);
  } else {
    CHECK(own.model.residual == rule);
    const char* reason = entry.form.norm == NormPlace::none ? " has no norms" : " has its norms after the branches";
    CHECK_THROWS_WITH(export_model(format, weights, subnet, card(), tokens(), folder / "model"),
                      Catch::Contains(std::string(entry.name) + reason) && Catch::Contains("use --format elastiform"));
    CHECK(names_in(folder.path()) == std::vector<std::string>{"own"});
  }
}

TEST_CASE("an export whose file holds a wrong weight is refused and leaves nothing", "[formats][export]") {
  const Weights weights = weights_of(space_of("llama"));
  const Subnet subnet = parse_subnet("e48:2xh4f40");
  const TemporaryFolder folder;
  const bool as_folder = GENERATE(true, false);
  Format planted = find_format(as_folder ? "hf-llama" : "elastiform");
  planted.write = as_folder ? [](const DenseModel& model, const ModelCard& card, const std::string& path) {
    DenseModel wrong{model.model, model.subnet, extract(model.weights, model.subnet)};
    wrong.weights.view("block.1.ffn.up").row<float>(3)[5] += 0.5f;
    hugging_face::write_llama(wrong, card, path);
  } : [](const DenseModel& model, const ModelCard& card, const std::string& path) {
    DenseModel wrong{model.model, model.subnet, extract(model.weights, model.subnet)};
    wrong.weights.view("block.0.attention.key").row<float>(0)[0] += 0.5f;
    find_format("elastiform").write(wrong, card, path);
  };
  CHECK_THROWS_WITH(export_model(planted, weights, subnet, card(), tokens(), folder / "model"), Catch::Contains("nothing was written"));
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("weights that are not finite are not exported", "[formats][export]") {
  Weights weights = weights_of(space_of("llama"));
  weights.view("final.norm.gain").row<float>(0)[0] = std::numeric_limits<float>::quiet_NaN();
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(export_model(find_format("hf-llama"), weights, parse_subnet("e48:2xh4f40"), card(), tokens(), folder / "model"),
                    Catch::Contains("finite"));
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("what a format cannot express is refused with the reason", "[formats][export]") {
  struct Row {
    const char *preset, *format, *subnet, *reason;
  };
  const auto row = GENERATE(values<Row>({{"llama", "hf-llama", "e48:h4f40,h2f40", "block 1 differs"},
                                         {"llama", "hf-llama", "e48:h4f40,h4f24", "block 1 differs"},
                                         {"llama", "hf-llama", "e48:2xh4f40@0,2", "@"},
                                         {"llama", "hf-gpt2", "e48:2xh6f40", "RMSNorm"},
                                         {"gpt2", "hf-llama", "e48:2xh6f40", "LayerNorm"},
                                         {"gpt2", "hf-gpt2", "e48:2xh4f40", "4 heads of 8 are not embed 48"}}));
  CAPTURE(row.format, row.subnet);
  const TemporaryFolder folder;
  const Weights weights = weights_of(space_of(row.preset));
  CHECK_THROWS_WITH(export_model(find_format(row.format), weights, parse_subnet(row.subnet), card(), tokens(), folder / "model"),
                    Catch::Contains(row.reason));
  CHECK_THROWS_AS(export_model(find_format(row.format), weights, parse_subnet(row.subnet), card(), tokens(), folder / "model"), InputError);
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("an export never replaces what is there, and needs a folder to stand in", "[formats][export]") {
  const TemporaryFolder folder;
  const Weights weights = weights_of(space_of("llama"));
  const std::string there = folder.write("there", "mine");
  for (const char* format : {"elastiform", "hf-llama"}) {
    CHECK_THROWS_AS(export_model(find_format(format), weights, parse_subnet("e48:2xh4f40"), card(), tokens(), there), InputError);
    CHECK_THROWS_AS(export_model(find_format(format), weights, parse_subnet("e48:2xh4f40"), card(), tokens(), folder / "absent/model"),
                    InputError);
  }
  CHECK(content_of(there) == "mine");
  CHECK(names_in(folder.path()) == std::vector<std::string>{"there"});
  CHECK_THROWS_WITH(find_format("hf-lama"), Catch::Contains("hf-llama"));
}

TEST_CASE("the model card says what the model is, how good, and that it was not fine-tuned", "[formats][export]") {
  const TemporaryFolder folder;
  export_model(find_format("hf-llama"), weights_of(space_of("llama")), parse_subnet("e48:2xh4f40"), card(), tokens(), folder / "model");
  CHECK(names_in(folder / "model") == std::vector<std::string>{"README.md", "config.json", "generation_config.json", "model.safetensors",
                                                               "tokenizer.json", "tokenizer_config.json"});
  const std::string text = content_of(folder / "model/README.md");
  for (const char* words :
       {"`e48:2xh4f40`", "was not fine-tuned", "| search | 1.5000 ± 0.0196 |", "| report | 1.6000 ± 0.0392 |", "from_pretrained", "dddddd"})
    CHECK(text.find(words) != std::string::npos);
}

TEST_CASE("a folder with Python files of its own says what every block is", "[formats][export]") {
  const TemporaryFolder folder;
  ModelConfig model = space_of("llama", false, 2).model();
  const SearchSpace::Block block{.heads = {0, 2, 4}, .ffn = {.widths = {24, 40}, .ratios = {}}},
      last{.heads = {2}, .ffn = {.widths = {0}, .ratios = {}}};
  const SearchSpace space(model, {48}, {3}, {block, block, last});
  export_model(find_format("hf-auto"), weights_of(space), parse_subnet("e48:h4k2f40,h0f24,h2k1f0"), card(), tokens(), folder / "model");
  CHECK(names_in(folder / "model") == std::vector<std::string>{"README.md", "config.json", "configuration_elastiform.py",
                                                               "generation_config.json", "model.safetensors", "modeling_elastiform.py",
                                                               "tokenizer.json", "tokenizer_config.json"});
  CHECK(load_model(folder / "model").subnet == parse_subnet("e48:h4k2f40,h0f24,h2k1f0"));
  CHECK(content_of(folder / "model/README.md").find("trust_remote_code=True") != std::string::npos);
  CHECK(content_of(folder / "model/modeling_elastiform.py").find("Apache License, Version 2.0") != std::string::npos);

  const std::string config = folder / "model/config.json", whole = content_of(config);
  struct Row {
    const char *from, *to;
  };
  for (const Row& row : std::vector<Row>{{"\"block_heads\": [", "\"block_heads\": [4, "},
                                         {"\"block_heads\": [\n    4", "\"block_heads\": [\n    3"},
                                         {"\"block_heads\": [\n    4", "\"block_heads\": [\n    -4"},
                                         {"\"block_heads\": [\n    4", "\"block_heads\": [\n    0"},
                                         {"\"block_key_value_heads\": [\n    2", "\"block_key_value_heads\": [\n    4"},
                                         {"\"block_ffn\": [\n    40", "\"block_ffn\": [\n    41"},
                                         {"\"block_ffn\": [\n    40", "\"block_ffn\": [\n    16777217"},
                                         {"\"block_ffn\": [\n    40,\n    24", "\"block_ffn\": [\n    40,\n    0"},
                                         {"\"block_ffn\": [", "\"block_ffn\": 3, \"x\": ["},
                                         {"\"norm\": \"rmsnorm\"", "\"norm\": \"layernorm\""},
                                         {"\"norm\": \"rmsnorm\"", "\"norm\": \"batchnorm\""},
                                         {"\"ffn_kind\": \"swiglu\"", "\"ffn_kind\": \"gelu_erf\""},
                                         {"\"positions\": \"rope\"", "\"positions\": \"learned\""},
                                         {"\"biases\": false", "\"biases\": true"}}) {
    CAPTURE(row.from, row.to);
    replace_in(config, row.from, row.to);
    // LayerNorm without biases has the tensors of RMSNorm: another network, but no lie.
    if (std::string(row.to).find("layernorm") == std::string::npos) CHECK_THROWS_AS(load_model(folder / "model"), InputError);
    overwrite(config, whole);
  }
  CHECK_NOTHROW(load_model(folder / "model"));
}

TEST_CASE("folders that lie about the model end in one line", "[formats][export][hostile]") {
  const TemporaryFolder folder;
  const std::string path = folder / "model", config = path + "/config.json";
  export_model(find_format("hf-llama"), weights_of(space_of("llama")), parse_subnet("e48:2xh4f40"), card(), tokens(), path);
  REQUIRE_NOTHROW(load_model(path));
  struct Row {
    const char *from, *to;
  };
  const auto row = GENERATE(values<Row>({{"\"hidden_size\": 48", "\"hidden_size\": 16777216"},
                                         {"\"hidden_size\": 48", "\"hidden_size\": 0"},
                                         {"\"hidden_size\": 48", "\"hidden_size\": 48.5"},
                                         {"\"hidden_size\": 48", "\"hidden_size\": -48"},
                                         {"\"hidden_size\": 48,", ""},
                                         {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"},
                                         {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"},
                                         {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 16777216"},
                                         {"\"num_attention_heads\": 4", "\"num_attention_heads\": 5"},
                                         {"\"num_key_value_heads\": 4", "\"num_key_value_heads\": 2"},
                                         {"\"intermediate_size\": 40", "\"intermediate_size\": 41"},
                                         {"\"vocab_size\": 256", "\"vocab_size\": 257"},
                                         {"\"max_position_embeddings\": 24", "\"max_position_embeddings\": 16000000"},
                                         {"\"rms_norm_eps\": 1e-05", "\"rms_norm_eps\": -1"},
                                         {"\"rope_theta\": 10000.0", "\"rope_theta\": \"x\""},
                                         {"\"rope_type\": \"default\"", "\"rope_type\": \"yarn\""},
                                         {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"},
                                         {"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1"},
                                         {"\"attention_bias\": false", "\"attention_bias\": true"},
                                         {"\"hidden_act\": \"silu\"", "\"hidden_act\": \"gelu\""},
                                         {"\"model_type\": \"llama\"", "\"model_type\": \"bert\""},
                                         {"\"model_type\": \"llama\"", "\"model_type\": \"gpt2\""},
                                         {"\"model_type\": \"llama\"", "\"model_type\": 7"},
                                         {"{", "["},
                                         {"}", ""}}));
  CAPTURE(row.from, row.to);
  // rope_theta stands twice; the reader takes the one inside rope_parameters, which is the later.
  if (std::string(row.from).find("rope_theta") != std::string::npos) replace_in(config, row.from, "\"rope_theta_4\": 1");
  replace_in(config, row.from, row.to);
  check_input_error([&] { load_model(path); }, "model");
}

TEST_CASE("models that ask for more memory than their tensors account for are refused", "[formats][export][hostile]") {
  const TemporaryFolder folder;
  const std::string path = folder / "model", config = path + "/config.json";
  export_model(find_format("hf-llama"), weights_of(space_of("llama")), parse_subnet("e48:2xh4f40"), card(), tokens(), path);
  replace_in(config, "\"max_position_embeddings\": 24", "\"max_position_embeddings\": 1048576");
  CHECK(load_model(path).model.context == 1048576);  // 32 MiB of tables for heads of 8
  replace_in(config, "1048576", "1048577");
  CHECK_THROWS_WITH(load_model(path), Catch::Contains("at most 1048576"));
  replace_in(config, "1048577", "1048576");
  replace_in(config, "\"head_dim\": 8", "\"head_dim\": 66");
  CHECK_THROWS_WITH(load_model(path), Catch::Contains("256 MiB") && Catch::Contains("config.json"));
  replace_in(config, "\"head_dim\": 66", "\"head_dim\": 1026");
  replace_in(config, "1048576", "24");
  CHECK_THROWS_WITH(load_model(path), Catch::Contains("head_dim of at most 1024"));

  ModelConfig model = preset_model("llama");
  model.context = 1 << 20;
  model.head_dim = 1024;
  const Subnet subnet = parse_subnet("e8:h1f8");
  const std::string file = folder / "file";
  find_format("elastiform")
      .write({model, subnet, Weights(std::make_shared<const WeightTable>(SearchSpace::of(model, subnet)), DType::float32)}, card(), file);
  CHECK_THROWS_WITH(load_model(file), Catch::Contains("256 MiB") && Catch::Contains(file));
}

TEST_CASE("damaged weights end in one line", "[formats][export][hostile]") {
  const TemporaryFolder folder;
  const char* format = GENERATE("hf-gpt2", "elastiform");
  const std::string path = folder / "model", file = std::string(format) == "elastiform" ? path : path + "/model.safetensors";
  export_model(find_format(format), weights_of(space_of("gpt2")), parse_subnet("e32:2xh4f24"), card(), tokens(), path);
  const std::string whole = content_of(file);
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{600}, whole.size() / 2, whole.size() - 1}) {
    CAPTURE(format, size);
    overwrite(file, whole.substr(0, size));
    CHECK_THROWS_AS(load_model(path), InputError);
  }
  overwrite(file, whole);
  CHECK_NOTHROW(load_model(path));
  CHECK_THROWS_AS(load_model(folder / "absent"), InputError);
  CHECK_THROWS_AS(load_model(folder.path()), InputError);
}
