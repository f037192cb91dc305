// What a person gets wrong ends in one line, status 2, and nothing written. Every case runs the real program.
#include <set>

#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

void check_silent(const std::vector<std::string>& arguments, const std::string& says) {
  INFO(says);
  CHECK(check_refused(micro_folder().path(), arguments, says).out.empty());
}

void check_all(const std::vector<std::pair<std::string, std::string>>& cases) {
  const auto before = state_of(micro_folder().path());
  for (const auto& [line, says] : cases) check_silent(words(line), says);
  CHECK((state_of(micro_folder().path()) == before));  // as one bool: a difference would fill the screen
}

TEST_CASE("wrong commands and options are refused in one line", "[experiments][wrong]") {
  check_all({
      {"", "expected a command"},
      {"trian micro.toml", "nearest train"},
      {"--jsno", "expected one of"},
      {"train", "a recipe or --resume"},
      {"train micro.toml --rnu x", "nearest --run"},
      {"train micro.toml extra", "no further argument, found extra"},
      {"train micro.toml --set", "expected a value, found nothing"},
      {"train micro.toml --run --json", "expected a value"},
      {"train micro.toml --run a --run b", "expected one value, found a, b"},
      {"train micro.toml --steps 10", "--resume with --steps"},
      {"train micro.toml --resume runs/micro", "no recipe"},
      {"train --resume runs/micro --run x", "no --run"},
      {"train --resume runs/micro --dry-run", "no --dry-run"},
      {"train micro.toml --dry-run=yes", "see elastiform train --help"},
      {"train micro.toml --memory-limit 0 --run x", "--memory-limit: expected bytes such as 512MiB or 1.5GiB, found \"0\""},
      {"train micro.toml --memory-limit abc --run x", "found \"abc\""},
      {"train micro.toml --memory-limit -1MiB --run x", "found \"-1MiB\""},
      {"train micro.toml --memory-limit 1e9 --run x", "found \"1e9\""},
      {"train micro.toml --memory-limit infMiB --run x", "found \"infMiB\""},
      {"train micro.toml --memory-limit 5MB --run x", "found \"5MB\""},
      {"train micro.toml --memory-limit 99999999TiB --run x", "found \"99999999TiB\""},
      {"train micro.toml --offload pinned --run x", "--offload pinned: expected --device cuda, found --device cpu"},
      {"train micro.toml --memory-limit 1KiB --run x", "KiB for this recipe, found 1KiB"},
      {"train micro.toml --memory-limit 1KiB --dry-run", "KiB for this recipe, found 1KiB"},
      {"train --resume runs/micro --memory-limit 1KiB", "KiB for this recipe, found 1KiB"},
      {"train micro.toml --threads 0", "an integer of at least 1, found 0"},
      {"train micro.toml --threads 100000", "--threads: expected at most 256, found 100000"},
      {"train micro.toml --threads two", "an integer of at least 1, found two"},
      {"cost", "expected run-or-recipe, found nothing"},
      {"sample micro.toml --law uniformly", "nearest uniform"},
      {"sample micro.toml --count 0", "an integer of at least 1, found 0"},
      {"sample micro.toml --count 1e3", "an integer of at least 1, found 1e3"},
      {"sample micro.toml --seed -1", "an integer of at least 0, found -1"},
      {"sample micro.toml --count 99999999999999999999", "an integer of at least 1"},
      {"sample micro.toml -n 3", "a known option, found -n"},
  });
}

TEST_CASE("wrong recipes, runs and settings are refused in one line", "[experiments][wrong]") {
  const auto& folder = micro_folder();
  folder.write("broken.toml", "[train\n");
  folder.write("unknown.toml", micro_recipe() + "evalutions = 3\n");
  folder.write("small.txt", "too small");
  folder.write("empty/keep.toml", "");
  check_all({
      {"train none.toml", "recipe none.toml: expected a TOML file, found nothing"},
      {"train empty", "recipe empty: expected a TOML file, found something else"},
      {"train broken.toml --run x", "recipe broken.toml line 1"},
      {"train unknown.toml --run x", "nearest evaluations"},
      {"train micro.toml", "expected a folder that does not exist, found a run"},
      {"train micro.toml --run text.txt", "found something else"},
      {"train micro.toml --run x --set train.rate=fast", "train.rate: expected a number"},
      {"train micro.toml --run x --set train.stesp=4", "nearest steps"},
      {"train micro.toml --run x --set traim.steps=4", "nearest train"},
      {"train micro.toml --run x --set train.steps", "table.key=value"},
      {"train micro.toml --run x --set data.text=none.txt", "none.txt"},
      {"train micro.toml --run x --set data.text=small.txt", "small.txt"},
      {"train micro.toml --run x --set search.budgets=parameters", "parameters"},
      {"train micro.toml --run x --set search.budgets=parameters=..2X", "2X"},
      {"train --resume none", "a run folder, found none"},
      {"train --resume empty", "a run folder, found none"},
      {"train --resume runs/micro --set train.rate=1", "found train.rate"},
      {"train --resume runs/micro --set space.embed=64", "found space.embed"},
      {"train --resume runs/micro --steps 10", "at least the run's 60"},
      {"train --resume runs/micro --steps 90", "before the decay began"},
      {"train --resume runs/micro --set data.text=micro.toml", "micro.toml"},
      {"space none", "recipe none"},
      {"space empty", "a folder without recipe.toml"},
      {"cost text.txt", "recipe text.txt"},
  });
}

TEST_CASE("wrong subnets and budgets are refused in one line", "[experiments][wrong]") {
  check_all({
      {"cost micro.toml --subnet huge", "subnet huge"},
      {"cost micro.toml --subnet e32", "subnet e32"},
      {"cost micro.toml --subnet e32:h1f65", "nearest e32:h1f64"},
      {"cost micro.toml --subnet e48:h1f64", "embed is 48; micro.toml allows 16, 32"},
      {"cost micro.toml --subnet e32:3xh1f64", "depth is 3"},
      {"cost micro.toml --subnet e32:h9f64", "block 0 has 9 heads"},
      {"cost micro.toml --subnet e32:h0f0", "e32:h0f0"},
      {"cost micro.toml --subnet e32:2xh1f64@0-5", "subnet e32:2xh1f64@0-5"},
      {"cost micro.toml --subnet e32:h1f99999999999999999999", "subnet"},
      {"cost micro.toml --subnet 3", "an id"},
      {"cost runs/micro --subnet 999", "an id of runs/micro"},
      {"sample micro.toml --budget parameters", "parameters"},
      {"sample micro.toml --budget parameter=..2M", "nearest parameters"},
      {"sample micro.toml --budget parameters=..10", "nearest parameters"},
      {"sample micro.toml --budget parameters=2M..1M", "parameters=2M..1M"},
      {"sample micro.toml --budget latency=..5ms", "latency"},
      {"sample micro.toml --budget parameters=..60% --budget macs=..1", "macs"},
      {"sample micro.toml --deployable hf-lama", "nearest hf-llama"},
      {"sample micro.toml --deployable hf-gpt2", "hf-gpt2"},
      {"sample micro.toml --count 1000000", "at most the"},
      {"space micro.toml --budget =..3", "budget"},
  });
}

TEST_CASE("wrong searches, exports and generations are refused in one line", "[experiments][wrong]") {
  check_all({
      {"search none", "none: expected a run folder, found nothing"},
      {"search .", ".: expected a run folder"},
      {"search micro.toml", "micro.toml: expected a run folder"},
      {"search runs/micro --budget parameters=..10", "nearest parameters"},
      {"search runs/micro --budget flops=..10", "budget flops=..10"},
      {"search runs/micro --algorithm evolve", "nearest evolution"},
      {"search runs/micro --law balance", "nearest balanced"},
      {"search runs/micro --evaluations 0", "an integer of at least 1"},
      {"search runs/micro --deployable torchscript", "hf-llama"},
      {"search runs/micro --deployable hf-gpt2", "hf-gpt2"},
      {"front none", "a run folder"},
      {"front runs/micro --budget parameters=3", "budget parameters=3"},
      {"show runs/micro", "expected id, found nothing"},
      {"show runs/micro 99", "99"},
      {"show runs/micro largest", "largest"},
      {"evaluate runs/micro --split train", "nearest"},
      {"evaluate runs/micro --subnet e32:h7f64", "nearest e32:h2f64"},
      {"evaluate runs/micro --subnet 5", "an id of runs/micro"},
      {"evaluate runs/micro --against e1:h1f1", "embed is 1"},
      {"evaluate runs/micro --subnets none.txt", "a file of subnets, one a line"},
      {"evaluate runs/micro --subnets text.txt", "text.txt:1: subnet"},
      {"evaluate runs/micro --subnets runs", "a folder, runs"},
      {"evaluate runs/micro --subnets text.txt --subnet middle", "no --subnet and --against"},
      {"evaluate runs/micro --subnets text.txt --split report", "--split search"},
      {"export runs/micro --subnet largest --format hf-lama --to x", "nearest hf-llama"},
      {"export runs/micro --subnet largest --format hf-gpt2 --to x", "hf-gpt2"},
      {"export runs/micro --subnet e32:h1f64,h2f64 --format hf-llama --to x", "hf-llama"},
      {"export runs/micro --subnet largest --to text.txt", "text.txt"},
      {"export none --subnet largest --to x", "a run folder"},
      {"generate none --prompt a", "none"},
      {"generate text.txt --prompt a", "text.txt"},
      {"generate runs/micro --subnet e9:h1f1 --prompt a", "embed is 9"},
      {"generate runs/micro --prompt a --temperature -1", "a number from 0 to 1000, found -1"},
      {"generate runs/micro --prompt a --top-p 2", "found 2"},
      {"generate runs/micro --prompt a --tokens many", "found many"},
      {"inspect none", "none"},
      {"inspect text.txt", "text.txt"},
      {"demo --recipe none.toml", "recipe none.toml"},
      {"demo --recipe micro.toml --text none.txt", "none.txt"},
      {"demo micro.toml", "no further argument, found micro.toml"},
  });
}

// Every option that --help shows, once with two letters swapped: the answer names the option that was meant.
TEST_CASE("a typo of any option names the option", "[experiments][wrong]") {
  const auto& folder = micro_folder();
  const auto before = state_of(folder.path());
  const auto help = run_program_in(folder.path(), {"--help"});
  CHECK(help.status == 0);
  std::size_t options = 0, commands = 0;
  for (const std::string command :
       {"train", "space", "sample", "cost", "search", "front", "show", "evaluate", "export", "finetune", "generate", "inspect", "demo"}) {
    commands += help.out.find("\n  " + command + " ") != std::string::npos ? 1 : 0;
    std::set<std::string> names;
    for (const auto& word : words(run_program_in(folder.path(), {command, "--help"}).out))
      if (word.rfind("--", 0) == 0 && word.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string::npos)
        names.insert(word);
    for (const auto& name : names) {
      auto typo = name;
      const auto place = typo.size() / 2;
      if (typo[place] == typo[place - 1]) typo += "z";
      else std::swap(typo[place], typo[place - 1]);
      check_silent({command, typo, "1"}, "found " + typo + "; nearest " + name + ";");
      ++options;
    }
  }
  CHECK(commands == 13);
  CHECK(options > 60);
  CHECK((state_of(folder.path()) == before));  // as one bool: a difference would fill the screen
}

}  // namespace
}  // namespace elastiform
