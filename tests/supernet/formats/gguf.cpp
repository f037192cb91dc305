// Exports for llama.cpp: what tests/consumers shows with the real one is held here by structure and by reading back.
#include "supernet/formats/gguf.hpp"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "kernels/errors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/temporary_folder.hpp"

using namespace elastiform;

namespace {

/// Heads of 16, so that two are a block of Q8_0 and one is not.
SearchSpace space_of(int queries_per_group, bool tied = true, bool biases = false, const char* preset = "llama") {
  ModelConfig model = preset_model(preset);
  model.context = 24;
  model.head_dim = 16;
  model.tied = tied;
  model.queries_per_group = queries_per_group;
  model.branch_scale = 0.4;
  if (model.norm == Norm::rms) model.biases = biases;
  const int q = queries_per_group;
  const SearchSpace::Block first{.heads = {q, 2 * q, 4 * q}, .ffn = {.widths = {0, 32, 33, 64}, .ratios = {}}},
      later{.heads = {0, q, 2 * q, 4 * q}, .ffn = {.widths = {1, 32, 64}, .ratios = {}}};
  return {model, {32, 33, 64}, {1, 2, 3}, {first, later, later}};
}

const std::vector<std::int32_t> kTokens{73, 110, 32, 116, 104, 101, 32, 98, 101, 103, 105, 110, 110, 105, 110, 103, 0, 255, 128};

/// Weights at which sums stay near 1: what rounding them costs is what tolerances are made for.
Weights calm_weights(const SearchSpace& space) {
  Weights weights = random_weights(space, DType::float32, 9);
  for (const TensorSpec& tensor : weights.table().tensors()) {
    const View view = weights.view(tensor);
    const bool matrix = tensor.role != Role::gain && tensor.role != Role::bias && tensor.role != Role::embedding;
    for (std::int64_t row = 0; matrix && row < view.rows; ++row)
      for (std::int64_t column = 0; column < view.columns; ++column) view.row<float>(row)[column] *= 0.5f;
  }
  return weights;
}

struct Exported {
  TemporaryFolder folder;
  Weights weights;
  std::string path = folder / "model.gguf";
  double difference;
  Exported(const SearchSpace& space, const char* format, const char* subnet)
      : weights(calm_weights(space)),
        difference(export_model(find_format(format), weights, parse_subnet(subnet), ModelCard{}, kTokens, path)) {}
};

}  // namespace

TEST_CASE("a GGUF read back is the subnet, whatever its blocks are", "[formats][gguf]") {
  struct Row {
    int queries;
    bool tied, biases;
    const char* subnet;
  };
  const auto row = GENERATE(values<Row>({{1, true, false, "e32:h2f33,h4f1,h1f64"},
                                         {2, false, false, "e64:h2k1f64,h8k4f32,h4k2f1"},
                                         {2, true, true, "e33:h8k4f33,h2k1f64"},
                                         {1, true, false, "e33:h1f32"},
                                         {1, true, false, "e32:h4f0,h0f32,h2f1"},
                                         {1, false, false, "e32:h2f0"},
                                         {1, true, false, "e64:h2f32,h1f64@0,2"}}));
  const std::string format = GENERATE("gguf", "gguf-f16", "gguf-bf16");
  CAPTURE(row.subnet, format);
  const Exported exported(space_of(row.queries, row.tied, row.biases), format.c_str(), row.subnet);
  CHECK(exported.difference <= find_format(format).tolerance);
  const DenseModel model = load_model(exported.path);
  CHECK(model.subnet.blocks == parse_subnet(row.subnet).blocks);
  CHECK(model.model.tied == row.tied);
  CHECK(model.model.biases == row.biases);
  CHECK(model.model.branch_scale == 1);

  // Exporting the export again changes no bit, rounded or not.
  const std::string again = exported.folder / "again.gguf";
  export_model(find_format(format), model.weights, model.subnet, ModelCard{}, kTokens, again);
  CHECK(same_values(load_model(again).weights, model.weights));
}

TEST_CASE("a GGUF says what llama.cpp asks for", "[formats][gguf]") {
  const Exported exported(space_of(2, false), "gguf", "e64:h4k2f0,h0f32,h2k1f64");
  const gguf::Reader file(exported.path);
  CHECK(file.text("general.architecture") == "deci");
  CHECK(file.integer("general.file_type") == 0);
  CHECK(file.integer("deci.block_count") == 3);
  CHECK(file.integer("deci.embedding_length") == 64);
  CHECK(file.integer("deci.context_length") == 24);
  CHECK(file.integers("deci.attention.head_count", 3) == std::vector<std::int64_t>{4, 0, 2});
  CHECK(file.integers("deci.attention.head_count_kv", 3) == std::vector<std::int64_t>{2, 0, 1});
  CHECK(file.integers("deci.feed_forward_length", 3) == std::vector<std::int64_t>{1, 32, 64});  // a block with attention needs an FFN
  for (const char* key : {"deci.attention.key_length", "deci.attention.value_length", "deci.rope.dimension_count"})
    CHECK(file.integer(key) == 16);
  CHECK(file.text("tokenizer.ggml.model") == "gpt2");
  CHECK(file.array_length("tokenizer.ggml.tokens") == 256);
  CHECK(file.array_length("tokenizer.ggml.merges") == 0);
  CHECK(file.integer("tokenizer.ggml.eos_token_id") == 0);
  CHECK_FALSE(file.has("blk.1.attn_q.weight"));
  CHECK_FALSE(file.has("blk.1.attn_norm.weight"));
  CHECK(file.floats("blk.0.ffn_down.weight") == std::vector<float>(64, 0.0f));
  CHECK_NOTHROW(file.require("blk.0.attn_k.weight", {32, 64}));
  CHECK_NOTHROW(file.require("output.weight", {256, 64}));

  // Rows of a head stand in pairs: half-rotation's 0, 8, 1, 9, … Values are not reordered.
  const std::vector<float> query = file.floats("blk.2.attn_q.weight"), value = file.floats("blk.2.attn_v.weight");
  const ConstView ours = exported.weights.view("block.2.attention.query"), values = exported.weights.view("block.2.attention.value");
  for (int head = 0; head < 2; ++head)
    for (int i = 0; i < 16; ++i)
      for (int in = 0; in < 64; ++in)
        CHECK(query[static_cast<std::size_t>((head * 16 + i) * 64 + in)] == ours.row<float>(in)[head * 16 + i / 2 + 8 * (i % 2)]);
  for (int i = 0; i < 16; ++i) CHECK(value[static_cast<std::size_t>(i * 64 + 3)] == values.row<float>(3)[i]);
}

TEST_CASE("Q8_0 takes sizes of whole blocks and halves the bytes twice", "[formats][gguf]") {
  const Exported exact(space_of(2), "gguf", "e64:h4k2f64,h4k2f32"), rounded(space_of(2), "gguf-q8_0", "e64:h4k2f64,h4k2f32");
  CHECK(rounded.difference > 1e-4);
  CHECK(rounded.difference < 5e-2);
  CHECK(std::filesystem::file_size(rounded.path) < std::filesystem::file_size(exact.path) * 3 / 10);
  CHECK(gguf::Reader(rounded.path).entries().at("blk.0.attn_norm.weight").element == 0);
  CHECK(gguf::Reader(rounded.path).entries().at("token_embd.weight").element == 8);
  const Exported idle(space_of(1), "gguf-q8_0", "e64:h2f0,h4f64");
  CHECK(load_model(idle.path).subnet.blocks == parse_subnet("e64:h2f0,h4f64").blocks);
}

TEST_CASE("of a vocabulary of bytes with rows over, those stand for nothing", "[formats][gguf]") {
  const std::string format = GENERATE("gguf", "hf-llama", "elastiform");
  ModelConfig model = space_of(1).model();
  model.vocabulary = 320;
  const SearchSpace space(model, {32}, {1}, {{.heads = {2}, .ffn = {.widths = {32}, .ratios = {}}}});
  const Exported exported(space, format.c_str(), "e32:h2f32");
  const DenseModel read = load_model(exported.path);
  CHECK(read.model.vocabulary == 320);
  CHECK(read.tokenizer.empty());
  CHECK_FALSE(read.end_token.has_value());
  if (format == "hf-llama") {  // no tokenizer there, and the card promises none
    const std::string card = content_of(exported.path + "/README.md");
    CHECK(card.find("from_pretrained") != std::string::npos);
    CHECK(card.find("AutoTokenizer") == std::string::npos);
  }
  if (format != "gguf") return;
  const gguf::Reader file(exported.path);
  REQUIRE(file.array_length("tokenizer.ggml.tokens") == 320);
  CHECK(file.texts("tokenizer.ggml.tokens")[319] == "[PAD319]");
  CHECK(file.integers("tokenizer.ggml.token_type", 320)[319] == 5);
  CHECK(file.text("elastiform.model_card").find("was not fine-tuned") != std::string::npos);
}

namespace {

struct Wrong {
  const char* format;
  gguf::Element element;
  const char* tensor;
  std::int64_t row;
  float more;  // added to column 5
};

/// The format's file with that number wrong is refused in words with `says`, and the right one is not.
void check_wrong(const Wrong& wrong, const Weights& weights, const std::string& says) {
  CAPTURE(wrong.format, wrong.tensor, wrong.more);
  static Wrong planted_number;  // a Format's writer is a plain function
  planted_number = wrong;
  Format planted = find_format(wrong.format);
  planted.write = [](const DenseModel& model, const ModelCard& card, const std::string& path) {
    DenseModel copy{model.model, model.subnet, extract(model.weights, model.subnet)};
    copy.weights.view(planted_number.tensor).row<float>(planted_number.row)[5] += planted_number.more;
    gguf::write_deci(copy, card, path, planted_number.element);
  };
  const TemporaryFolder folder;
  const Subnet subnet = parse_subnet("e32:h2f32");
  CHECK_THROWS_WITH(export_model(planted, weights, subnet, ModelCard{}, kTokens, folder / "x"), Catch::Contains(says));
  CHECK(std::filesystem::is_empty(folder.path()));
  CHECK_NOTHROW(export_model(find_format(wrong.format), weights, subnet, ModelCard{}, kTokens, folder / "x"));
}

}  // namespace

TEST_CASE("a GGUF with a wrong number is refused, rounded or not", "[formats][gguf][export]") {
  // Id 7 is in none of the tokens, and beside a large weight in another row a small one is lost in what rounding that one costs.
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  using gguf::Element;
  const auto wrong = GENERATE(values<Wrong>({{"gguf", Element::f32, "embedding.token", 7, kNaN},
                                             {"gguf", Element::f32, "embedding.token", 7, 1e-4f},
                                             {"gguf-f16", Element::f16, "embedding.token", 7, kNaN},
                                             {"gguf-f16", Element::f16, "embedding.token", 7, 0.02f},
                                             {"gguf-bf16", Element::bf16, "embedding.token", 7, 0.1f},
                                             {"gguf-q8_0", Element::q8_0, "embedding.token", 7, 0.1f}}));
  Weights weights = calm_weights(space_of(1));
  weights.view("embedding.token").row<float>(9)[0] = 50;
  check_wrong(wrong, weights, "nothing was written");
}

TEST_CASE("a GGUF with a wrong number of a linear map or a gain is refused by what its own block may lose", "[formats][gguf][export]") {
  using gguf::Element;
  const auto wrong = GENERATE(values<Wrong>({{"gguf-q8_0", Element::q8_0, "block.0.ffn.down", 0, 0.02f},
                                             {"gguf-q8_0", Element::q8_0, "block.0.ffn.norm.gain", 0, 1e-5f},
                                             {"gguf-f16", Element::f16, "block.0.attention.query", 0, 1e-3f}}));
  Weights weights = calm_weights(space_of(1));
  // In the same row: of another block where blocks lie down the columns, and of the same where they would not.
  weights.view("block.0.ffn.down").row<float>(0)[0] = 8;
  check_wrong(wrong, weights, "of its block in " + std::string(wrong.tensor));
}

TEST_CASE("an FFN whose columns add nothing is still one", "[formats][gguf]") {
  const std::string format = GENERATE("gguf", "gguf-q8_0");
  const SearchSpace space = space_of(1);
  Weights weights = calm_weights(space);
  const View down = weights.view("block.0.ffn.down");
  for (std::int64_t row = 0; row < down.rows; ++row) std::fill_n(down.row<float>(row), down.columns, 0.0f);
  const TemporaryFolder folder;
  for (const char* subnet : {"e32:h2f32,h2f32", "e32:h2f0,h2f32"}) {
    const std::string path = folder / subnet;
    export_model(find_format(format), weights, parse_subnet(subnet), ModelCard{}, kTokens, path);
    CHECK(load_model(path).subnet == parse_subnet(subnet));
  }
}

TEST_CASE("scaled rotary positions are read back from every format that has them", "[formats][gguf][onnx]") {
  const RopeScaling rule = GENERATE(RopeScaling{.kind = RopeStretch::linear, .factor = 2.5}, RopeScaling{RopeStretch::llama3, 8, 1, 4, 16},
                                    RopeScaling{RopeStretch::llama3, 32, 1.5, 6, 12});
  ModelConfig model = space_of(1).model();
  model.rope_scaling = rule;
  const SearchSpace space(model, {32}, {2},
                          {{.heads = {2}, .ffn = {.widths = {32}, .ratios = {}}}, {.heads = {2}, .ffn = {.widths = {32}, .ratios = {}}}});
  const std::string name = GENERATE("gguf", "hf-llama", "hf-auto", "elastiform", "onnx");
  CAPTURE(name, rule.factor);
  const TemporaryFolder folder;
  const std::string path = folder / ("model" + std::string(find_format(name).suffix));
  export_model(find_format(name), calm_weights(space), parse_subnet("e32:2xh2f32"), ModelCard{}, kTokens, path);
  if (name != "onnx") CHECK(load_model(path).model.rope_scaling == rule);
}

TEST_CASE("a GGUF whose rotary positions are scaled otherwise is refused", "[formats][gguf][export]") {
  static const auto write = [](const DenseModel& model, const ModelCard& card, const std::string& path) {
    DenseModel wrong{model.model, model.subnet, extract(model.weights, model.subnet)};
    wrong.model.rope_scaling = {.kind = RopeStretch::linear, .factor = 1.001};
    gguf::write_deci(wrong, card, path, gguf::Element::f32);
  };
  Format planted = find_format("gguf");
  planted.write = [](const DenseModel& model, const ModelCard& card, const std::string& path) { write(model, card, path); };
  const TemporaryFolder folder;
  const SearchSpace space = space_of(1);
  CHECK_THROWS_WITH(export_model(planted, calm_weights(space), parse_subnet("e32:h2f32"), ModelCard{}, kTokens, folder / "x"),
                    Catch::Contains("another rope_scaling") && Catch::Contains("nothing was written"));
}

TEST_CASE("a GGUF that describes another model is refused", "[formats][gguf][export]") {
  using Write = void (*)(const DenseModel&, const ModelCard&, const std::string&);
  struct Row {
    const char* named;
    Write write;
  };
  static const auto write = [](const DenseModel& model, const ModelCard& card, const std::string& path, auto change) {
    DenseModel wrong{model.model, model.subnet, extract(model.weights, model.subnet)};
    change(wrong.model);
    gguf::write_deci(wrong, card, path, gguf::Element::f32);
  };
  const auto row = GENERATE(values<Row>(
      {{"context", [](const auto& m, const auto& c, const auto& p) { write(m, c, p, [](ModelConfig& model) { model.context += 1; }); }},
       {"rope_theta",
        [](const auto& m, const auto& c, const auto& p) { write(m, c, p, [](ModelConfig& model) { model.rope_theta += 1; }); }},
       {"norm",
        [](const auto& m, const auto& c, const auto& p) { write(m, c, p, [](ModelConfig& model) { model.norm_eps *= 1.001; }); }}}));
  CAPTURE(row.named);
  Format planted = find_format("gguf");
  planted.write = row.write;
  const TemporaryFolder folder;
  const SearchSpace space = space_of(1);
  CHECK_THROWS_WITH(export_model(planted, calm_weights(space), parse_subnet("e32:h2f32"), ModelCard{}, kTokens, folder / "x"),
                    Catch::Contains(std::string("another ") + row.named) && Catch::Contains("nothing was written"));
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("what llama.cpp's deci cannot express is refused with the reason", "[formats][gguf]") {
  struct Row {
    const char *format, *preset, *subnet, *reason;
  };
  const auto row = GENERATE(values<Row>({{"gguf", "gpt2", "e32:h2f32", "LayerNorm"},
                                         {"gguf", "llama", "e32:h0f32,h2f32", "block 0 has no attention"},
                                         {"gguf-q8_0", "llama", "e33:h2f32", "embed 33"},
                                         {"gguf-q8_0", "llama", "e32:h2f33", "FFN width 33"},
                                         {"gguf-q8_0", "llama", "e32:h2f32,h1f32", "block 1 has 1 heads, and their width 16"}}));
  CAPTURE(row.format, row.subnet);
  const SearchSpace space = space_of(1, true, false, row.preset);
  const Subnet subnet = parse_subnet(row.subnet);
  CHECK_THAT(find_format(row.format).why_not(space.model(), subnet), Catch::Contains(row.reason));
  const TemporaryFolder folder;
  if (space.contains(subnet))
    CHECK_THROWS_AS(
        export_model(find_format(row.format), random_weights(space, DType::float32, 1), subnet, ModelCard{}, kTokens, folder / "x"),
        InputError);
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("GGUF: metadata that lie about the model end in one line", "[formats][gguf][hostile]") {
  const Exported exported(space_of(1, false), "gguf", "e32:h2f32,h4f64");
  const auto number = [](std::uint32_t value) { return std::string(reinterpret_cast<const char*>(&value), sizeof value); };
  struct Row {
    const char* key;
    std::size_t skip;  // from the key's end to the number: its type, and an array's type and length
    std::uint32_t value;
  };
  const auto row = GENERATE(values<Row>({{"deci.block_count", 4, 0},
                                         {"deci.block_count", 4, 1},
                                         {"deci.block_count", 4, 3},
                                         {"deci.block_count", 4, 513},
                                         {"deci.embedding_length", 4, 0},
                                         {"deci.embedding_length", 4, 64},
                                         {"deci.embedding_length", 4, 0x7FFFFFFF},
                                         {"deci.context_length", 4, 0},
                                         {"deci.context_length", 4, 0x1000000},
                                         {"deci.vocab_size", 4, 255},
                                         {"deci.vocab_size", 4, 0x1000000},
                                         {"deci.attention.key_length", 4, 8},
                                         {"deci.attention.value_length", 4, 8},
                                         {"deci.rope.dimension_count", 4, 8},
                                         {"deci.attention.head_count", 16, 0},
                                         {"deci.attention.head_count", 16, 3},
                                         {"deci.attention.head_count", 16, 0xFFFFFFFF},
                                         {"deci.attention.head_count", 8, 1},
                                         {"deci.attention.head_count_kv", 16, 1},
                                         {"deci.attention.head_count_kv", 16, 0},
                                         {"deci.feed_forward_length", 16, 0},
                                         {"deci.feed_forward_length", 16, 33},
                                         {"deci.feed_forward_length", 16, 0x7FFFFFFF},
                                         {"deci.attention.layer_norm_rms_epsilon", 4, 0xBF800000},
                                         {"deci.rope.freq_base", 4, 0x7FC00000},
                                         {"deci.rope.freq_base", 0, 8},
                                         {"tokenizer.ggml.tokens", 4, 4}}));
  CAPTURE(row.key, row.value);
  std::string bytes = content_of(exported.path);
  const std::string name(row.key);
  const std::size_t at = bytes.find(name + (row.skip == 4 || row.skip == 0 ? "" : "\t"));  // \t: type 9, an array
  REQUIRE(at != std::string::npos);
  bytes.replace(at + name.size() + row.skip, 4, number(row.value));
  const std::string path = exported.folder.write("lie.gguf", bytes);
  check_input_error([&] { load_model(path); }, path);
}
