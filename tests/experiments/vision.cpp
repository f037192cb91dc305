// The program on a classifier of images: everything that a user does with a run.
#include <csignal>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/random.hpp"
#include "supernet/storage/durable_file.hpp"
#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

/// 240 images of 6 x 6: bars of four kinds in noise, which a small network learns in seconds.
std::string bars() {
  std::string text;
  RandomStream random(1, Purpose::test);
  for (int i = 0; i < 240; ++i) {
    const int kind = i % 4;
    for (int y = 0; y < 6; ++y)
      for (int x = 0; x < 6; ++x) {
        const bool bar = kind == 0 ? y < 2 : kind == 1 ? y >= 4 : kind == 2 ? x < 2 : x >= 4;
        text += std::to_string((bar ? 150 : 20) + static_cast<int>(random.below(90))) + ",";
      }
    text += std::to_string(kind) + "\n";
  }
  return text;
}

constexpr const char* kRecipe = R"(
data  = { images = "bars.csv", splits = [60, 20, 20] }
model = { family = "vit", image = [6, 6, 1], patch = 2, classes = 4, head_dim = 8 }
space = { embed = [16, 32], depth = [1, 2], heads = [1, 2], ffn_ratio = [1, 2] }
train = { steps = 120, sequences = 16, rate = 3e-3, crop = 1, mixup = 0.2, cutmix = 1.0, label_smoothing = 0.1, log_every = 60, checkpoint_every = 60 }
stage = [ { share = 0.4, sampler = "largest" }, { share = 0.6, sampler = "balanced", largest = 0.25 } ]
search = { algorithm = "random", evaluations = 8, round_size = 8, budgets = ["macs=..60%"] }
)";

/// A folder with images, a recipe and its run, made once.
const TemporaryFolder& trained() {
  static const TemporaryFolder folder;
  static const bool made = [] {
    folder.write("bars.csv", bars());
    folder.write("bars.toml", kRecipe);
    const ProgramResult result = run_program_in(folder.path(), words("train bars.toml --threads 2"));
    INFO(result.out << result.err);
    REQUIRE(result.status == 0);
    return true;
  }();
  static_cast<void>(made);
  return folder;
}

/// The same with a run of its own to change.
struct OwnBars : OwnRun {
  OwnBars() : OwnRun(trained()) {}
};

std::string digest(const std::string& folder, const std::string& run) {
  const ProgramResult result = run_program_in(folder, words("inspect " + run + " --digest"));
  INFO(result.err);
  REQUIRE(result.status == 0);
  return result.out.substr(0, result.out.find(' '));
}

}  // namespace

TEST_CASE("a classifier trains, is searched, evaluated, shown and classifies", "[program][vision]") {
  const OwnBars own;
  const nlohmann::json evaluation = own.json_of("evaluate runs/bars --subnet largest --split report --against smallest");
  CHECK(evaluation["accuracy"].get<double>() > 0.9);
  CHECK(evaluation["images"] == 48);
  CHECK(!evaluation.contains("bits_per_byte"));
  CHECK(evaluation["against"]["difference_blocks"] == 48);
  const ProgramResult text = own.run("evaluate runs/bars --subnet largest --split report --against smallest");
  CHECK(text.out.find("accuracy") != std::string::npos);
  CHECK(text.out.find("points of accuracy") != std::string::npos);
  CHECK(text.out.find("byte") == std::string::npos);

  const nlohmann::json search = own.json_of("search runs/bars");
  const std::string best = search[0]["best"]["subnet"];
  const nlohmann::json cost = own.json_of("cost runs/bars --subnet " + best), largest = own.json_of("cost runs/bars --subnet largest");
  CHECK(cost["macs"].get<double>() <= 0.6 * largest["macs"].get<double>());
  CHECK(own.run("front runs/bars").out.find("nats/image") != std::string::npos);
  CHECK(own.run("show runs/bars 1").out.find("per image") != std::string::npos);
  CHECK(own.run("space runs/bars").out.find("MACs/image") != std::string::npos);
  CHECK(own.run("inspect runs/bars").status == 0);
  CHECK(own.run("sample runs/bars --count 3").status == 0);

  const nlohmann::json classes = own.json_of("classify runs/bars bars.csv --subnet " + best + " --top 2");
  REQUIRE(classes["images"].size() == 240);
  int right = 0;
  for (std::size_t i = 0; i < 240; ++i) {
    const auto& guesses = classes["images"][i]["classes"];
    REQUIRE(guesses.size() == 2);
    CHECK(guesses[0]["probability"].get<double>() >= guesses[1]["probability"].get<double>());
    right += guesses[0]["class"] == i % 4 ? 1 : 0;
  }
  CHECK(right > 200);
}

TEST_CASE("a training begins with hidden patches, and everything after it knows nothing of their decoder", "[program][vision][masked]") {
  const OwnBars own;
  const std::string decoder = "model.decoder_embed=16 --set model.decoder_depth=1 --set model.decoder_heads=2";
  const std::string stages =
      "bars.toml --set stage.0.objective=masked_patches --set stage.0.mask_ratio=0.6 --set train.mixup=0 "
      "--set train.schedule=constant";
  const ProgramResult result = own.run("train " + stages + " --run runs/masked --set train.log_every=20 --set " + decoder);
  INFO(result.out << result.err);
  REQUIRE(result.status == 0);
  CHECK(result.out.find("squared error of 6 hidden patches") != std::string::npos);
  CHECK(own.json_of("evaluate runs/masked --subnet largest")["accuracy"].get<double>() > 0.5);
  const nlohmann::json cost = own.json_of("cost runs/masked --subnet largest"), plain = own.json_of("cost runs/bars --subnet largest");
  CHECK(cost["parameters"] == plain["parameters"]);
  CHECK(own.run("search runs/masked").status == 0);
  CHECK(own.run("export runs/masked --subnet e16:2xh2f32 --format elastiform --to model").status == 0);
  CHECK(own.run("finetune runs/masked --run runs/tuned --method lora --rank 2 --steps 4").status == 0);
  CHECK(own.run("finetune runs/masked --run runs/alone --subnet smallest --steps 4").status == 0);
  CHECK(own.run("train --resume runs/masked --steps 130").status == 0);

  own.refused("train " + stages + " --run runs/none", "a model with a decoder");
  own.refused("train bars.toml --run runs/none --set " + decoder, "no stage has objective = masked_patches");
  own.refused("train " + stages + " --run runs/none --set model.decoder_embed=16", "model.decoder_depth: expected a value");
  own.refused("train bars.toml --run runs/none --set stage.0.mask_ratio=0.5", "an objective that reads it");
  own.refused("train " + stages + " --run runs/none --set stage.0.mask_ratio=0.999 --set " + decoder, "mask_ratio");
}

TEST_CASE("a classifier is exported, found deployable, and classifies from its file as in its run", "[program][vision][export]") {
  const OwnBars own;
  const std::string format = GENERATE("elastiform", "hf-vit", "onnx");
  const ProgramResult result = own.run("export runs/bars --subnet e16:2xh2f32 --format " + format + " --to model --json");
  if (format == "onnx" && result.status == 2) {
    CHECK(result.err.find("libonnx-dev") != std::string::npos);
    return;
  }
  INFO(result.err);
  REQUIRE(result.status == 0);
  const nlohmann::json exported = nlohmann::json::parse(result.out);
  CHECK(exported["difference"].get<double>() < 1e-5);
  CHECK(exported["quality"][1]["images"] == 48);
  CHECK(exported["quality"][1]["accuracy"].get<double>() > 0.5);
  CHECK(own.json_of("sample runs/bars --deployable " + format)["feasible"] != "0");
  CHECK(own.run("export runs/bars --subnet e32:h1f32,h2f64 --format " + format + " --to other" + (format == "hf-vit" ? " --pad" : ""))
            .status == 0);
  if (format == "onnx") return;
  const nlohmann::json from_run = own.json_of("classify runs/bars bars.csv --subnet e16:2xh2f32 --top 4"),
                       from_file = own.json_of("classify model bars.csv --top 4");
  REQUIRE(from_file["images"].size() == 240);
  for (std::size_t i = 0; i < 240; ++i) {
    const auto &a = from_run["images"][i]["classes"], &b = from_file["images"][i]["classes"];
    CHECK(a[0]["probability"].get<double>() == Approx(b[0]["probability"].get<double>()).margin(1e-5));
  }
  CHECK(own.run("classify model bars.csv --subnet largest").status == 2);
  CHECK(own.run("generate model --prompt a").status == 2);
  if (format == "elastiform") return;

  const nlohmann::json made = own.json_of("import model --run runs/back --images bars.csv --set data.splits=60,20,20 --set train.steps=4");
  const nlohmann::json before = own.json_of("evaluate runs/bars --subnet e16:2xh2f32"),
                       after = own.json_of("evaluate runs/back --subnet largest");
  CHECK(made["subnet"] == after["subnet"]);
  CHECK(after["loss"].get<double>() == Approx(before["loss"].get<double>()).epsilon(1e-4));
  CHECK(own.run("train --resume runs/back").status == 0);
  // The order that activations say is another one, of the same network.
  CHECK(own.json_of("import model --run runs/observed --images bars.csv --set data.splits=60,20,20 --importance activations")["subnet"] ==
        made["subnet"]);
  CHECK(own.json_of("evaluate runs/observed --subnet largest")["loss"].get<double>() == Approx(before["loss"].get<double>()).epsilon(1e-4));
  CHECK(own.run("import model --run a --images bars.csv --importance activations --calibration bars.csv").status == 2);
  CHECK(own.run("import model --run a --text bars.csv").status == 2);
  CHECK(own.run("import model --run a --images bars.csv --classes 4").status == 2);
  CHECK(own.run("import model --run a").status == 2);
}

namespace {

/// A safetensors file without the tensors whose names begin so.
void take_out(const std::string& path, const std::string& prefix) {
  const std::string file = content_of(path);
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  nlohmann::json header;
  std::string data;
  const nlohmann::json whole = nlohmann::json::parse(file.substr(8, length));
  for (const auto& [name, tensor] : whole.items()) {
    if (name.starts_with(prefix)) continue;
    header[name] = tensor;
    if (!tensor.contains("data_offsets")) continue;
    const auto begin = tensor["data_offsets"][0].get<std::size_t>(), end = tensor["data_offsets"][1].get<std::size_t>();
    header[name]["data_offsets"] = {data.size(), data.size() + end - begin};
    data += file.substr(8 + length + begin, end - begin);
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  length = text.size();
  write_durably(path, std::string(reinterpret_cast<const char*>(&length), sizeof length) + text + data);
}

}  // namespace

TEST_CASE("a body without a head is not classified with, but made a run with classes", "[program][vision]") {
  const OwnBars own;
  REQUIRE(own.run("export runs/bars --subnet e16:2xh2f32 --format hf-vit --to model").status == 0);
  take_out(own.folder / "model/model.safetensors", "classifier.");
  const ProgramResult refused = own.refused("classify model bars.csv", "a body without a head");
  CHECK_THAT(refused.err, Catch::Matchers::Contains("--classes N"));
}

TEST_CASE("classes are called as the folders of their pictures", "[program][vision]") {
  const OwnBars own;
  std::filesystem::create_directories(own.folder / "pictures");
  for (const char* name : {"top", "bottom", "left", "right"})
    std::filesystem::create_directories(own.folder / ("pictures/" + std::string(name)));
  CHECK(own.run("train bars.toml --run a --set data.images=pictures").err.find("PNG or JPEG files") != std::string::npos);
}

TEST_CASE("a classifier's run has the same bits on any number of threads, and killed and resumed", "[program][vision]") {
  const std::string expected = digest(trained().path(), "runs/bars");
  const TemporaryFolder folder;
  for (const char* name : {"bars.csv", "bars.toml"}) std::filesystem::copy(trained() / name, folder / name);
  CHECK(run_program_in(folder.path(), words("train bars.toml --threads 1 --run one")).status == 0);
  CHECK(digest(folder.path(), "one") == expected);
  const ProgramResult killed =
      run_program_in(folder.path(), words("train bars.toml --threads 2 --run two"), [](int process, const std::string& line) {
        if (line.starts_with("step ")) ::kill(process, SIGKILL);
      });
  REQUIRE(killed.status == 128 + SIGKILL);
  const ProgramResult resumed = run_program_in(folder.path(), words("train --resume two --threads 1"));
  INFO(resumed.err);
  REQUIRE(resumed.status == 0);
  CHECK(digest(folder.path(), "two") == expected);
}

TEST_CASE("micro-batches and distillation work on images", "[program][vision]") {
  const OwnBars own;
  const ProgramResult result = own.run(
      "train bars.toml --run other --set train.accumulation=3 --set train.steps=6 --set train.step_rule=sam --set stage.1.sampler=sandwich "
      "--set "
      "stage.1.objective=labels+largest --set train.ema=0.9 --set model.readout=mean --set stage.1.largest=0");
  INFO(result.err);
  CHECK(result.status == 2);  // largest belongs to balanced
  own.folder.write("other.toml", R"(
data  = { images = "bars.csv", splits = [60, 20, 20] }
model = { family = "vit", image = [6, 6, 1], patch = 2, classes = 4, head_dim = 8, readout = "mean", residual = "deepnorm" }
space = { embed = [16, 32], depth = [1, 2], heads = [1, 2], ffn_ratio = [1, 2] }
train = { steps = 6, sequences = 4, accumulation = 3, step_rule = "sam", ema = 0.9, dropout = 0.1 }
stage = [ { sampler = "sandwich", objective = "labels+largest" } ]
)");
  const ProgramResult trained = own.run("train other.toml");
  INFO(trained.err);
  CHECK(trained.status == 0);
  const ProgramResult tuned = own.run("finetune runs/bars --method lora --steps 5 --run tuned");
  INFO(tuned.err);
  CHECK(tuned.status == 0);
  CHECK(own.run("evaluate tuned --subnet smallest").status == 0);
}

TEST_CASE("what a classifier cannot do is refused in one line", "[program][vision]") {
  const OwnBars own;
  own.refused("generate runs/bars --subnet largest --prompt a", "classif");
  own.refused("export runs/bars --subnet largest --format gguf --to out.gguf", "classifier of images");
  own.refused("export runs/bars --subnet e32:h1f32,h2f64 --format hf-vit --to out", "--pad");
  own.refused("sample runs/bars --deployable hf-llama", "classifier of images");
  own.refused("classify bars.csv bars.csv", "bars.csv");
  own.refused("import runs/bars --run a --images bars.csv", "config.json");
  own.refused("train bars.toml --run a --set train.tokens=random_ltd", "train.tokens");
  own.refused("train bars.toml --run a --set model.patch=4", "patch");
  own.refused("train bars.toml --run a --set model.classes=3", "class from 0 to 2");
  own.refused("train bars.toml --run a --set data.images=nothing.csv", "nothing.csv");
  own.refused("train bars.toml --run a --set data.mean=1,2", "data.mean");
  own.refused("train bars.toml --run a --set data.text=bars.csv", "text");
  own.refused("train bars.toml --run a --set model.family=decoder", "");
  own.refused("train bars.toml --run a --set deploy.phase=decode", "phase");
  own.refused("train bars.toml --run a --set data.labels=bars.csv", "data.labels");
  own.refused("train bars.toml --run a --set search.stride=1", "stride");
  own.refused("train bars.toml --run a --set train.crop=6", "train.crop");
  own.refused("demo --recipe bars.toml", "demo");
  own.refused("classify runs/bars nothing.png", "nothing");
  own.refused("classify runs/bars bars.toml", "");
  own.folder.write("bars.csv", bars() + bars());
  own.refused("evaluate runs/bars --subnet largest", "SHA-256");
}

TEST_CASE("the recipes of images are read, and AutoFormer-tiny's space has the parameters that its recipe says", "[program][vision]") {
  const std::string recipes = std::string(ELASTIFORM_TEST_DATA) + "/../../experiments/recipes/";
  const TemporaryFolder folder;
  for (const char* name : {"digits", "digits_masked", "vit_small"})
    CHECK(run_program_in(folder.path(), {"space", recipes + name + ".toml"}).status == 0);
  const ProgramResult result = run_program_in(folder.path(), {"space", recipes + "autoformer_tiny.toml", "--json"});
  INFO(result.err);
  REQUIRE(result.status == 0);
  const nlohmann::json space = nlohmann::json::parse(result.out);
  CHECK(space["smallest"]["parameters"].get<std::int64_t>() == 5'273'896);
  CHECK(space["largest"]["parameters"].get<std::int64_t>() == 10'409'752);
}

}  // namespace elastiform
