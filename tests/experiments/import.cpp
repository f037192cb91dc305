// import and tokenize, each through the real program; every test writes to a folder of its own.
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "supernet/formats/format.hpp"
#include "supernet/formats/hugging_face_tokenizer.hpp"
#include "supernet/tokenizers/tokenizer.hpp"
#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"
#include "trainers/checkpoint.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// A copy of the trained run, whose largest subnet was exported as `model`.
struct Exported : OwnRun {
  explicit Exported(const std::string& format) { succeed("export runs/micro --subnet largest --to model --format " + format); }
};

/// The byte tokenizer with merges of what the micro text is full of; no patterns, so it needs no Oniguruma.
json merged_tokenizer() {
  json file = json::parse(hugging_face::byte_tokenizer());
  for (const char letter : {'a', 'e', 'i', 'o', 'u'}) {
    const std::string pair = std::string(1, letter) + "n";
    file["model"]["merges"].push_back({std::string(1, letter), "n"});
    file["model"]["vocab"][pair] = file["model"]["vocab"].size();
  }
  return file;
}

}  // namespace

TEST_CASE("an import is the exported network, trains on, and round trips bit for bit", "[experiments][import]") {
  const std::string format = GENERATE("hf-llama", "elastiform", "hf-auto", "gguf");
  const Exported own(format);
  const json made = own.json_of(
      "import model --run runs/back --text text.txt --set data.split_block=4096 --set train.steps=4 --set train.checkpoint_every=2 --set "
      "stage.0.hidden_weight=0.5");
  const json before = own.json_of("evaluate runs/micro --subnet largest"), after = own.json_of("evaluate runs/back --subnet largest");
  CHECK(made["subnet"] == after["subnet"]);
  CHECK(made["bytes_per_token"] == 1);
  CHECK(after["loss"].get<double>() == Approx(before["loss"].get<double>()).epsilon(1e-5));
  CHECK(after["tokens"] == before["tokens"]);

  own.succeed("export runs/back --subnet largest --to first --format " + format);
  own.succeed("import first --run runs/again --text text.txt");
  own.succeed("export runs/again --subnet largest --to second --format " + format);
  CHECK(weights_hash(load_model(own.folder / "first").weights) == weights_hash(load_model(own.folder / "second").weights));

  own.succeed("train --resume runs/back");
  CHECK(own.json_of("evaluate runs/back --subnet largest")["weights_hash"] != after["weights_hash"]);
  own.succeed("search runs/back --budget parameters=..90% --evaluations 4");
  // It learns from the checkpoint as it was, which stays in the run.
  const std::string recipe = content_of(own.folder / "runs/back/recipe.toml");
  CHECK_THAT(recipe, Catch::Matchers::Contains("objective = \"labels+teacher\"") && Catch::Matchers::Contains("[teacher]\nsubnet = "));
  CHECK_THAT(recipe, Catch::Matchers::Contains("algorithm = \"predictor\"") && Catch::Matchers::Contains("founders = 16"));
  CHECK(load_supernet(own.folder / "runs/back/teacher.h5").weights_hash == after["weights_hash"]);
  CHECK(load_supernet(own.folder / "runs/back/teacher.h5").weights_hash ==
        load_supernet(own.folder / "runs/again/teacher.h5").weights_hash);
  CHECK(fs::hard_link_count(own.folder / "runs/again/teacher.h5") == 2);  // its run's first weights, until a checkpoint takes their place
  CHECK(fs::hard_link_count(own.folder / "runs/back/teacher.h5") == 1);
  const std::string log = content_of(own.folder / "runs/back/training.jsonl");
  const json row = json::parse(log.substr(0, log.find('\n')));
  for (const char* loss : {"teacher_loss", "hidden_loss"}) CHECK(row[loss].get<double>() > 0);
  // Its tunings learn from it, too, and know how far they are from it when they are not: before the first step.
  own.succeed(
      "finetune runs/again --subnet largest --method full --distill --run runs/taught --steps 2 --set train.log_every=1 --set "
      "stage.0.hidden_weight=1");
  const std::string taught = content_of(own.folder / "runs/taught/training.jsonl");
  const json first = json::parse(taught.substr(0, taught.find('\n')));
  CHECK(first["hidden_loss"] == 0);
  CHECK(first["teacher_loss"].get<double>() >= 0);
  // As if it had been killed between its first weights and its first checkpoint, or never.
  const json one = own.json_of(
      "import model --run runs/one --text text.txt --set data.split_block=4096 --set train.steps=4 --set train.checkpoint_every=4 --set "
      "stage.0.hidden_weight=0.5");
  own.succeed("train --resume runs/one --threads 1");
  CHECK(own.json_of("evaluate runs/one --subnet largest")["weights_hash"] ==
        own.json_of("evaluate runs/back --subnet largest")["weights_hash"]);
}

TEST_CASE("an import in the order of activations is the same network, whatever the threads, and depends on the text",
          "[experiments][import]") {
  const Exported own("hf-llama");
  const std::string import = "import model --text text.txt --set data.split_block=4096 --importance activations --run ";
  const json made = own.json_of(import + "runs/one --threads 1");
  CHECK(made["calibration_tokens"] == 8 * 2048);
  CHECK(made["importance"] == "activations");
  own.succeed(import + "runs/two --threads 2");
  const auto evaluate = [&](const std::string& run) { return own.json_of("evaluate " + run + " --subnet largest"); };
  CHECK(evaluate("runs/one")["weights_hash"] == evaluate("runs/two")["weights_hash"]);
  CHECK(evaluate("runs/one")["loss"].get<double>() == Approx(evaluate("runs/micro")["loss"].get<double>()).epsilon(1e-5));
  own.folder.write("other.txt", std::string(60000, 'z') + content_of(own.folder / "text.txt").substr(0, 20000));
  own.succeed(import + "runs/three --calibration other.txt");
  CHECK(evaluate("runs/three")["weights_hash"] != evaluate("runs/one")["weights_hash"]);
  CHECK(evaluate("runs/three")["tokens"] == evaluate("runs/one")["tokens"]);
}

TEST_CASE("a run with a tokenizer: bits per byte count bytes, shards are the text, exports and generate bring it along",
          "[experiments][import][tokenizers]") {
  const Exported own("hf-llama");
  own.folder.write("tokenizer.json", merged_tokenizer().dump());
  const json shards = own.json_of("tokenize text.txt --tokenizer tokenizer.json --to text.tokens");
  CHECK(shards["vocabulary"] == 261);
  const double bytes_per_token = shards["bytes_per_token"];
  CHECK(bytes_per_token > 1);

  const std::string recipe =
      " --set data.tokenizer=tokenizer.json --set model.vocabulary=264 --set train.steps=20 --set data.split_block=4096";
  CHECK_THAT(own.succeed("train micro.toml --run runs/text" + recipe).out, Catch::Matchers::Matches("[^]*sequences of [0-9]+ tokens,[^]*"));
  own.succeed("train micro.toml --run runs/shards --set data.text=text.tokens" + recipe);
  const json text = own.json_of("evaluate runs/text --subnet largest"), tokens = own.json_of("evaluate runs/shards --subnet largest");
  CHECK(text["weights_hash"].is_string());
  CHECK(text["loss"] == tokens["loss"]);
  CHECK(text["bits_per_byte"] == tokens["bits_per_byte"]);
  const double ratio = text["loss"].get<double>() / std::log(2.0) / text["bits_per_byte"].get<double>();
  CHECK(ratio == Approx(bytes_per_token).epsilon(0.02));  // of the search split
  CHECK(text["blocks"].get<std::string>().find(",bytes_per_token=") != std::string::npos);
  own.succeed("search runs/text --evaluations 4");
  own.succeed("front runs/text");

  own.succeed("export runs/text --subnet largest --format hf-llama --to folder");
  own.succeed("export runs/text --subnet largest --to file.h5");
  const ProgramResult unnamed = own.run("export runs/text --subnet largest --format gguf --to file.gguf");
  CHECK(own.run("space runs/text --deployable gguf").status == 2);
  CHECK(own.run("sample runs/text --deployable gguf").status == 2);
  CHECK(own.run("search runs/text --deployable gguf --evaluations 4").status == 2);
  CHECK(own.run("tokenize text.tokens --tokenizer tokenizer.json --to twice").status == 2);
  CHECK(unnamed.status == 2);  // bytes that are merged wherever they meet: llama.cpp cuts no text that way
  CHECK_THAT(unnamed.err, Catch::Matchers::Contains("gpt-2, smollm, llama-bpe"));
  const json from_run = own.json_of("generate runs/text --prompt banana --tokens 12");
  CHECK(from_run["prompt_ids"] == json({'b', 256, 256, 'a'}));
  for (const char* model : {"folder", "file.h5"})
    CHECK(own.json_of(std::string("generate ") + model + " --prompt banana --tokens 12")["ids"] == from_run["ids"]);
  own.succeed("import folder --run runs/beside --text text.txt --tokenizer tokenizer.json --set data.split_block=4096");
  CHECK(fs::exists(own.folder / "runs/beside/tokenizer.json"));
  own.succeed("import folder --run runs/back --text text.tokens --set data.split_block=4096");
  CHECK(fs::exists(own.folder / "runs/back/tokenizer.json"));
  const json back = own.json_of("evaluate runs/back --subnet largest");
  CHECK(back["bits_per_byte"].get<double>() == Approx(text["bits_per_byte"].get<double>()).epsilon(1e-5));
}

TEST_CASE("a run with a tokenizer.model: shards, scores, every export and import bring it along", "[experiments][import][tokenizers]") {
  const Exported own("hf-llama");
  fs::copy_file(fs::path(ELASTIFORM_TEST_DATA) / "sentencepiece/bpe.model", own.folder / "tokenizer.model");
  CHECK(own.json_of("tokenize text.txt --tokenizer tokenizer.model --to text.tokens")["vocabulary"] == 480);
  const std::string recipe =
      " --set data.tokenizer=tokenizer.model --set model.vocabulary=490 --set train.steps=10 --set data.split_block=1024";
  CHECK_THAT(own.succeed("train micro.toml --run runs/text" + recipe).out, Catch::Matchers::Matches("[^]*sequences of [0-9]+ tokens,[^]*"));
  own.succeed("train micro.toml --run runs/shards --set data.text=text.tokens" + recipe);
  const json text = own.json_of("evaluate runs/text --subnet largest"), tokens = own.json_of("evaluate runs/shards --subnet largest");
  CHECK(text["bits_per_byte"] == tokens["bits_per_byte"]);
  const json from_run = own.json_of("generate runs/text --prompt banana --tokens 8");
  CHECK(from_run["prompt_ids"][0] == 1);  // <s>
  for (const char* format : {"hf-llama", "elastiform", "gguf", "onnx"}) {
    const std::string to = std::string("made-") + format;
    CAPTURE(format);
    const ProgramResult made = own.run("export runs/text --subnet largest --to " + to + " --format " + format);
    if (std::string(format) == "onnx") continue;  // a program without ONNX says so; generate reads none
    REQUIRE(made.status == 0);
    CHECK(own.json_of("generate " + to + " --prompt banana --tokens 8")["ids"] == from_run["ids"]);
  }
  // A folder that has sentencepiece's own file alone.
  fs::remove(own.folder / "made-hf-llama/tokenizer.json");
  fs::copy_file(own.folder / "tokenizer.model", own.folder / "made-hf-llama/tokenizer.model");
  CHECK(own.json_of("generate made-hf-llama --prompt banana --tokens 8")["ids"] == from_run["ids"]);
  own.succeed("import made-hf-llama --run runs/back --text text.txt --set data.split_block=1024");
  CHECK(fs::exists(own.folder / "runs/back/tokenizer.json"));
  CHECK(own.json_of("generate runs/back --prompt banana --tokens 8")["ids"] == from_run["ids"]);
  own.folder.write("made-hf-llama/tokenizer.model", "version https://git-lfs.github.com/spec/v1\n");
  const ProgramResult pointer = own.run("import made-hf-llama --run runs/none --text text.txt");
  CHECK(pointer.status == 2);
  CHECK_THAT(pointer.err, Catch::Matchers::Contains("git lfs pull"));
}

TEST_CASE("an export says where its consumer finds other ids", "[experiments][import][tokenizers]") {
  const Exported own("hf-llama");
  const fs::path model = fs::path(ELASTIFORM_TEST_DATA) / "sentencepiece/bpe.model";
  json file = json::parse(Tokenizer::load(model.string()).json());
  file["normalizer"] = nullptr;
  file["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", false}};
  own.folder.write("tokenizer.json", file.dump());
  own.succeed(
      "train micro.toml --run runs/text --set data.tokenizer=tokenizer.json --set data.split_block=1024 --set model.vocabulary=490"
      " --set train.steps=2");
  const std::string note = own.json_of("export runs/text --subnet largest --to made.gguf --format gguf")["note"];
  CHECK_THAT(note, Catch::Matchers::Contains("llama.cpp puts a space also before a text that begins with one"));
  const ProgramResult again = own.run("export runs/text --subnet largest --to again.gguf --format gguf");
  CHECK_THAT(again.out, Catch::Matchers::Contains("\nnote: " + note + "\n"));
  CHECK_FALSE(own.json_of("export runs/text --subnet largest --to made --format hf-llama").contains("note"));
}

TEST_CASE("wrong uses of import and tokenize end in one line and write nothing", "[experiments][import]") {
  const Exported own("hf-llama");
  own.folder.write("tokenizer.json", merged_tokenizer().dump());
  own.folder.write("empty/config.json", "{}");
  const std::string before = state_of(own.folder.path());
  for (const char* line : {"import model",
                           "import model --run runs/x",
                           "import model --text text.txt",
                           "import absent --run runs/x --text text.txt",
                           "import empty --run runs/x --text text.txt",
                           "import model --run runs/micro --text text.txt",
                           "import model --run runs/x --text absent",
                           "import model --run runs/x --text text.txt --context 1000000",
                           "import model --run runs/x --text text.txt --space embed=16",
                           "import model --run runs/x --text text.txt --space width=16",
                           "import model --run runs/x --text text.txt --set model.tied=false",
                           "import model --run runs/x --text text.txt --set train.stepz=1",
                           "import model --run runs/x --text text.txt --tokenizer absent",
                           "import model --run runs/x --text text.txt --importance activation",
                           "import model --run runs/x --text text.txt --calibration text.txt",
                           "import model --run runs/x --text text.txt --importance activations --calibration absent",
                           "import model --run new/deep/x --text absent",
                           "import model --run runs/x --text text.txt --set tune.method=lora",
                           "import model --run runs/x --text text.txt --set teacher.weights=0",
                           "import model --run runs/x --text text.txt --tokenizer tokenizer.json",
                           "tokenize text.txt",
                           "tokenize text.txt --tokenizer absent --to x",
                           "tokenize text.txt --tokenizer model/config.json --to x",
                           "tokenize absent --tokenizer tokenizer.json --to x",
                           "tokenize text.txt --tokenizer tokenizer.json --to model"}) {
    INFO(line);
    CHECK(own.refused(line, "").out.empty());
  }
  CHECK(state_of(own.folder.path()) == before);
}

}  // namespace elastiform
