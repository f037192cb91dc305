// finetune, through the real program: a run becomes another one, which every command understands.
#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kSteps = " --steps 20 --set train.log_every=10 --set train.checkpoint_every=10";

TEST_CASE("a supernet is tuned into a run that evaluates, generates, searches and exports", "[experiments][finetune]") {
  const OwnRun own;
  const ProgramResult tuned = own.succeed("finetune runs/micro --rank 2 --run runs/tuned" + std::string(kSteps));
  CHECK_THAT(tuned.out, Contains("parameters learn") && Contains("next: elastiform evaluate runs/tuned"));
  // Rank 2 at the largest, 2 blocks: q, k, v 32x16, out 16x32, gate, up 32x128, down 128x32.
  CHECK_THAT(tuned.out, Contains("2,688 of "));
  const std::string recipe = content_of(own.folder / "runs/tuned/recipe.toml");
  CHECK_THAT(recipe, Contains("[tune]\nmethod = \"lora\"\nrank = 2\nalpha = 16\n"));
  CHECK(fs::file_size(own.folder / "runs/tuned/supernet.h5") < fs::file_size(own.folder / "runs/micro/supernet.h5") / 2);
  CHECK_THAT(own.succeed("inspect runs/tuned").out, Contains("tuned from: weights "));

  const json before = own.json_of("evaluate runs/micro --subnet middle"), after = own.json_of("evaluate runs/tuned --subnet middle");
  CHECK(after["loss"] != before["loss"]);
  CHECK(after["parameters"] == before["parameters"]);
  const json exported = own.json_of("export runs/tuned --subnet largest --format hf-llama --to model");
  CHECK(exported["difference"] < 1e-5);
  CHECK_THAT(content_of(own.folder / "model/README.md"), Contains("steps of fine-tuning, which followed the supernet's training"));
  const std::string prompt = " --tokens 20 --prompt the";
  CHECK(own.json_of("generate model" + prompt)["ids"] == own.json_of("generate runs/tuned --subnet largest" + prompt)["ids"]);
  CHECK(own.succeed("search runs/tuned --budget parameters=..80%").status == 0);
  // A tuning of a tuning begins with the merged weights.
  CHECK(own.succeed("finetune runs/tuned --method full --run runs/again" + std::string(kSteps)).status == 0);
}

TEST_CASE("a subnet is tuned alone: the new space is that subnet", "[experiments][finetune]") {
  const OwnRun own;
  const std::string plan =
      own.succeed("finetune runs/micro --subnet smallest --targets query,value --run runs/one" + std::string(kSteps)).out;
  CHECK_THAT(plan, Contains("space: 1 subnets") && Contains("e16:h1f32 "));
  CHECK(plan.find("e16:h1f32 ") == plan.rfind("e16:h1f32 "));  // smallest, middle and largest are one line
  CHECK(own.json_of("space runs/one")["size"] == "1");
  CHECK(own.json_of("evaluate runs/one --subnet largest")["subnet"] == "e16:h1f32");
  CHECK_THAT(content_of(own.folder / "runs/one/recipe.toml"), Contains("targets = [\"query\", \"value\"]"));
  CHECK(own.run("finetune runs/micro --subnet smallest --run runs/one" + std::string(kSteps)).status == 2);  // it stands there
}

TEST_CASE("a tuning of several ranks is evaluated, said and exported at each", "[experiments][finetune][ranks]") {
  const OwnRun own;
  own.succeed("finetune runs/micro --ranks 1,4 --run runs/ranked" + std::string(kSteps));
  CHECK_THAT(content_of(own.folder / "runs/ranked/recipe.toml"), Contains("[tune]\nmethod = \"lora\"\nranks = [1, 4]\nalpha = 16\n"));
  const json one = own.json_of("evaluate runs/ranked --subnet middle --rank 1"), four = own.json_of("evaluate runs/ranked --subnet middle"),
             four_again = own.json_of("evaluate runs/ranked --subnet middle --rank 4");
  CHECK(one["loss"] != four["loss"]);
  CHECK(four == four_again);
  CHECK(own.json_of("evaluate runs/ranked --subnet middle --rank 1")["loss"] == one["loss"]);
  const auto shown = [&](const json& row) { return own.succeed("show runs/ranked " + std::to_string(row["id"].get<int>())).out; };
  CHECK_THAT(shown(one), Contains("(at rank 1)"));
  CHECK_THAT(shown(four), !Contains("at rank") && !Contains("stale"));
  const json exported = own.json_of("export runs/ranked --subnet largest --rank 1 --format hf-llama --to model");
  CHECK(exported["difference"] < 1e-5);
  const std::string prompt = " --tokens 20 --prompt the";
  CHECK(own.json_of("generate model" + prompt)["ids"] == own.json_of("generate runs/ranked --subnet largest --rank 1" + prompt)["ids"]);
  CHECK(own.succeed("search runs/ranked --rank 1 --budget parameters=..80%").status == 0);
  CHECK(own.succeed("front runs/ranked --rank 1").status == 0);
  for (const auto& [line, says] : std::vector<std::pair<std::string, std::string>>{
           {"evaluate runs/ranked --subnet middle --rank 2", "one of 1, 4"},
           {"evaluate runs/micro --subnet middle --rank 2", "a run that lora has tuned"},
           {"generate model --rank 1 --prompt the", "leave --rank out"},
           {"finetune runs/micro --ranks 4,2", "ranks: expected two or more, ascending"},
           {"finetune runs/micro --ranks 4", "ranks: expected two or more, ascending"},
           {"finetune runs/micro --ranks 2,x", "as in 2,4,8"},
           {"finetune runs/micro --ranks 2,4 --rank 4", "leave --rank out"},
           {"finetune runs/micro --ranks 2,4 --method ssf", "--ranks: expected a method that takes it"}})
    own.refused(line, says);
}

TEST_CASE("a tuned prompt stays: it evaluates, generates, is exported as it is, and other formats refuse it",
          "[experiments][finetune][prompt]") {
  const OwnRun own;
  const ProgramResult tuned = own.succeed("finetune runs/micro --method prompt --tokens 5 --run runs/prompted" + std::string(kSteps));
  CHECK_THAT(tuned.out, Contains("160 of "));  // 5 vectors of 32
  CHECK_THAT(content_of(own.folder / "runs/prompted/recipe.toml"), Contains("[tune]\nmethod = \"prompt\"\ntokens = 5\n"));
  const json before = own.json_of("evaluate runs/micro --subnet largest"), after = own.json_of("evaluate runs/prompted --subnet largest");
  CHECK(after["loss"] != before["loss"]);
  CHECK(after["parameters"].get<int>() == before["parameters"].get<int>() + 5 * 32);
  own.succeed("export runs/prompted --subnet largest --to model");
  const std::string prompt = " --tokens 40 --prompt the";
  CHECK(own.json_of("generate model" + prompt)["ids"] == own.json_of("generate runs/prompted --subnet largest" + prompt)["ids"]);
  CHECK(own.succeed("search runs/prompted --budget parameters=..80%").status == 0);
  const ProgramResult refused = own.refused("export runs/prompted --subnet largest --format hf-llama --to other", "tuned with prompt");
  CHECK_THAT(refused.err, Contains("use --format elastiform"));
  CHECK_THAT(own.run("finetune runs/prompted --run runs/twice").err, Contains("tuned with prompt, which does not merge"));
}

TEST_CASE("a tuned prefix stays: it evaluates, generates and is exported as it is", "[experiments][finetune][prompt]") {
  const OwnRun own;
  const ProgramResult tuned = own.succeed("finetune runs/micro --method prefix --keys 5 --run runs/prefixed" + std::string(kSteps));
  CHECK_THAT(tuned.out, Contains("320 of "));  // 2 blocks, keys and values of 5 x 16
  CHECK_THAT(content_of(own.folder / "runs/prefixed/recipe.toml"), Contains("[tune]\nmethod = \"prefix\"\nkeys = 5\n"));
  CHECK(own.json_of("evaluate runs/prefixed --subnet middle")["loss"] != own.json_of("evaluate runs/micro --subnet middle")["loss"]);
  own.succeed("export runs/prefixed --subnet largest --to model");
  const std::string prompt = " --tokens 40 --prompt the";
  CHECK(own.json_of("generate model" + prompt)["ids"] == own.json_of("generate runs/prefixed --subnet largest" + prompt)["ids"]);
  CHECK_THAT(own.run("export runs/prefixed --subnet largest --format gguf-f16 --to other").err, Contains("tuned with prefix"));
}

TEST_CASE("smaller subnets of a tuning can learn from the largest", "[experiments][finetune]") {
  const OwnRun own;
  own.succeed("finetune runs/micro --distill --run runs/taught" + std::string(kSteps));
  CHECK_THAT(content_of(own.folder / "runs/taught/recipe.toml"), Contains("objective = \"labels+largest\""));
}

TEST_CASE("a subnet that is tuned alone can learn from the run's largest, or from what taught the run",
          "[experiments][finetune][teacher]") {
  const OwnRun own;
  const std::string subnet = "finetune runs/micro --subnet smallest --method full --distill --run ";
  CHECK_THAT(own.succeed(subnet + "runs/x --dry-run").out, Contains("teacher: e32:"));
  CHECK_FALSE(fs::exists(own.folder / "runs/x"));
  const std::string out = own.succeed(subnet + "runs/one --threads 1" + std::string(kSteps)).out;
  CHECK_THAT(out, Contains("+ teacher ") && Contains("teacher: e32:"));
  const std::string recipe = content_of(own.folder / "runs/one/recipe.toml");
  CHECK_THAT(recipe, Contains("[teacher]\nsubnet = \"e32:") && Contains("objective = \"labels+teacher\""));
  CHECK_THAT(own.succeed("inspect runs/one").out, Contains("taught by: e32:"));
  CHECK(own.json_of("space runs/one")["size"] == "1");

  const auto stop = [](int process, const std::string& line) {
    if (line.find("step 10") != std::string::npos) ::kill(process, SIGINT);
  };
  const auto part = run_program_in(own.folder.path(), words(subnet + "runs/part --threads 2" + std::string(kSteps)), stop);
  REQUIRE((part.status == 130 || part.status == 0));
  const auto of_teacher = [](const std::string& text) {
    const auto begin = text.find(" + teacher ");
    return text.substr(begin, text.find(" + activations") - begin);
  };
  CHECK(of_teacher(own.succeed("train --resume runs/part --threads 2").out) == of_teacher(out));  // in memory of its own, as before
  const auto hash = [&](const std::string& run) { return own.json_of("evaluate " + run + " --subnet largest")["weights_hash"]; };
  CHECK(hash("runs/part") == hash("runs/one"));
  own.succeed("finetune runs/micro --subnet smallest --method full --run runs/plain" + std::string(kSteps));
  CHECK(hash("runs/plain") != hash("runs/one"));

  // A tuning of it keeps the teacher, not the run's largest.
  own.succeed("finetune runs/one --subnet largest --distill --run runs/two" + std::string(kSteps));
  const auto line_of = [](const std::string& toml) { return toml.substr(toml.find("[teacher]"), 100); };
  CHECK(line_of(content_of(own.folder / "runs/two/recipe.toml")) == line_of(recipe));

  // A finalist of a search learns from labels alone.
  own.succeed("search runs/one --finalists 1 --finetune-steps 5 --algorithm homogeneous");
  for (const auto& finalist : fs::directory_iterator(own.folder / "runs/one/finalists"))
    CHECK_THAT(content_of(finalist.path().string() + "/recipe.toml"), !Contains("[teacher]"));

  // Another teacher in its place, or none.
  fs::copy_file(own.folder / "runs/micro/supernet.h5", own.folder / "runs/two/teacher.h5", fs::copy_options::overwrite_existing);
  for (const bool absent : {false, true}) {
    if (absent) fs::remove(own.folder / "runs/two/teacher.h5");
    own.refused("train --resume runs/two", "runs/two/teacher.h5");
  }
  const ProgramResult scratch = own.run("train runs/one/recipe.toml --run runs/y --set stage.0.objective=labels");
  CHECK(scratch.status == 2);
}

TEST_CASE("a tuning that is stopped and resumed is the one that was not, and its base cannot change", "[experiments][finetune][resume]") {
  const OwnRun own;
  own.succeed("finetune runs/micro --run runs/whole --threads 1" + std::string(kSteps));
  const auto stop = [](int process, const std::string& line) {
    if (line.find("step 10") != std::string::npos) ::kill(process, SIGINT);
  };
  const auto part = run_program_in(own.folder.path(), words("finetune runs/micro --run runs/part" + std::string(kSteps)), stop);
  REQUIRE((part.status == 130 || part.status == 0));  // 0: it was over before the signal came
  own.succeed("train --resume runs/part");
  CHECK(own.succeed("inspect runs/part --digest").out == own.succeed("inspect runs/whole --digest").out);
  CHECK((content_of(own.folder / "runs/part/supernet.h5") == content_of(own.folder / "runs/whole/supernet.h5")));
  CHECK((content_of(own.folder / "runs/part/base.h5") == content_of(own.folder / "runs/whole/base.h5")));

  own.succeed("finetune runs/micro --method full --run runs/other" + std::string(kSteps));
  fs::copy_file(own.folder / "runs/other/supernet.h5", own.folder / "runs/part/base.h5", fs::copy_options::overwrite_existing);
  for (const char* line : {"evaluate runs/part --subnet largest", "train --resume runs/part"}) own.refused(line, "runs/part/");
}

TEST_CASE("what cannot be tuned is refused in one line", "[experiments][finetune][wrong]") {
  check_all_refused({
      {"finetune", "expected from, found nothing"},
      {"finetune none", "none: expected a run folder"},
      {"finetune runs/micro --method loar", "nearest lora"},
      {"finetune runs/micro --method bitfit", "a model with biases"},
      {"finetune runs/micro --method full --rank 4", "--rank: expected a method that takes it, found --method full"},
      {"finetune runs/micro --method bitfit --targets query", "--targets"},
      {"finetune runs/micro --keys 4", "--keys: expected a method that takes it"},
      {"finetune runs/micro --method prefix --keys 2000", "keys: expected 1 to 1024"},
      {"finetune runs/micro --tokens 4", "--tokens: expected a method that takes it"},
      {"finetune runs/micro --method prompt --tokens 2000", "tokens: expected 1 to 1024"},
      {"finetune runs/micro --method prompt --set train.tokens=importance", "a tuning without a prompt or prefix"},
      {"finetune runs/micro --rank 0", "an integer of at least 1"},
      {"finetune runs/micro --rank 5000", "rank: expected 1 to 4096"},
      {"finetune runs/micro --targets quary", "nearest query"},
      {"finetune runs/micro --subnet e32:h7f64", "nearest e32:h2f64"},
      {"finetune runs/micro --set model.norm_eps=0.001", "one that changes the network"},
      {"finetune runs/micro --set tune.base=0", "one that changes the network"},
      {"finetune runs/micro --set tune.rank=2", "one that changes the network or its tuning"},
      {"finetune runs/micro --set tune.alpha=4", "one that changes the network or its tuning"},
      {"finetune runs/micro --set teacher.subnet=e16:h1f32 --set teacher.weights=0", "one that changes the network"},
      {"finetune runs/micro --set train.rat=1", "nearest rate"},
      {"finetune runs/micro --text none.txt --run x", "none.txt"},
      {"finetune runs/micro --run runs/micro", "a run"},
  });
}

TEST_CASE("a recipe with [tune] belongs to a run", "[experiments][finetune][wrong]") {
  const TemporaryFolder folder;
  folder.write("text.txt", content_of(micro_folder() / "text.txt"));
  folder.write("tuned.toml", micro_recipe() + "[tune]\nmethod = \"lora\"\n");
  CHECK_THAT(run_program_in(folder.path(), words("train tuned.toml")).err, Contains("tune.base: expected the SHA-256"));
  folder.write("tuned.toml", micro_recipe() + "[tune]\nmethod = \"lora\"\nbase = \"0\"\n");
  CHECK_THAT(run_program_in(folder.path(), words("train tuned.toml")).err, Contains("elastiform finetune RUN begins a tuning"));
  folder.write("tuned.toml", micro_recipe() + "[tune]\nmethod = \"full\"\nrank = 3\nbase = \"0\"\n");
  CHECK_THAT(run_program_in(folder.path(), words("train tuned.toml")).err, Contains("tune.rank"));
}

}  // namespace
}  // namespace elastiform
