// export and generate, each through the real program; every test writes to a folder of its own.
#include <filesystem>
#include <nlohmann/json.hpp>

#include "experiments/elastiform/utf8_stream.hpp"
#include "supernet/storage/durable_file.hpp"
#include "supernet/subnet.hpp"
#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

TEST_CASE("an export says what it wrote, and generates what the run generates", "[experiments][export]") {
  const OwnRun own;
  const std::string format = GENERATE("elastiform", "hf-llama");
  const json exported = own.json_of("export runs/micro --subnet largest --format " + format + " --to model");
  CHECK(exported["path"] == "model");
  CHECK(exported["format"] == format);
  CHECK(exported["difference"] < 1e-5);
  REQUIRE(exported["quality"].size() == 2);
  CHECK(exported["quality"][0]["split"] == "search");
  CHECK(exported["quality"][1]["split"] == "report");
  CHECK(exported["quality"][1]["loss"] > 0);
  CHECK(exported["quality"][1]["tokens"] > 1000);
  const json cost = own.json_of("cost runs/micro --subnet largest");
  CHECK(exported["parameters"] == cost["parameters"]);

  const json from_run = own.json_of("generate runs/micro --subnet largest --tokens 40 --prompt", {"the "});
  const json from_model = own.json_of("generate model --tokens 40 --prompt", {"the "});
  CHECK(from_model["ids"] == from_run["ids"]);
  CHECK(from_model["ids"].size() == 40);
  CHECK(from_model["prompt_ids"] == json({'t', 'h', 'e', ' '}));
  // Without --json the bytes themselves, prompt first.
  const ProgramResult shown = own.run("generate model --tokens 40 --prompt", {"the "});
  std::string bytes = "the ";
  for (const int id : from_model["ids"]) bytes += static_cast<char>(id);
  CHECK(shown.out == bytes + "\n");
}

TEST_CASE("an export without --to stands in the run under its id, and its scores are kept", "[experiments][export]") {
  const OwnRun own;
  const json first = own.json_of("export runs/micro --subnet smallest --format hf-llama");
  const std::string path = first["path"];
  CHECK(path.rfind("runs/micro/exports/" + std::to_string(first["id"].get<int>()) + "-", 0) == 0);
  CHECK(fs::exists(own.folder / path + "/README.md"));
  // The id names the subnet from then on, and the second look at the report split is found in the store.
  const json again = own.json_of("export runs/micro --subnet " + std::to_string(first["id"].get<int>()) + " --to again");
  CHECK(again["subnet"] == first["subnet"]);
  CHECK(again["quality"] == first["quality"]);
  own.refused("export runs/micro --subnet smallest --format hf-llama", "nothing there yet");
}

TEST_CASE("an export without scores evaluates nothing, says so in its card, and is proven all the same", "[experiments][export]") {
  const OwnRun own;
  for (const char* format : {"elastiform", "hf-llama", "gguf"}) {
    CAPTURE(format);
    const json made = own.json_of(std::string("export runs/micro --subnet e16:h2f32 --no-scores --format ") + format);
    CHECK(made["id"] == 0);
    CHECK(made["quality"].empty());
    CHECK(made["difference"].get<double>() < 1e-4);
    const std::string path = made["path"];
    CHECK_THAT(path, Catch::Contains("exports/" + hash8(parse_subnet("e16:h2f32"))));
    own.succeed("generate " + path + " --prompt In --tokens 4");
  }
  CHECK_THAT(content_of(own.folder / ("runs/micro/exports/" + hash8(parse_subnet("e16:h2f32")) + "/README.md")),
             Catch::Contains("Not scored for this card."));
  const json scored = own.json_of("export runs/micro --subnet e16:h2f32 --to scored");
  CHECK(scored["id"] == 1);
  CHECK(scored["quality"].size() == 2);
  // Now it has an id, and its name with the id is free.
  const json named = own.json_of("export runs/micro --subnet 1 --no-scores");
  CHECK(named["path"] == "runs/micro/exports/1-" + hash8(parse_subnet("e16:h2f32")) + ".h5");
  own.refused("export runs/micro --subnet 1 --no-scores", "nothing there yet");
}

TEST_CASE("an export without scores waits for no search", "[experiments][export]") {
  const OwnRun own;
  const FolderLock writer(own.folder / "runs/micro", "results.lock");
  CHECK(own.json_of("export runs/micro --subnet smallest --no-scores --to here.h5")["id"] == 0);
}

TEST_CASE("an export that a real consumer cannot run gets no name", "[experiments][export]") {
  const OwnRun own;
  // Imports whatever it is asked for, and runs nothing.
  const std::string python = own.folder.write("python", "#!/bin/sh\n[ $# -gt 2 ] || exit 0\necho none 1\n");
  fs::permissions(python, fs::perms::owner_all);
  const ProgramResult result =
      own.run("export runs/micro --subnet largest --format hf-llama --to model --check transformers --python", {python});
  CHECK(result.status == 1);
  CHECK_THAT(result.err, Catch::Matchers::Contains("export --check") && Catch::Matchers::Contains("nothing was written"));
  CHECK_FALSE(fs::exists(own.folder / "model"));
  for (const char* line : {"export runs/micro --subnet largest --check transformers --to model",  // not its format
                           "export runs/micro --subnet largest --format hf-llama --check transformers --python absent --to model",
                           "export runs/micro --subnet largest --format hf-llama --check transformer --to model",
                           "export runs/micro --subnet largest --format hf-llama --python python --to model"})
    CHECK(own.run(line).status == 2);
}

TEST_CASE("sampling repeats with its seed", "[experiments][export]") {
  const OwnRun own;
  const std::string line = "generate runs/micro --tokens 60 --temperature 1 --top-k 50 --top-p 0.95 --seed ";
  const json first = own.json_of(line + "1");
  CHECK(own.json_of(line + "1 --threads 1")["ids"] == first["ids"]);
  CHECK(own.json_of(line + "2")["ids"] != first["ids"]);
}

TEST_CASE("wrong uses of export and generate end in one line and write nothing", "[experiments][export]") {
  const OwnRun own;
  const std::string before = state_of(own.folder.path());
  for (const char* line :
       {"export runs/micro", "export runs/micro --subnet largest --format hf-gpt2 --to x",
        "export runs/micro --subnet largest --format hf-lama --to x", "export runs/micro --subnet largest --to absent/x",
        "export runs/micro --subnet largest --to text.txt", "export absent --subnet largest", "generate absent", "generate text.txt",
        "generate runs", "generate runs/micro --subnet e1:h1f1", "generate runs/micro --temperature -1"}) {
    INFO(line);
    CHECK(own.refused(line, "").out.empty());
  }
  CHECK(state_of(own.folder.path()) == before);
}

TEST_CASE("bytes become UTF-8 as soon as a character is complete", "[experiments][utf8]") {
  CHECK(valid_utf8("plain") == "plain");
  CHECK(valid_utf8("é€🙂") == "é€🙂");
  const std::string lost = "\xEF\xBF\xBD";
  CHECK(valid_utf8("\x80") == lost);
  CHECK(valid_utf8("a\xC3") == "a" + lost);
  CHECK(valid_utf8("\xC3"
                   "a") == lost + "a");
  CHECK(valid_utf8("\xE2\x82"
                   "b") == lost + "b");                     // one mark for the longest part that could have been a character
  CHECK(valid_utf8("\xC0\xAF") == lost + lost);             // overlong
  CHECK(valid_utf8("\xED\xA0\x80") == lost + lost + lost);  // a surrogate
  CHECK(valid_utf8("\xF4\x90\x80\x80") == lost + lost + lost + lost);
  CHECK(valid_utf8("\xE2\xE2\x82\xAC") == lost + "€");
  CHECK(valid_utf8("\xF0\x9F\x99\xFF") == lost + lost);
  Utf8Stream stream;
  CHECK(stream.take(0xE2).empty());
  CHECK(stream.take(0x82).empty());
  CHECK(stream.take(0xAC) == "€");
  CHECK(stream.finish().empty());
}

}  // namespace
}  // namespace elastiform
