// GGUF files that others made: architecture llama, their vocabularies, and what has no place.
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "kernels/random.hpp"
#include "supernet/formats/foreign_model.hpp"
#include "supernet/formats/gguf.hpp"
#include "supernet/formats/gguf_vocabulary.hpp"
#include "supernet/rotary.hpp"
#include "supernet/tokenizers/byte_characters.hpp"
#include "supernet/tokenizers/oniguruma.hpp"
#include "supernet/tokenizers/tokenizer.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
using gguf::Element;
using gguf::Metadata;
using Json = nlohmann::json;

constexpr int kEmbed = 32, kFfn = 64, kHeadDim = 8, kRows = 300;

std::vector<float> random_values(std::size_t count, std::uint32_t index) {
  RandomStream random(3, Purpose::test, 1, index);
  std::vector<float> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(random.normal()));
  return values;
}

/// A llama of two blocks, four heads over two KV heads, as llama.cpp's converters write it.
Metadata llama_metadata() {
  Metadata metadata{{"general.architecture", std::string("llama")},      {"llama.block_count", std::uint32_t{2}},
                    {"llama.context_length", std::uint32_t{24}},         {"llama.embedding_length", std::uint32_t{kEmbed}},
                    {"llama.feed_forward_length", std::uint32_t{kFfn}},  {"llama.attention.head_count", std::uint32_t{4}},
                    {"llama.attention.head_count_kv", std::uint32_t{2}}, {"llama.rope.freq_base", 5000.0f},
                    {"llama.attention.layer_norm_rms_epsilon", 1e-5f}};
  std::vector<std::string> tokens, merges{"a n", "an d", "Ġ a"};
  for (int byte = 0; byte < 256; ++byte) tokens.push_back(byte_character(byte));
  for (const char* token : {"an", "and", "Ġa", "<|endoftext|>", "<tool>"}) tokens.emplace_back(token);
  std::vector<std::int32_t> types(tokens.size(), 1);
  types[259] = 3, types[260] = 4;
  for (std::size_t i = tokens.size(); i < kRows; ++i) tokens.push_back("[PAD" + std::to_string(i) + "]"), types.push_back(5);
  metadata.emplace_back("tokenizer.ggml.model", std::string("gpt2"));
  metadata.emplace_back("tokenizer.ggml.pre", std::string("smollm"));
  metadata.emplace_back("tokenizer.ggml.tokens", tokens);
  metadata.emplace_back("tokenizer.ggml.token_type", types);
  metadata.emplace_back("tokenizer.ggml.merges", merges);
  metadata.emplace_back("tokenizer.ggml.bos_token_id", std::uint32_t{259});
  metadata.emplace_back("tokenizer.ggml.add_bos_token", true);
  return metadata;
}

std::vector<gguf::Tensor> llama_tensors(Element element = Element::f32) {
  std::vector<gguf::Tensor> list;
  const auto add = [&](const std::string& name, std::vector<std::int64_t> shape) {
    std::size_t count = 1;
    for (const std::int64_t size : shape) count *= static_cast<std::size_t>(size);
    const auto index = static_cast<std::uint32_t>(list.size());
    const Element kept = shape.size() == 1 ? Element::f32 : element;
    list.push_back({name, kept, std::move(shape), [count, index] { return random_values(count, index); }});
  };
  add("token_embd.weight", {kRows, kEmbed});
  for (const std::string block : {"blk.0.", "blk.1."}) {
    add(block + "attn_norm.weight", {kEmbed});
    add(block + "ffn_norm.weight", {kEmbed});
    for (const char* name : {"attn_q.weight", "attn_output.weight"}) add(block + name, {kEmbed, kEmbed});
    for (const char* name : {"attn_k.weight", "attn_v.weight"}) add(block + name, {kEmbed / 2, kEmbed});
    for (const char* name : {"ffn_gate.weight", "ffn_up.weight"}) add(block + name, {kFfn, kEmbed});
    add(block + "ffn_down.weight", {kEmbed, kFfn});
  }
  add("output_norm.weight", {kEmbed});
  return list;
}

template <class T>
void set(Metadata& metadata, const std::string& key, T value) {
  for (auto& [name, held] : metadata)
    if (name == key) {
      held = std::move(value);
      return;
    }
  metadata.emplace_back(key, std::move(value));
}

std::string refusal(const std::string& path) {
  const std::string line = check_input_error([&] { load_model(path); });
  CHECK(line.find(path) == 0);
  return line;
}

}  // namespace

TEST_CASE("a llama of others has its weights where ours stand", "[formats][gguf][import]") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.gguf";
  gguf::write(path, llama_metadata(), llama_tensors());
  const DenseModel model = load_model(path);
  CHECK(format(model.subnet) == "e32:2xh4k2f64");
  CHECK(model.model.head_dim == kHeadDim);
  CHECK(model.model.vocabulary == kRows);
  CHECK(model.model.rope_theta == 5000);
  CHECK(model.model.tied);
  CHECK_FALSE(model.model.biases);
  CHECK(load_model(path, 5).model.context == 5);
  CHECK_THROWS_WITH(load_model(path, 25), Contains("1 to 24"));
  const gguf::Reader file(path);
  const std::vector<float> key = file.floats("blk.1.attn_k.weight"), value = file.floats("blk.1.attn_v.weight");
  const ConstView ours = model.weights.view("block.1.attention.key"), values = model.weights.view("block.1.attention.value");
  for (int head = 0; head < 2; ++head)
    for (int i = 0; i < kHeadDim; ++i)  // llama.cpp rotates neighbours, we rotate halves; values are not rotated
      for (int in = 0; in < kEmbed; ++in) {
        const int there = head * kHeadDim + (i < kHeadDim / 2 ? 2 * i : 2 * i - kHeadDim + 1), here = head * kHeadDim + i;
        CHECK(ours.row<float>(in)[here] == key[static_cast<std::size_t>(there * kEmbed + in)]);
        CHECK(values.row<float>(in)[here] == value[static_cast<std::size_t>(here * kEmbed + in)]);
      }
}

TEST_CASE("biases of a GGUF that has some of them are 0 elsewhere", "[formats][gguf][import]") {
  const TemporaryFolder folder;
  std::vector<gguf::Tensor> tensors = llama_tensors();
  tensors.push_back({"blk.0.attn_q.bias", Element::f32, {kEmbed}, [] { return random_values(kEmbed, 99); }});
  gguf::write(folder / "model.gguf", llama_metadata(), tensors);
  const DenseModel model = load_model(folder / "model.gguf");
  REQUIRE(model.model.biases);
  CHECK(model.weights.view("block.0.attention.query.bias").row<float>(0)[1] == random_values(kEmbed, 99)[2]);
  CHECK(model.weights.view("block.1.attention.query.bias").row<float>(0)[1] == 0);
}

TEST_CASE("half precision and blocks of 8 bits of others are read", "[formats][gguf][import]") {
  const auto [element, step] = GENERATE(table<Element, double>({{Element::f16, 0x1p-10}, {Element::bf16, 0x1p-7}, {Element::q8_0, 0.05}}));
  const TemporaryFolder folder;
  gguf::write(folder / "exact.gguf", llama_metadata(), llama_tensors());
  gguf::write(folder / "model.gguf", llama_metadata(), llama_tensors(element));
  const DenseModel exact = load_model(folder / "exact.gguf"), model = load_model(folder / "model.gguf");
  const ConstView a = exact.weights.view("block.1.ffn.down"), b = model.weights.view("block.1.ffn.down");
  for (int row = 0; row < kFfn; ++row)
    for (int column = 0; column < kEmbed; ++column) CHECK(std::abs(a.row<float>(row)[column] - b.row<float>(row)[column]) <= 4 * step);
}

TEST_CASE("a GGUF's vocabulary is a tokenizer.json, and back", "[formats][gguf][import][tokenizers]") {
  const TemporaryFolder folder;
  gguf::write(folder / "model.gguf", llama_metadata(), llama_tensors());
  const std::string json = load_model(folder / "model.gguf").tokenizer;
  const Tokenizer tokenizer = Tokenizer::parse(json, "test");
  CHECK(tokenizer.vocabulary() == 261);
  CHECK(tokenizer.prefix() == std::vector<std::int32_t>{259});
  CHECK(tokenizer.text_of(257) == "and");
  if (Pattern::available()) CHECK(tokenizer.encode("and a7<tool><|endoftext|>") == std::vector<std::int32_t>{257, 258, '7', 260, 259});

  CHECK(gguf::why_not_tokenizer(json, kRows, std::nullopt).empty());
  Metadata metadata = llama_metadata();
  metadata.resize(9);
  gguf::add_vocabulary(metadata, json, std::nullopt, kRows);
  gguf::write(folder / "again.gguf", metadata, llama_tensors());
  CHECK(load_model(folder / "again.gguf").tokenizer == json);
  const gguf::Reader again(folder / "again.gguf");
  CHECK(again.integer("tokenizer.ggml.eos_token_id") == 259);
  CHECK(again.texts("tokenizer.ggml.tokens")[299] == "[PAD299]");
  CHECK(again.integers("tokenizer.ggml.token_type", kRows)[299] == 5);
}

TEST_CASE("an export with another tokenizer than the run's is refused", "[formats][gguf][export][tokenizers]") {
  const TemporaryFolder folder;
  gguf::write(folder / "model.gguf", llama_metadata(), llama_tensors());
  const DenseModel model = load_model(folder / "model.gguf");
  const std::vector<std::int32_t> tokens{257, 258, 7, 260};
  static const auto changed = [](const ModelCard& card, auto change) {
    ModelCard wrong = card;
    Json json = Json::parse(card.tokenizer);
    change(json);
    wrong.tokenizer = json.dump();
    return wrong;
  };
  struct Row {
    const char* says;
    void (*write)(const DenseModel&, const ModelCard&, const std::string&);
  };
  const auto row =
      GENERATE(values<Row>({{"another text for id 257",
                             [](const auto& m, const auto& card, const auto& path) {
                               gguf::write_deci(m,
                                                changed(card,
                                                        [](Json& json) {
                                                          auto& vocabulary = json["model"]["vocab"];
                                                          vocabulary.erase("and"), vocabulary["ant"] = 257;
                                                          json["model"]["merges"] = {"a n", "an t", "Ġ a"};
                                                        }),
                                                path, Element::f32);
                             }},
                            {"other ids before a text", [](const auto& m, const auto& card, const auto& path) {
                               gguf::write_deci(m, changed(card, [](Json& json) { json["post_processor"] = nullptr; }), path, Element::f32);
                             }}}));
  CAPTURE(row.says);
  ModelCard card;
  card.tokenizer = model.tokenizer;
  Format planted = find_format("gguf");
  CHECK(export_model(planted, model.weights, model.subnet, card, tokens, folder / "right.gguf") < kExportTolerance);
  planted.write = row.write;
  CHECK_THROWS_WITH(export_model(planted, model.weights, model.subnet, card, tokens, folder / "wrong.gguf"),
                    Contains(row.says) && Contains("nothing was written"));
  CHECK_FALSE(std::filesystem::exists(folder / "wrong.gguf"));
}

TEST_CASE("the end token of a GGUF comes along, and one is found where nothing says which", "[formats][gguf][tokenizers]") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.gguf";
  Metadata metadata = llama_metadata();
  metadata.emplace_back("tokenizer.ggml.eos_token_id", std::uint32_t{257});
  gguf::write(path, metadata, llama_tensors());
  const DenseModel model = load_model(path);
  CHECK(model.end_token == 257);
  const auto end_of = [&](const std::string& json, std::optional<int> known, int rows) {
    Metadata written;
    gguf::add_vocabulary(written, json, known, rows);
    for (const auto& [key, value] : written)
      if (key == "tokenizer.ggml.eos_token_id") return static_cast<int>(std::get<std::uint32_t>(value));
    return -1;
  };
  CHECK(end_of(model.tokenizer, model.end_token, kRows) == 257);
  CHECK(end_of(model.tokenizer, std::nullopt, kRows) == 259);  // <|endoftext|>
  Json plain = Json::parse(model.tokenizer);
  plain["added_tokens"] = Json::array();
  plain["post_processor"] = nullptr;
  CHECK(end_of(plain.dump(), std::nullopt, kRows) == 259);  // an id that stands for nothing
  CHECK_THAT(gguf::why_not_tokenizer(plain.dump(), 259, std::nullopt), Contains("must have an end token"));
  CHECK(gguf::why_not_tokenizer(plain.dump(), 259, 5).empty());
}

TEST_CASE("texts of unused ids are no token's", "[formats][gguf][tokenizers]") {
  const TemporaryFolder folder;
  gguf::write(folder / "model.gguf", llama_metadata(), llama_tensors());
  Json json = Json::parse(load_model(folder / "model.gguf").tokenizer);
  json["added_tokens"].back()["content"] = "[PAD299]";
  Metadata written;
  gguf::add_vocabulary(written, json.dump(), std::nullopt, kRows);
  std::vector<std::string> texts = std::get<std::vector<std::string>>(written[2].second);
  std::sort(texts.begin(), texts.end());
  CHECK(std::adjacent_find(texts.begin(), texts.end()) == texts.end());
}

TEST_CASE("what puts a token first where a file does not say is the pre-tokenizer", "[formats][gguf][tokenizers]") {
  const TemporaryFolder folder;
  for (const auto& [pre, begins] : {std::pair{"llama-bpe", true}, std::pair{"smollm", false}}) {
    Metadata metadata = llama_metadata();
    REQUIRE(metadata.back().first == "tokenizer.ggml.add_bos_token");
    metadata.pop_back();
    set(metadata, "tokenizer.ggml.pre", std::string(pre));
    gguf::write(folder / "model.gguf", metadata, llama_tensors());
    CHECK(Tokenizer::parse(load_model(folder / "model.gguf").tokenizer, "test").prefix().size() == (begins ? 1 : 0));
  }
}

TEST_CASE("a pipe is no model, and nobody waits for it", "[formats][import][hostile]") {
  const TemporaryFolder folder;
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK_THAT(refusal(folder / "pipe"), Contains("a folder with config.json or a file"));
}

TEST_CASE("what rows grow by in memory is bounded by the file", "[formats][import][hostile]") {
  ModelConfig model = preset_model("llama");
  const WeightTable narrow(SearchSpace::of(model, {.embed = 1 << 16, .blocks = {{1, 1, 1}}, .kept = {}}));
  const auto bytes = static_cast<std::uint64_t>(narrow.elements()) * sizeof(float);
  CHECK_NOTHROW(check_stored_sizes(narrow, bytes / 16, "file"));
  CHECK_THROWS_WITH(check_stored_sizes(narrow, bytes / 17, "file"), Contains("16 times"));
}

TEST_CASE("pre-tokenizers have llama.cpp's names or no place", "[formats][gguf][tokenizers]") {
  const TemporaryFolder folder;
  for (const char* name : {"gpt-2", "smollm", "llama-bpe"}) {
    CAPTURE(name);
    Metadata metadata = llama_metadata();
    set(metadata, "tokenizer.ggml.pre", std::string(name));
    gguf::write(folder / "model.gguf", metadata, llama_tensors());
    const std::string json = load_model(folder / "model.gguf").tokenizer;
    Metadata written;
    gguf::add_vocabulary(written, json, std::nullopt, kRows);
    CHECK(std::get<std::string>(written[1].second) == name);
    Json other = Json::parse(json);
    other["model"]["ignore_merges"] = !other["model"]["ignore_merges"].get<bool>();  // llama.cpp ties it to the name
    CHECK_THAT(gguf::why_not_tokenizer(other.dump(), kRows, std::nullopt), Contains("gpt-2, smollm, llama-bpe"));
  }
  // One that is not known here is left to --tokenizer.
  Metadata metadata = llama_metadata();
  set(metadata, "tokenizer.ggml.pre", std::string("deepseek-llm"));
  gguf::write(folder / "model.gguf", metadata, llama_tensors());
  CHECK(load_model(folder / "model.gguf").tokenizer.empty());
}

TEST_CASE("GGUF: what has no place is named", "[formats][gguf][import][hostile]") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.gguf";
  const auto with = [&](const std::string& key, gguf::Value value) {
    Metadata metadata = llama_metadata();
    set(metadata, key, std::move(value));
    gguf::write(path, metadata, llama_tensors());
    const std::string line = refusal(path);
    std::filesystem::remove(path);
    return line;
  };
  CHECK_THAT(with("general.architecture", std::string("mamba")), Contains("llama or deci") && Contains("'mamba'"));
  CHECK_THAT(with("llama.rope.scaling.type", std::string("yarn")), Contains("llama.rope.scaling.type"));
  CHECK_THAT(with("llama.rope.scaling.factor", -4.0f), Contains("llama.rope.scaling.factor"));
  CHECK_THAT(with("llama.rope.scaling.attn_factor", 1.5f), Contains("llama.rope.scaling.attn_factor"));
  CHECK_THAT(with("llama.rope.scaling.alpha", 2.0f), Contains("llama.rope.scaling.alpha"));
  CHECK_THAT(with("llama.expert_count", std::uint32_t{8}), Contains("llama.expert_count"));
  CHECK_THAT(with("llama.attention.sliding_window", std::uint32_t{8}), Contains("sliding_window"));
  CHECK_THAT(with("llama.rope.dimension_count", std::uint32_t{4}), Contains("rope.dimension_count"));
  CHECK_THAT(with("llama.attention.key_length", std::uint32_t{16}), Contains("attn_q"));
  CHECK_THAT(with("llama.attention.head_count", std::uint32_t{3}), Contains("multiple of KV heads"));
  CHECK_THAT(with("llama.attention.head_count_kv", std::uint32_t{3}), Contains("multiple of KV heads"));
  CHECK_THAT(with("llama.vocab_size", std::uint32_t{301}), Contains("tokenizer.ggml.tokens"));
  CHECK_THAT(with("llama.block_count", std::uint32_t{1}), Contains("'blk.N.attn_k.weight'") && Contains("without a place"));
  CHECK_THAT(with("llama.block_count", std::uint32_t{3}), Contains("blk.2"));
  CHECK_THAT(with("llama.context_length", std::string("x")), Contains("context_length"));
  CHECK_THAT(with("tokenizer.ggml.token_type", std::vector<std::int32_t>(kRows, 6)), Contains("token_type"));
  CHECK_THAT(with("tokenizer.ggml.token_type", std::vector<std::int32_t>(7, 1)), Contains("token_type"));
  CHECK_THAT(with("tokenizer.ggml.tokens", std::vector<std::string>(kRows, "a")), Contains("every token once"));
  CHECK_THAT(with("tokenizer.ggml.tokens", std::vector<std::string>(256, "a")), Contains("of 256 ids one a byte") || Contains("256"));
  CHECK_THAT(with("tokenizer.ggml.merges", std::uint32_t{1}), Contains("merges"));
  CHECK_THAT(with("tokenizer.ggml.bos_token_id", std::uint32_t{999}), Contains("bos_token_id"));
  CHECK_THAT(with("tokenizer.ggml.add_bos_token", std::uint32_t{1}), Contains("add_bos_token"));
  Metadata metadata = llama_metadata();
  std::vector<std::string> tokens = std::get<std::vector<std::string>>(metadata[11].second);
  tokens[0] = "\xFF";
  CHECK_THAT(with("tokenizer.ggml.tokens", tokens), Contains("UTF-8"));

  std::vector<gguf::Tensor> tensors = llama_tensors();
  tensors.push_back({"blk.1.attn_q_norm.weight", Element::f32, {kHeadDim}, [] { return random_values(kHeadDim, 7); }});
  gguf::write(path, llama_metadata(), tensors);
  CHECK_THAT(refusal(path), Contains("'blk.N.attn_q_norm.weight'"));
}

TEST_CASE("a GGUF's linear scaling is said by its factor, Llama 3's by a tensor", "[formats][gguf][import]") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.gguf";
  Metadata metadata = llama_metadata();
  set(metadata, "llama.rope.scaling.factor", 4.0f);
  gguf::write(path, metadata, llama_tensors());
  CHECK(load_model(path).model.rope_scaling == RopeScaling{.kind = RopeStretch::linear, .factor = 4});
  set(metadata, "llama.rope.scale_linear", 2.0f);  // read only where the newer key is absent
  set(metadata, "llama.rope.scaling.factor", 1.0f);
  gguf::write(path, metadata, llama_tensors());
  CHECK(load_model(path).model.rope_scaling == RopeScaling{});
  set(metadata, "llama.rope.scaling.factor", 4.0f);
  set(metadata, "llama.rope.scaling.type", std::string("none"));
  gguf::write(path, metadata, llama_tensors());
  CHECK(load_model(path).model.rope_scaling == RopeScaling{});

  ModelConfig model;
  model.head_dim = kHeadDim;
  model.rope_theta = 500000;  // of Llama 3: the slowest waves are longer than its first context
  model.rope_scaling = {.kind = RopeStretch::llama3, .factor = 32};
  std::vector<float> divisors;
  for (const double divisor : rotary_divisors(model)) divisors.push_back(static_cast<float>(divisor));
  const auto with = [&](std::vector<float> values, const std::string& key = "llama.rope.freq_base", float number = 500000) {
    std::vector<gguf::Tensor> tensors = llama_tensors();
    const auto count = static_cast<std::int64_t>(values.size());
    tensors.push_back({"rope_freqs.weight", Element::f32, {count}, [values] { return values; }});
    Metadata of_llama3 = llama_metadata();
    set(of_llama3, "llama.rope.freq_base", 500000.0f);
    set(of_llama3, key, number);
    gguf::write(path, of_llama3, tensors);
  };
  with(divisors);
  CHECK(load_model(path).model.rope_scaling == model.rope_scaling);
  with({1, 2, 3, 5});
  CHECK_THAT(refusal(path), Contains("rope_freqs.weight") && Contains("rule of Llama 3"));
  with({1, 1, 1, 1});
  CHECK(load_model(path).model.rope_scaling == RopeScaling{});
  with(divisors, "llama.rope.scaling.factor", 4);
  CHECK_THAT(refusal(path), Contains("rope_freqs.weight") && Contains("linear scaling"));
  for (const float number : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), -1.0f, 1e30f}) {
    with(divisors, "elastiform.rope.original_context_length", number);
    CHECK_THAT(refusal(path), Contains("elastiform.rope.original_context_length"));
  }
  with({1, 1, 1, std::numeric_limits<float>::quiet_NaN()});
  CHECK_THAT(refusal(path), Contains("rope_freqs.weight"));
  with({1, 1, 1});
  CHECK_THAT(refusal(path), Contains("rope_freqs.weight"));
}

}  // namespace elastiform
