// Classifiers of images as files: our own, ONNX and Hugging Face's. tests/consumers has the real programs load them.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/errors.hpp"
#include "supernet/data/image_data.hpp"
#include "supernet/formats/format.hpp"
#include "supernet/formats/hugging_face.hpp"
#include "supernet/formats/hugging_face_images.hpp"
#include "supernet/formats/onnx.hpp"
#include "supernet/formats/onnx_tensor.hpp"
#include "supernet/formats/padding.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/temporary_folder.hpp"

using namespace elastiform;
using Catch::Contains;
namespace fs = std::filesystem;

namespace {

/// 6 x 8 pixels of 2 channels in patches of 2: nothing is square, and channels are not of one number.
SearchSpace space_of(Readout readout = Readout::class_token, int queries_per_group = 1, bool distillation = false) {
  ModelConfig model = preset_model("vit");
  model.image = {6, 8, 2, 2};
  model.readout = readout;
  model.distillation_token = distillation;
  model.context = model.tokens_of_image();
  model.vocabulary = 5;
  model.head_dim = 8;
  model.queries_per_group = queries_per_group;
  model.branch_scale = 0.4;
  const int q = queries_per_group;
  const SearchSpace::Block block{.heads = {0, q, 2 * q, 3 * q, 4 * q}, .ffn = {.widths = {1, 24, 33}, .ratios = {}}},
      last{.heads = {q, 2 * q, 4 * q}, .ffn = {.widths = {0, 24}, .ratios = {}}};
  return {model, {32, 33}, {1, 2, 3}, {block, block, last}};
}

ModelCard card() {
  ModelCard card;
  card.subnet = "e32:2xh4f24";
  card.quality = {{"search", 0.5, 0.01, 0, 48, 0.875}, {"report", 0.6, 0.02, 0, 40, 0.85}};
  card.reading.white = 16;
  card.reading.mean = {0.25, 0.5};
  card.reading.deviation = {0.3, 0.4};
  card.class_names = {"ant", "bee", "cat", "dog", "\"eel\" \\ ü"};
  return card;
}

Sample sample_of(const SearchSpace& space, int images = 6) { return {random_batch(space, images, 0, 3), space.model().image}; }

bool built(const Format& format) {
  return format.name != "onnx" || onnx_folder::why_not(space_of().model(), space_of().smallest()).empty();
}

}  // namespace

TEST_CASE("a classifier read back, or run from its file, gives the logits of the subnet inside the supernet", "[formats][export][vision]") {
  struct Row {
    const char *format, *subnet;
    Readout readout;
    int queries;
    bool distillation;
  };
  constexpr auto token = Readout::class_token, mean = Readout::mean;
  const auto row = GENERATE(values<Row>({{"elastiform", "e33:h3f24,h0f1", token, 1, false},
                                         {"elastiform", "e32:h4k2f24,h2k1f33,h8k4f0@0,1,2", mean, 2, false},
                                         {"elastiform", "e32:h2f24,h1f33", token, 1, true},
                                         {"onnx", "e33:h3f24,h0f1,h1f0", token, 1, false},
                                         {"onnx", "e32:h4k2f24,h2k1f33", mean, 2, false},
                                         {"onnx", "e32:h2f24,h1f24@0,2", token, 1, true},
                                         {"hf-vit", "e32:2xh4f24", token, 1, false},
                                         {"hf-vit", "e32:3xh4f24", token, 1, true}}));
  const Format& format = find_format(row.format);
  if (!built(format)) {
    WARN("built without ONNX's classes: nothing was checked");
    return;
  }
  CAPTURE(row.format, row.subnet);
  const TemporaryFolder folder;
  const SearchSpace space = space_of(row.readout, row.queries, row.distillation);
  const Weights weights = random_weights(space, DType::float32, 4);
  const Subnet subnet = parse_subnet(row.subnet);
  const std::string path = folder / "model";
  CHECK(export_model(format, weights, subnet, card(), sample_of(space), path) < kExportTolerance);
  CHECK(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()) == 1);
  if (format.read == nullptr) return;

  const DenseModel model = load_model(path);
  CHECK(model.subnet.blocks == subnet.blocks);
  CHECK(model.model.image == space.model().image);
  CHECK(model.model.distillation_token == row.distillation);
  CHECK(model.reading.white == (row.format == std::string("elastiform") ? 16 : 255));  // of files of numbers
  CHECK(model.reading.mean == std::vector<double>{0.25, 0.5});
  CHECK(model.reading.deviation == std::vector<double>{0.3, 0.4});
  CHECK(model.class_names == card().class_names);
  export_model(format, model.weights, model.subnet, card(), sample_of(space), folder / "again");
  const DenseModel again = load_model(folder / "again");
  CHECK(again.weights.table().space() == model.weights.table().space());
  CHECK(same_values(again.weights, model.weights));
  CHECK_THROWS_WITH(load_model(path, 4), Contains("an image has as many tokens as its model says"));
}

TEST_CASE("blocks that differ become alike among zeros, without a change of logits", "[formats][export][vision]") {
  const TemporaryFolder folder;
  const SearchSpace space = space_of(Readout::class_token, GENERATE(1, 2));
  const Weights weights = random_weights(space, DType::float32, 4);
  const Subnet subnet = parse_subnet(space.model().queries_per_group == 1 ? "e32:h1f24,h0f33,h2f0" : "e32:h4k2f24,h2k1f1");
  CHECK(export_model(find_format("hf-vit"), weights, subnet, card(), sample_of(space), folder / "model", {.pad = true}) < kExportTolerance);
  CHECK(load_model(folder / "model").subnet == padded_vit(space.model(), subnet).subnet);
}

TEST_CASE("what a format cannot express of a classifier is refused with the reason", "[formats][export][vision]") {
  struct Row {
    const char *format, *subnet;
    Readout readout;
    const char* reason;
  };
  const auto row = GENERATE(values<Row>({{"hf-llama", "e32:2xh4f24", Readout::class_token, "classifier of images"},
                                         {"hf-gpt2", "e32:2xh4f24", Readout::class_token, "classifier of images"},
                                         {"hf-auto", "e32:2xh4f24", Readout::class_token, "classifier of images"},
                                         {"gguf", "e32:2xh4f24", Readout::class_token, "classifier of images"},
                                         {"hf-vit", "e32:2xh4f24", Readout::mean, "mean of the tokens"},
                                         {"hf-vit", "e32:h4f24,h4f33", Readout::class_token, "differs from block 0"},
                                         {"hf-vit", "e32:2xh2f24", Readout::class_token, "2 heads of 8 are not embed 32"}}));
  CAPTURE(row.format, row.subnet);
  const SearchSpace space = space_of(row.readout);
  CHECK_THROWS_WITH(check_export(find_format(row.format), space, parse_subnet(row.subnet), "nowhere"), Contains(row.reason));
  ModelConfig many = space_of().model();
  many.vocabulary = 65536;
  CHECK(find_format("hf-vit").why_not(many, parse_subnet("e32:2xh4f24")).empty());
  ++many.vocabulary;
  CHECK(find_format("hf-vit").why_not(many, parse_subnet("e32:2xh4f24")).find("65537 classes") != std::string::npos);
  CHECK(find_format("hf-vit").why_not(preset_model("gpt2"), parse_subnet("e32:2xh4f24")).find("language model") != std::string::npos);
}

TEST_CASE("a classifier's file with a wrong weight or normalisation is refused and leaves nothing", "[formats][export][vision]") {
  const auto* const name = GENERATE("elastiform", "onnx", "hf-vit");
  Format planted = find_format(name);
  if (!built(planted)) {
    WARN("built without ONNX's classes: nothing was checked");
    return;
  }
  CAPTURE(name);
  const TemporaryFolder folder;
  const SearchSpace space = space_of();
  const Weights weights = random_weights(space, DType::float32, 4);
  const Subnet subnet = parse_subnet("e32:2xh4f24");
  static void (*write)(const DenseModel&, const ModelCard&, const std::string&);
  write = planted.write;
  planted.write = [](const DenseModel& model, const ModelCard& card, const std::string& path) {
    DenseModel wrong{model.model, model.subnet, extract(model.weights, model.subnet)};
    wrong.weights.view("embedding.patch").row<float>(2)[3] += 0.5f;
    write(wrong, card, path);
  };
  CHECK_THROWS_WITH(export_model(planted, weights, subnet, card(), sample_of(space), folder / "model"), Contains("nothing was written"));
  planted.write = [](const DenseModel& model, const ModelCard& card, const std::string& path) {
    ModelCard wrong = card;
    wrong.reading.deviation.back() *= 1.001;
    write(model, wrong, path);
  };
  CHECK_THROWS_WITH(export_model(planted, weights, subnet, card(), sample_of(space), folder / "model"), Contains("normalisation"));
  planted.write = [](const DenseModel& model, const ModelCard& card, const std::string& path) {
    ModelCard wrong = card;
    std::swap(wrong.class_names[0], wrong.class_names[1]);
    write(model, wrong, path);
  };
  CHECK_THROWS_WITH(export_model(planted, weights, subnet, card(), sample_of(space), folder / "model"), Contains("names of classes"));
  CHECK(fs::is_empty(folder.path()));
}

TEST_CASE("a config.json with the names of very many classes is read", "[formats][import][vision]") {
  const TemporaryFolder folder;
  const SearchSpace space = space_of();
  export_model(find_format("hf-vit"), random_weights(space, DType::float32, 4), parse_subnet("e32:2xh4f24"), card(), sample_of(space),
               folder / "model");
  auto config = nlohmann::json::parse(content_of(folder / "model/config.json"));
  config["_about"] = std::string(3 << 20, 'x');  // as long as some 40,000 names
  folder.write("model/config.json", config.dump());
  CHECK(load_model(folder / "model").class_names == card().class_names);
}

TEST_CASE("names of classes are printable lines, or nothing is written", "[formats][export][vision]") {
  const TemporaryFolder folder;
  const SearchSpace space = space_of();
  const Weights weights = random_weights(space, DType::float32, 4);
  const std::string format = GENERATE("elastiform", "hf-vit");
  const auto exported = [&](const std::string& name) {
    ModelCard named = card();
    named.class_names[1] = name;
    export_model(find_format(format), weights, parse_subnet("e32:2xh4f24"), named, sample_of(space), folder / "model");
    return load_model(folder / "model").class_names[1];
  };
  for (const char* wrong : {"two\nlines", "\x1b[2J", "\xff", "", "\xc2\x9b"}) CHECK_THROWS_AS(exported(wrong), InputError);
  CHECK(fs::is_empty(folder.path()));
  CHECK(exported("LABEL_1") == "LABEL_1");  // one that has this name among others

  if (format != "hf-vit") return;
  auto config = nlohmann::json::parse(content_of(folder / "model/config.json"));
  config["id2label"]["1"] = "two\nlines";
  folder.write("model/config.json", config.dump());
  CHECK_THROWS_WITH(load_model(folder / "model"), Contains("id2label") && Contains("control characters"));
}

TEST_CASE("what stands beside a classifier says how to read images and how good it is", "[formats][export][vision]") {
  const TemporaryFolder folder;
  const SearchSpace space = space_of();
  const Weights weights = random_weights(space, DType::float32, 4);
  export_model(find_format("hf-vit"), weights, parse_subnet("e32:2xh4f24"), card(), sample_of(space), folder / "model");
  const auto config = nlohmann::json::parse(content_of(folder / "model/config.json"));
  CHECK(config["image_size"] == nlohmann::json{6, 8});
  CHECK(config["id2label"]["1"] == "bee");
  const auto reading = nlohmann::json::parse(content_of(folder / "model/preprocessor_config.json"));
  CHECK(reading["rescale_factor"] == 1.0 / 255);  // of pictures, which `classify` reads so whatever white says of numbers
  CHECK(reading["image_mean"] == nlohmann::json{0.25, 0.5});
  CHECK(reading["image_processor_type"] == "BitImageProcessor");
  CHECK(reading["size"] == nlohmann::json{{"shortest_edge", 6}});
  CHECK(reading["do_center_crop"] == true);
  CHECK(reading["crop_size"] == nlohmann::json{{"height", 6}, {"width", 8}});
  const std::string text = content_of(folder / "model/README.md");
  for (const char* part :
       {"image-classification", "85.00 %", "per image", "AutoModelForImageClassification", "[0.25, 0.5]", "ImageOps.fit(image, (8, 6)"})
    CHECK(text.find(part) != std::string::npos);
  CHECK(text.find("token") == std::string::npos);
}

TEST_CASE("pixels are those that patches were cut of", "[formats][vision]") {
  const SearchSpace space = space_of();
  ImageSet set{.count = 2, .bytes = {}, .floats = {}, .labels = {0, 1}, .white = 1};
  for (int i = 0; i < 2 * space.model().image.values(); ++i) set.floats.push_back(static_cast<float>(i));
  ImageOptions as_they_are;
  as_they_are.mean = {0}, as_they_are.deviation = {1};
  const std::vector<float> pixels = pixels_of(batch_of(set, as_they_are, space.model()), space.model().image);
  REQUIRE(pixels.size() == set.floats.size());
  for (int image = 0; image < 2; ++image)
    for (int channel = 0; channel < 2; ++channel)
      for (int at = 0; at < 48; ++at)
        REQUIRE(pixels[static_cast<std::size_t>((image * 2 + channel) * 48 + at)] ==
                set.floats[static_cast<std::size_t>((image * 48 + at) * 2 + channel)]);
}

TEST_CASE("the interpreter's operators for images do what ONNX's list says", "[formats][onnx][vision]") {
  using onnx_folder::Tensor;
  const Tensor a = Tensor::of({2, 2, 2}, std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8});
  CHECK(onnx_folder::gathered(a, Tensor::of({}, std::vector<std::int64_t>{1}), 1).floats == std::vector<float>{3, 4, 7, 8});
  CHECK(onnx_folder::gathered(a, Tensor::of({}, std::vector<std::int64_t>{1}), 1).shape == std::vector<std::int64_t>{2, 2});
  CHECK(onnx_folder::gathered(a, Tensor::of({1}, std::vector<std::int64_t>{0}), -1).shape == std::vector<std::int64_t>{2, 2, 1});
  CHECK(onnx_folder::mean_of(a, 1).floats == std::vector<float>{2, 3, 6, 7});
  CHECK(onnx_folder::mean_of(a, 1).shape == std::vector<std::int64_t>{2, 1, 2});
  const Tensor row = Tensor::of({1, 2}, std::vector<float>{1, 2});
  CHECK(onnx_folder::expanded(row, {2, 1, 2}).shape == std::vector<std::int64_t>{2, 1, 2});
  CHECK(onnx_folder::expanded(row, {2, 1, 2}).floats == std::vector<float>{1, 2, 1, 2});
  const Tensor first = Tensor::of({1}, std::vector<std::int64_t>{3}), rest = Tensor::of({2}, std::vector<std::int64_t>{1, 4});
  CHECK(onnx_folder::joined(first, rest, 0).integers == std::vector<std::int64_t>{3, 1, 4});
  CHECK_THROWS_AS(onnx_folder::expanded(row, {2, 3}), std::runtime_error);
  CHECK_THROWS_AS(onnx_folder::mean_of(a, 3), std::runtime_error);
  CHECK_THROWS_AS(onnx_folder::joined(first, row, 0), std::runtime_error);
}

TEST_CASE("an imported rescale_factor is what a picture meets", "[formats][import][vision]") {
  const TemporaryFolder folder;
  const ImageShape shape{6, 8, 3, 2};
  const auto value_read = [&](const std::string& text, double pixel) {
    folder.write("preprocessor_config.json", text);
    const ImageOptions reading = hugging_face::reading_of_folder(folder.path(), shape);
    CHECK(reading.white == 255);  // all that a picture is ever divided by
    return (pixel / 255 - reading.mean.front()) / reading.deviation.front();
  };
  CHECK(value_read(R"({"rescale_factor": 0.00784313725490196, "image_mean": [1, 1, 1], "image_std": [0.5, 0.5, 0.5]})", 51) ==
        Approx((51 / 127.5 - 1) / 0.5));
  CHECK(value_read(R"({"do_rescale": false, "image_mean": 127, "image_std": 64})", 255) == Approx(2));
  CHECK(value_read(R"({"do_rescale": false, "do_normalize": false})", 200) == Approx(200));
  CHECK(value_read(R"({"do_normalize": false})", 51) == Approx(0.2));
}

TEST_CASE("a preprocessor_config.json that makes no sense ends in one line", "[formats][import][vision]") {
  const TemporaryFolder folder;
  const ImageShape shape{6, 8, 2, 2};
  CHECK(hugging_face::reading_of_folder(folder.path(), shape).white == 255);
  const auto reads = [&](const std::string& text) {
    folder.write("preprocessor_config.json", text);
    return hugging_face::reading_of_folder(folder.path(), shape);
  };
  CHECK(reads(R"({"do_normalize": false, "do_rescale": false})").deviation == std::vector<double>{1 / 255.0});
  CHECK(reads(R"({"image_mean": 0.1, "image_std": [0.2, 0.3]})").deviation == std::vector<double>{0.2, 0.3});
  for (const auto& [text, part] : std::vector<std::pair<std::string, std::string>>{{"[]", "an object"},
                                                                                   {"{", "JSON"},
                                                                                   {R"({"image_mean": "x"})", "image_mean"},
                                                                                   {R"({"image_mean": [1, 2, 3]})", "mean"},
                                                                                   {R"({"image_std": [0, 1]})", "deviation"},
                                                                                   {R"({"image_std": []})", "deviation"},
                                                                                   {R"({"rescale_factor": 0})", "white"},
                                                                                   {R"({"rescale_factor": -1})", "white"},
                                                                                   {R"({"do_rescale": 1})", "do_rescale"}}) {
    CAPTURE(text);
    const std::string line = check_input_error([&, &text = text] { reads(text); }, "preprocessor_config.json");
    if (part != "an object") CHECK(line.find(part) != std::string::npos);
  }
}
