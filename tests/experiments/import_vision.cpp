// import of classifiers, through the real program: bodies without a head, and the order of classes.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "supernet/formats/safetensors.hpp"
#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

/// An exported classifier of four classes and images of 4 x 4.
struct Exported : OwnFolder {
  Exported() {
    std::string rows;
    for (int image = 0; image < 80; ++image) {
      for (int value = 0; value < 16; ++value) rows += std::to_string((image * 31 + value * (7 + image % 4)) % 256) + ",";
      rows += std::to_string(image % 4) + "\n";
    }
    folder.write("images.csv", rows);
    folder.write("small.toml", R"(
data  = { images = "images.csv", splits = [40, 20, 20] }
model = { family = "vit", image = [4, 4, 1], patch = 2, classes = 4, head_dim = 8 }
space = { embed = [16], depth = [1], heads = [2], ffn_ratio = [1] }
train = { steps = 2, sequences = 4 }
)");
    succeed("train small.toml --run runs/small");
    succeed("export runs/small --subnet largest --format hf-vit --to model");
  }
  void name_classes(const std::vector<std::string>& names) const {
    nlohmann::json config = nlohmann::json::parse(content_of(folder / "model/config.json"));
    config["id2label"] = nlohmann::json::object();
    for (std::size_t i = 0; i < names.size(); ++i) config["id2label"][std::to_string(i)] = names[i];
    folder.write("model/config.json", config.dump());
  }
  void behead() const {
    const std::string path = folder / "model/model.safetensors";
    std::vector<safetensors::Tensor> body;
    {
      safetensors::Reader file(path);
      for (const auto& [name, entry] : file.entries()) {
        if (name.starts_with("classifier.")) continue;
        const std::vector<float> values = file.floats(name);
        body.push_back({name, entry.shape, [values] { return values; }});
      }
    }
    safetensors::write(path, body);
  }
};

const std::string kImport = "import model --images images.csv --set data.splits=40,20,20 ";

}  // namespace

TEST_CASE("a body without a head learns from labels and its own largest subnet, not from a head of zeros", "[program][import][vision]") {
  const Exported own;
  own.succeed(kImport + "--run runs/whole");
  CHECK_THAT(content_of(own.folder / "runs/whole/recipe.toml"), Contains("objective = \"labels+teacher\""));
  own.behead();
  own.succeed(kImport + "--run runs/body --classes 4");
  const std::string recipe = content_of(own.folder / "runs/body/recipe.toml");
  CHECK_THAT(recipe, Contains("objective = \"labels+largest\"") && !Contains("[teacher]"));
  CHECK_FALSE(std::filesystem::exists(own.folder / "runs/body/teacher.h5"));
  for (const char* objective : {"teacher", "labels+teacher"})
    own.refused(kImport + "--run runs/other --classes 4 --set stage.0.objective=" + objective, "head of zeros");
  own.succeed(kImport + "--run runs/other --classes 4 --set stage.0.objective=labels");
}

TEST_CASE("classes that a checkpoint and its folders of pictures number differently are refused", "[program][import][vision]") {
  const Exported own;
  for (const char* name : {"ant", "bee", "cat", "dog"}) std::filesystem::create_directories(own.folder / ("pictures/" + std::string(name)));
  const std::string line = "import model --images pictures --run runs/back", passes = "PNG or JPEG files";  // which comes later
  own.refused(line, passes);                                                                                // LABEL_0 is no name
  own.name_classes({"ant", "bee", "cat", "dog"});
  own.refused(line, passes);
  own.name_classes({"ant", "cat", "bee", "dog"});
  own.refused(line, "pictures: expected class 1 to be \"cat\", as in model, found \"cat\" as class 2");
  own.name_classes({"0", "1", "2", "3"});
  own.refused(line, passes);
  own.name_classes({"ameise", "biene", "katze", "hund"});
  own.refused(line, passes);
}

}  // namespace elastiform
