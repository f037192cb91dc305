// Exports for ONNX Runtime: tests/consumers has the real one run them; here our interpreter does, which is itself held to numbers.
#include "supernet/formats/onnx.hpp"

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/errors.hpp"
#include "supernet/formats/onnx_tensor.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/temporary_folder.hpp"

using namespace elastiform;
using onnx_folder::Tensor;
namespace fs = std::filesystem;

namespace {

bool built() { return onnx_folder::why_not(preset_model("llama"), parse_subnet("e8:h1f8")).empty(); }

SearchSpace space_of(const char* preset, int queries_per_group, bool tied) {
  ModelConfig model = preset_model(preset);
  model.context = 48;
  model.head_dim = 8;
  model.tied = tied;
  model.queries_per_group = queries_per_group;
  model.branch_scale = 0.4;
  const int q = queries_per_group;
  const SearchSpace::Block block{.heads = {0, q, 2 * q, 3 * q}, .ffn = {.widths = {1, 24, 33}, .ratios = {}}},
      last{.heads = {q, 2 * q}, .ffn = {.widths = {0, 24}, .ratios = {}}};
  return {model, {24, 33}, {1, 2, 3}, {block, block, last}};
}

std::vector<std::int32_t> tokens() {
  std::vector<std::int32_t> ids;
  for (int i = 0; i < 40; ++i) ids.push_back((i * 37 + 11) % 256);
  return ids;
}

}  // namespace

TEST_CASE("an ONNX graph that is run gives the subnet's logits, whatever its blocks are", "[formats][onnx]") {
  if (!built()) {
    WARN("built without ONNX's classes: nothing was checked");
    return;
  }
  struct Row {
    const char* preset;
    int queries;
    bool tied;
    const char* subnet;
  };
  const auto row = GENERATE(values<Row>({{"llama", 1, true, "e24:h1f24,h3f1,h2f0"},
                                         {"llama", 2, false, "e33:h4k2f33,h2k1f1"},
                                         {"llama", 1, true, "e33:h0f24,h1f33,h2f24"},
                                         {"llama", 1, false, "e24:h0f24"},
                                         {"llama", 3, true, "e24:h9k3f24,h3k1f24@0,2"},
                                         {"gpt2", 1, true, "e24:h1f24,h3f33"},
                                         {"gpt2", 2, false, "e33:h4k2f33,h0f1,h4k2f0"}}));
  CAPTURE(row.preset, row.subnet);
  const TemporaryFolder folder;
  const SearchSpace space = space_of(row.preset, row.queries, row.tied);
  const Weights weights = random_weights(space, DType::float32, 4);
  const Subnet subnet = parse_subnet(row.subnet);
  CHECK(export_model(find_format("onnx"), weights, subnet, ModelCard{}, tokens(), folder / "model") < kExportTolerance);
  CHECK(fs::exists(folder / "model/tokenizer.json"));
  CHECK_THROWS_AS(load_model(folder / "model"), InputError);  // a program, not a model
}

TEST_CASE("weights above the limit stand in a file of their own, at whole pages", "[formats][onnx]") {
  if (!built()) {
    WARN("built without ONNX's classes: nothing was checked");
    return;
  }
  const TemporaryFolder folder;
  const SearchSpace space = space_of("llama", 1, false);
  const Weights weights = random_weights(space, DType::float32, 4);
  const Subnet subnet = parse_subnet("e24:h1f24,h3f33");
  Format apart = find_format("onnx");
  apart.write = [](const DenseModel& model, const ModelCard& card, const std::string& path) {
    onnx_folder::write(model, card, path, 1 << 10);
  };
  CHECK(export_model(apart, weights, subnet, ModelCard{}, tokens(), folder / "apart") < kExportTolerance);
  export_model(find_format("onnx"), weights, subnet, ModelCard{}, tokens(), folder / "inside");
  CHECK(fs::file_size(folder / "apart/model.onnx.data") % 4096 == 0);
  CHECK_FALSE(fs::exists(folder / "inside/model.onnx.data"));
  CHECK(fs::file_size(folder / "apart/model.onnx") < fs::file_size(folder / "inside/model.onnx"));

  const auto config = nlohmann::json::parse(content_of(folder / "inside/genai_config.json"));
  CHECK(config["model"]["decoder"]["num_hidden_layers"] == 2);
  CHECK(config["model"]["decoder"]["head_size"] == 8);
  CHECK(config["search"]["past_present_share_buffer"] == false);

  fs::resize_file(folder / "apart/model.onnx.data", 4096);
  CHECK_THROWS_WITH(onnx_folder::run(folder / "apart", tokens()), Catch::Contains("beyond the end"));
}

TEST_CASE("an ONNX graph with a wrong weight is refused and leaves nothing", "[formats][onnx]") {
  if (!built()) {
    WARN("built without ONNX's classes: nothing was checked");
    return;
  }
  const TemporaryFolder folder;
  const SearchSpace space = space_of("llama", 1, true);
  Format planted = find_format("onnx");
  planted.write = [](const DenseModel& model, const ModelCard& card, const std::string& path) {
    DenseModel wrong{model.model, model.subnet, extract(model.weights, model.subnet)};
    wrong.weights.view("block.1.attention.key").row<float>(2)[3] += 0.5f;
    onnx_folder::write(wrong, card, path);
  };
  CHECK_THROWS_WITH(export_model(planted, random_weights(space, DType::float32, 4), parse_subnet("e24:h1f24,h3f33"), ModelCard{}, tokens(),
                                 folder / "model"),
                    Catch::Contains("nothing was written"));
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("an ONNX graph with a wrong row that no token reads is refused", "[formats][onnx][export]") {
  if (!built()) {
    WARN("built without ONNX's classes: nothing was checked");
    return;
  }
  const TemporaryFolder folder;
  const SearchSpace space = space_of("llama", 1, false);
  Format planted = find_format("onnx");
  planted.write = [](const DenseModel& model, const ModelCard& card, const std::string& path) {
    DenseModel wrong{model.model, model.subnet, extract(model.weights, model.subnet)};
    wrong.weights.view("embedding.token").row<float>(0)[3] += 0.5f;  // id 0 is none of the tokens
    onnx_folder::write(wrong, card, path);
  };
  const Weights weights = random_weights(space, DType::float32, 4);
  CHECK_THROWS_WITH(export_model(planted, weights, parse_subnet("e24:h1f24,h3f33"), ModelCard{}, tokens(), folder / "model"),
                    Catch::Contains("embedding.token") && Catch::Contains("nothing was written"));
  CHECK(fs::is_empty(folder.path()));

  ModelCard card;
  card.end_token = 7;
  export_model(find_format("onnx"), weights, parse_subnet("e24:h1f24,h3f33"), card, tokens(), folder / "model");
  CHECK(nlohmann::json::parse(content_of(folder / "model/genai_config.json"))["model"]["eos_token_id"] == 7);
}

TEST_CASE("an ONNX graph with rotary tables of another base is refused, however near", "[formats][onnx][export]") {
  if (!built()) {
    WARN("built without ONNX's classes: nothing was checked");
    return;
  }
  const TemporaryFolder folder;
  Format planted = find_format("onnx");
  planted.write = [](const DenseModel& model, const ModelCard& card, const std::string& path) {
    DenseModel wrong{model.model, model.subnet, extract(model.weights, model.subnet)};
    wrong.model.rope_theta *= 1 + 1e-6;  // no logit tells
    onnx_folder::write(wrong, card, path);
  };
  CHECK_THROWS_WITH(export_model(planted, random_weights(space_of("llama", 1, true), DType::float32, 4), parse_subnet("e24:h1f24,h3f33"),
                                 ModelCard{}, tokens(), folder / "model"),
                    Catch::Contains("rotary.cos") && Catch::Contains("nothing was written"));
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("the interpreter's operators do what ONNX's list says", "[formats][onnx]") {
  const Tensor a = Tensor::of({2, 3}, std::vector<float>{1, 2, 3, 4, 5, 6});
  const auto add = [](float x, float y) { return x + y; };
  CHECK(onnx_folder::combined(a, Tensor::of({3}, std::vector<float>{10, 20, 30}), add).floats ==
        std::vector<float>{11, 22, 33, 14, 25, 36});
  CHECK(onnx_folder::combined(a, Tensor::of({2, 1}, std::vector<float>{10, 20}), add).floats == std::vector<float>{11, 12, 13, 24, 25, 26});
  CHECK(onnx_folder::combined(Tensor::of({2, 1}, std::vector<float>{1, 2}), Tensor::of({1, 2}, std::vector<float>{10, 20}), add).floats ==
        std::vector<float>{11, 21, 12, 22});
  CHECK(onnx_folder::product(a, Tensor::of({3, 1}, std::vector<float>{1, 10, 100})).floats == std::vector<float>{321, 654});
  const Tensor batch =
      onnx_folder::product(Tensor::of({2, 1, 2}, std::vector<float>{1, 2, 3, 4}), Tensor::of({1, 2, 1}, std::vector<float>{1, 10}));
  CHECK(batch.shape == std::vector<std::int64_t>{2, 1, 1});
  CHECK(batch.floats == std::vector<float>{21, 43});
  CHECK(onnx_folder::transposed(a, {1, 0}).floats == std::vector<float>{1, 4, 2, 5, 3, 6});
  CHECK(onnx_folder::reshaped(a, {3, -1}).shape == std::vector<std::int64_t>{3, 2});
  CHECK(onnx_folder::reshaped(a, {0, 3, 1}).shape == std::vector<std::int64_t>{2, 3, 1});
  CHECK(onnx_folder::unsqueezed(a, {1, 3}).shape == std::vector<std::int64_t>{2, 1, 3, 1});
  CHECK(onnx_folder::joined(a, a, -1).floats == std::vector<float>{1, 2, 3, 1, 2, 3, 4, 5, 6, 4, 5, 6});
  CHECK(onnx_folder::joined(a, a, 0).shape == std::vector<std::int64_t>{4, 3});
  const auto parts = onnx_folder::split(a, {1, 2}, -1);
  CHECK(parts.at(0).floats == std::vector<float>{1, 4});
  CHECK(parts.at(1).floats == std::vector<float>{2, 3, 5, 6});
  CHECK(onnx_folder::gathered(a, Tensor::of({2, 1}, std::vector<std::int64_t>{1, 0})).floats == std::vector<float>{4, 5, 6, 1, 2, 3});
  CHECK(
      onnx_folder::gathered(Tensor::of({2}, std::vector<std::int64_t>{7, 9}), Tensor::of({}, std::vector<std::int64_t>{1})).shape.empty());
  CHECK(onnx_folder::mean_of(a, -1).floats == std::vector<float>{2, 5});
  CHECK(onnx_folder::softmax_of_last(Tensor::of({1, 2}, std::vector<float>{0, std::log(3.0f)})).floats[1] == Approx(0.75));
  const Tensor gain = Tensor::of({2}, std::vector<float>{1, 2}), bias = Tensor::of({2}, std::vector<float>{0, 1});
  const Tensor normed = onnx_folder::layer_norm(Tensor::of({1, 2}, std::vector<float>{1, 3}), gain, &bias, 0);
  CHECK(normed.floats[0] == Approx(-1));
  CHECK(normed.floats[1] == Approx(3));
  CHECK(onnx_folder::chosen(Tensor::of({2}, std::vector<std::int64_t>{1, 0}), Tensor::of({}, std::vector<float>{5}),
                            Tensor::of({}, std::vector<float>{6}))
            .floats == std::vector<float>{5, 6});
  CHECK_THROWS_AS(onnx_folder::product(a, a), std::runtime_error);
  CHECK_THROWS_AS(onnx_folder::reshaped(a, {4, 2}), std::runtime_error);
  CHECK_THROWS_AS(onnx_folder::gathered(a, Tensor::of({1}, std::vector<std::int64_t>{2})), std::runtime_error);
}
