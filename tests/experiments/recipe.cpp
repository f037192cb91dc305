#include "experiments/elastiform/recipe.hpp"

#include <algorithm>
#include <sstream>

#include "kernels/errors.hpp"
#include "tests/experiments/program.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

std::string message_of(const std::string& toml, const std::vector<std::string>& set = {}) {
  return input_error([&] { Recipe::parse(toml, "micro.toml", set); });
}

// The micro recipe with one line replaced or added.
std::string with(const std::string& line, const std::string& instead) {
  auto text = micro_recipe();
  const auto at = text.find(line);
  REQUIRE(at != std::string::npos);
  return text.replace(at, line.size(), instead);
}

std::string number_of_line(const std::string& toml, const std::string& content) {
  const auto before = toml.substr(0, toml.find(content));
  return std::to_string(1 + std::count(before.begin(), before.end(), '\n'));
}

bool same(const Recipe& a, const Recipe& b) {
  return a.space == b.space && a.train == b.train && a.stages == b.stages && a.deploy == b.deploy && a.text() == b.text();
}

TEST_CASE("a resolved recipe reads back equal", "[experiments][recipe]") {
  const auto set =
      GENERATE(as<std::vector<std::string>>{}, std::vector<std::string>{},
               std::vector<std::string>{"model.preset=gpt2", "train.steps=61", "train.rate=0.1", "train.seed=7"},
               std::vector<std::string>{"model.rope_scaling=linear", "model.rope_factor=2.5"},
               std::vector<std::string>{"model.rope_scaling=llama3", "model.rope_factor=8", "model.rope_low_freq_factor=1.5",
                                        "model.rope_high_freq_factor=6", "model.rope_original_context=64"},
               std::vector<std::string>{"space.pin=0.heads=2", "model.tied=false", "search.budgets=parameters=..50%,macs=..60%"},
               std::vector<std::string>{"space.pin=1.ffn=24", "model.queries_per_group=2", "space.heads=2,4"},
               std::vector<std::string>{"space.pin=embed=32", "deploy.phase=prefill", "deploy.context=16", "search.stride=8"},
               std::vector<std::string>{"space.pin=depth=1", "data.text=a \"b\"\\c\td", "model.branch_scale=1"});
  CAPTURE(set);
  const auto recipe = Recipe::parse(micro_recipe(), "micro.toml", set);
  const auto again = Recipe::parse(recipe.text(), "resolved");
  CHECK(same(recipe, again));
  CHECK(again.data.text == recipe.data.text);
  CHECK(again.search.budgets == recipe.search.budgets);
}

TEST_CASE("presets, defaults and pins give the documented space", "[experiments][recipe]") {
  const auto llama = Recipe::parse(micro_recipe(), "micro.toml");
  CHECK(llama.space.model().norm == Norm::rms);
  CHECK(llama.space.model().vocabulary == 256);
  CHECK(llama.space.model().branch_scale == Approx(0.5));  // (2 · 2)^-1/2
  CHECK(llama.deploy.context == 32);
  CHECK(llama.search.stride == 32);
  REQUIRE(llama.stages.size() == 1);
  CHECK(llama.stages[0].sampler == "balanced");
  CHECK(llama.stages[0].largest + llama.stages[0].smallest == 0);
  CHECK(llama.stages[0].steps == 60);

  const auto gpt2 = Recipe::parse(micro_recipe(), "micro.toml", {"model.preset=gpt2", "model.norm=rms", "model.biases=false"});
  CHECK(gpt2.space.model().positions == Positions::learned);
  CHECK(gpt2.space.model().norm == Norm::rms);
  CHECK_FALSE(gpt2.space.model().biases);

  const auto pinned =
      Recipe::parse(with("ffn_ratio = [2, 4]", "ffn_ratio = [2, 4]\npin = [\"0.heads=2\", \"1.ffn_ratio=4\", \"embed=16\"]"), "m");
  CHECK(pinned.space.embed() == std::vector<int>{16});
  CHECK(pinned.space.blocks()[0].heads == std::vector<int>{2});
  CHECK(pinned.space.blocks()[0].ffn.at(16) == std::vector<int>{32, 64});
  CHECK(pinned.space.blocks()[1].heads == std::vector<int>{1, 2});
  CHECK(pinned.space.blocks()[1].ffn.at(16) == std::vector<int>{64});
  // Every block pinned to another choice: the resolved recipe lists them all, so its own pins stay inside its lists.
  const auto each = Recipe::parse(with("ffn_ratio = [2, 4]", "ffn_ratio = [2, 4]\npin = [\"0.heads=1\", \"1.heads=2\"]"), "m");
  CHECK(Recipe::parse(each.text(), "resolved").space == each.space);
  const auto named = Recipe::parse(micro_recipe(), "m", {"model.norm=layer", "model.ffn=gelu"});
  CHECK(named.space.model().norm == Norm::layer);
  CHECK(named.space.model().ffn == FeedForwardKind::gelu_tanh);
  CHECK_THAT(named.text(), Contains("norm = \"layernorm\"") && Contains("ffn = \"gelu_tanh\""));
}

TEST_CASE("a residual rule brings its constants, and only one of them a branch scale that can be set", "[experiments][recipe][residual]") {
  const auto plain = Recipe::parse(micro_recipe(), "m");
  CHECK(plain.space.model().residual == ResidualRule::branch_scale);
  for (const ResidualRuleEntry* rule : residual_rules()) {
    const std::string name(rule->name);
    CAPTURE(name);
    const auto recipe = Recipe::parse(micro_recipe(), "m", {"model.residual=" + name, "model.tied=false"});
    const ModelConfig& model = recipe.space.model();
    CHECK(model.residual == rule->rule);
    CHECK(model.branch_scale == rule->constants(2).branch_scale);  // the largest depth
    CHECK(model.skip_scale == rule->constants(2).skip_scale);
    CHECK(Recipe::parse(recipe.text(), "resolved").space == recipe.space);
    if (rule->rule != ResidualRule::branch_scale)
      CHECK_THAT(message_of(micro_recipe(), {"model.residual=" + name, "model.tied=false", "model.branch_scale=1"}),
                 Contains("branch_scale") && Contains(name));
  }
  CHECK_THAT(message_of(micro_recipe(), {"model.residual=rezer"}), Contains("rezero"));
  CHECK_THAT(message_of(micro_recipe(), {"model.residual=fixup"}), Contains("tied = false"));
}

TEST_CASE("numbers of a scaling of rotary positions stand only beside a rule that reads them", "[experiments][recipe]") {
  const auto scaled = Recipe::parse(micro_recipe(), "m", {"model.rope_scaling=llama3", "model.rope_factor=8"});
  CHECK(scaled.space.model().rope_scaling == RopeScaling{.kind = RopeStretch::llama3, .factor = 8});
  CHECK_THAT(message_of(micro_recipe(), {"model.rope_factor=8"}), Contains("rope_factor") && Contains("only with model.rope_scaling"));
  CHECK_THAT(message_of(micro_recipe(), {"model.rope_scaling=linear"}), Contains("rope_factor"));
  CHECK_THAT(message_of(micro_recipe(), {"model.rope_scaling=linear", "model.rope_factor=1"}), Contains("above 1"));
  CHECK_THAT(message_of(micro_recipe(), {"model.rope_scaling=linear", "model.rope_factor=2", "model.rope_original_context=64"}),
             Contains("rope_original_context") && Contains("llama3"));
  CHECK_THAT(message_of(micro_recipe(), {"model.rope_scaling=yarn"}), Contains("linear"));
  CHECK_THAT(message_of(micro_recipe(), {"model.preset=gpt2", "model.rope_scaling=linear", "model.rope_factor=2"}), Contains("learned"));
}

TEST_CASE("stages resolve to steps and stay where they are", "[experiments][recipe]") {
  const auto stages =
      with("[search]", "[[stage]]\nshare = 0.25\nsampler = \"largest\"\n[[stage]]\nshare = 0.75\nsampler = \"sandwich\"\n[search]");
  const auto recipe = Recipe::parse(stages, "micro.toml");
  REQUIRE(recipe.stages.size() == 2);
  CHECK(recipe.stages[0].steps == 15);
  CHECK(recipe.stages[1].steps == 45);
  CHECK(Recipe::parse(stages, "m", {"stage.1.random=3"}).stages[1].random == 3);
  CHECK_THAT(message_of(recipe.text(), {"train.steps=61"}), Contains("steps that add up to train.steps = 61"));
  CHECK_THAT(message_of(stages, {"stage.2.share=1"}), Contains("an index from 0 to 1"));
  CHECK_THAT(message_of(stages, {"stage.0.share=0.5"}), Contains("shares that add up to 1"));
}

TEST_CASE("unknown keys name the nearest known key, the file and the line", "[experiments][recipe]") {
  struct Case {
    const char* line;
    const char* instead;
    const char* key;
    const char* nearest;
  };
  const auto c =
      GENERATE(Case{"steps = 60", "stepz = 60", "train.stepz", "steps"}, Case{"context = 32", "contxt = 32", "model.contxt", "context"},
               Case{"heads = [1, 2]", "heads = [1, 2]\nfnn = [3]", "space.fnn", "ffn"}, Case{"[search]", "[serach]", "serach", "search"},
               Case{"text = \"text.txt\"", "text = \"text.txt\"\ntokeniser = \"bytes\"", "data.tokeniser", "tokenizer"},
               Case{"evaluations = 6", "evalutions = 6", "search.evalutions", "evaluations"});
  const auto toml = with(c.line, c.instead);
  const auto message = message_of(toml);
  CHECK_THAT(message,
             Contains("recipe micro.toml line " + number_of_line(toml, std::string(c.key).substr(std::string(c.key).find('.') + 1))));
  CHECK_THAT(message, Contains(c.key));
  CHECK_THAT(message, Contains(std::string("nearest ") + c.nearest));
}

TEST_CASE("wrong values of a recipe are refused with the key and what was expected", "[experiments][recipe]") {
  struct Case {
    const char* set;
    const char* says;
  };
  const auto c = GENERATE(
      Case{"train.steps=0", "an integer from 1"}, Case{"train.steps=1.5", "an integer from 1"}, Case{"train.rate=fast", "a number from"},
      Case{"train.rate=nan", "a number from"}, Case{"train.rate=-1", "a number from"}, Case{"train.optimizer=adam", "nearest adamw"},
      Case{"train.step_rule=sham", "nearest sam"}, Case{"train.scale_rate=cubic", "linear"}, Case{"train.ema=1", "a number from"},
      Case{"train.noise_scale=true", "train.accumulation of 2 or more"}, Case{"train.policy=lazy", "lazy-local"},
      Case{"train.schedule=cosin", "nearest cosine"}, Case{"train.beta1=1", "a number from"}, Case{"model.preset=lama", "nearest llama"},
      Case{"model.family=cnn", "decoder, vit"}, Case{"model.tied=yes", "true or false"}, Case{"model.head_dim=7", "even"},
      Case{"model.ffn=relu", "gelu_"}, Case{"model.context=0", "an integer from 1"}, Case{"space.embed=a", "an integer from 1"},
      Case{"space.heads=", "an integer from 0"}, Case{"space.depth=9999", "an integer from 1 to 4096"},
      Case{"space.pin=0.heads", "0.heads=4"}, Case{"space.pin=9.heads=1", "a block from 0 to 1"},
      Case{"space.pin=0.heads=4", "one of 1, 2 of the list, found '0.heads=4'"}, Case{"space.pin=embed=48", "of the list"},
      Case{"space.pin=0.ffn_ratio=3", "one of 2, 4 of the list"}, Case{"search.tournament=9999", "tournament"},
      Case{"search.founders=-1", "founders"}, Case{"space.pin=0.hands=1", "nearest heads"}, Case{"space.pin=width=1", "nearest"},
      Case{"space.ffn=64", "either ffn or ffn_ratio"}, Case{"model.queries_per_group=3", "multiples"},
      Case{"data.splits=90,5", "three parts"}, Case{"data.splits=90,0,10", "an integer from 1"},
      Case{"data.split_block=4KB", "bytes such as"}, Case{"data.tokenizer=bpe", "bytes"}, Case{"deploy.phase=train", "prefill"},
      Case{"deploy.context=33", "an integer from 1 to 32"}, Case{"deploy.dtype=bf15", "nearest bf16"},
      Case{"train.precision=fp32", "nearest f32"}, Case{"search.algorithm=evolve", "evolution"},
      Case{"search.law=balance", "nearest balanced"}, Case{"search.budgets=parameter=..2M", "parameter"},
      Case{"search.budgets=parameters", "parameters"}, Case{"search.evaluations=-3", "an integer from 1"},
      Case{"train.steps", "table.key=value"}, Case{"steps=4", "table.key=value"}, Case{"train=4", "table.key=value"},
      Case{"train.steps.more=4", "a key inside a value"}, Case{"stage.x=1", "a list of 1 to 100 tables"}, Case{"", "table.key=value"},
      Case{"train.dropout=1", "a number from 0 to 0.99"});
  CAPTURE(c.set);
  CHECK_THAT(message_of(micro_recipe(), {c.set}), Contains(c.says));
}

TEST_CASE("keys that nothing reads are refused, naming what uses them", "[experiments][recipe]") {
  struct Case {
    std::vector<std::string> set;
    const char* says;
  };
  const auto stages =
      with("[search]", "[[stage]]\nshare = 0.25\nsampler = \"largest\"\n[[stage]]\nshare = 0.75\nsampler = \"sandwich\"\n[search]");
  const auto c = GENERATE(
      Case{{"train.schedule=cosine", "train.cooldown=0.1"},
           "--set train.cooldown=0.1: train.cooldown: expected only with train.schedule = wsd"},
      Case{{"train.schedule=constant", "train.final_rate=0.1"}, "train.final_rate: expected only with train.schedule = wsd or cosine"},
      Case{{"train.init=xaver"}, "nearest xavier"},
      Case{{"model.residual=admin", "train.init=gpt2"}, "train.init: expected only with model.residual = branch_scale"},
      Case{{"train.policy=dense", "train.band_warmup=5"}, "train.band_warmup: expected only with train.policy other than dense"},
      Case{{"stage.0.random=1"}, "stage.0.random: expected only with sampler = sandwich, found sampler = largest"},
      Case{{"stage.0.largest=0"}, "stage.0.largest: expected only with sampler = balanced"},
      Case{{"stage.1.smallest=0.5"}, "stage.1.smallest: expected only with sampler = balanced"},
      Case{{"stage.1.teacher_weight=0.5"}, "stage.1.teacher_weight: expected only with an objective that reads it"},
      Case{{"stage.1.objective=teacher", "stage.1.teacher_weight=0.5"}, "found objective = teacher"},
      Case{{"stage.1.temperature=2"}, "stage.1.temperature: expected only with an objective that reads it"},
      Case{{"stage.1.hidden_weight=2"}, "stage.1.hidden_weight: expected only with an objective that reads it"},
      Case{{"stage.1.objective=teacher", "stage.1.hidden_weight=-1"}, "stage.1.hidden_weight"},
      Case{{"train.optimizer=lion", "train.eps=1e-6"}, "train.eps: expected only with an optimizer that reads it, found optimizer = lion"},
      Case{{"train.momentum=0.8"}, "train.momentum: expected only with an optimizer that reads it, found optimizer = adamw"},
      Case{{"train.optimizer=lars", "train.nesterov=true"}, "train.nesterov: expected only with an optimizer that reads it"},
      Case{{"train.optimizer=lion", "train.policy=dense"}, "would go on moving"},
      Case{{"train.optimizer=lamb", "train.policy=dense"}, "norms over weights that a step does not use"},
      Case{{"train.rho=0.1"}, "train.rho: expected only with a step rule that reads it, found step_rule = plain"},
      Case{{"train.step_rule=sam", "train.sharp_share=0.5"}, "train.sharp_share: expected only with a step rule that reads it"},
      Case{{"train.step_rule=esam", "train.sharp_share=0"}, "train.sharp_share"},
      Case{{"train.step_rule=esam", "train.uphill_share=1.5"}, "train.uphill_share"},
      Case{{"train.step_rule=esam", "train.uphil_share=1"}, "nearest uphill_share"},
      Case{{"train.step_rule=esam", "train.dropout=0.1"}, "train.step_rule: expected train.dropout = 0"},
      Case{{"train.step_rule=sam", "train.look_every=5"}, "train.look_every: expected only with a step rule that reads it"},
      Case{{"train.base_sequences=8"}, "train.base_sequences: expected only with train.scale_rate = linear or sqrt"},
      Case{{"train.warmup=0.8"}, "warmup + cooldown of at most 1"});
  CAPTURE(c.set);
  CHECK_THAT(message_of(stages, c.set), Contains(c.says));
  for (const auto& used :
       {std::vector<std::string>{"train.schedule=cosine", "train.final_rate=0.1"},
        std::vector<std::string>{"stage.1.objective=labels+largest", "stage.1.temperature=2", "stage.1.hidden_weight=0.5"},
        std::vector<std::string>{"train.warmup=0.7"}, std::vector<std::string>{"train.policy=dense"},
        std::vector<std::string>{"train.optimizer=sgd", "train.nesterov=true"},
        std::vector<std::string>{"train.optimizer=lars", "train.trust=0.01"}, std::vector<std::string>{"train.optimizer=adafactor"},
        std::vector<std::string>{"train.optimizer=adamw8bit", "train.policy=dense", "train.ema=0.99"},
        std::vector<std::string>{"train.step_rule=looksam", "train.look_share=0.5", "train.adaptive=true"},
        std::vector<std::string>{"train.step_rule=esam", "train.uphill_share=0.75", "train.sharp_share=0.25"},
        std::vector<std::string>{"train.scale_rate=sqrt", "train.base_sequences=64", "train.accumulation=2", "train.noise_scale=true"},
        std::vector<std::string>{"train.schedule=constant", "train.warmup=0.9"}, std::vector<std::string>{"train.dropout=0.15"}}) {
    CAPTURE(used);
    const auto recipe = Recipe::parse(stages, "micro.toml", used);
    CHECK(same(recipe, Recipe::parse(recipe.text(), "resolved")));
  }
  CHECK_THAT(message_of(stages, {"stage.0.sampler=sandwhich"}), Contains("nearest sandwich"));
  CHECK_THAT(message_of(stages, {"stage.0.objective=label"}), Contains("nearest labels"));
}

TEST_CASE("founders stand in a resolved recipe", "[experiments][recipe]") {
  CHECK(Recipe::parse(micro_recipe(), "micro.toml").search.founders == 0);
  const auto recipe = Recipe::parse(micro_recipe(), "micro.toml", {"search.founders=3"});
  CHECK(Recipe::parse(recipe.text(), "resolved").search.founders == 3);
}

TEST_CASE("an optimizer brings its own usual values, and what a recipe says stands above them", "[experiments][recipe]") {
  auto text = micro_recipe();
  const auto with_lion = Recipe::parse(text, "micro.toml", {"train.optimizer=lion"});
  CHECK(with_lion.train.beta2 == 0.98);
  CHECK(with_lion.train.decay == 0.6);
  CHECK(Recipe::parse(text, "micro.toml", {"train.optimizer=lion", "train.beta2=0.9"}).train.beta2 == 0.9);
  CHECK(Recipe::parse(text, "micro.toml").train.beta2 == 0.95);
}

TEST_CASE("files that are no recipe end in one line", "[experiments][recipe]") {
  const TemporaryFolder folder;
  CHECK_THROWS_AS(Recipe::load(folder / "none.toml"), InputError);
  CHECK_THROWS_AS(Recipe::load(folder.path()), InputError);
  CHECK_THROWS_AS(Recipe::load(folder.write("large.toml", std::string(2 << 20, '#'))), InputError);
  CHECK_THAT(message_of("train = {"), Contains("recipe micro.toml line 1"));
  CHECK_THAT(message_of("a = 1979-05-27"), Contains("date"));
  CHECK_THAT(message_of(std::string("\0\x01\xff", 3)), Contains("recipe micro.toml line 1"));
  CHECK_THAT(message_of("data = 3"), Contains("a table"));
  CHECK_THAT(message_of(""), Contains("data.text"));
  std::string deep;
  for (int i = 0; i < 5000; ++i) deep += "[";
  CHECK_THAT(message_of("a = " + deep), Contains("recipe micro.toml"));
  // A path in the file is relative to the file, a typed one to where the user stands.
  const auto path = folder.write("sub/micro.toml", micro_recipe());
  CHECK(Recipe::load(path).data.text == folder / "sub/text.txt");
  CHECK(Recipe::load(path, {"data.text=other.txt"}).data.text == "other.txt");
}

TEST_CASE("docs/recipes.md explains every key, and its example is a recipe", "[experiments][recipe]") {
  const std::string page = content_of(ELASTIFORM_TEST_DATA "/../../docs/recipes.md");
  const auto begin = page.find("```toml\n") + 8;
  const auto example = Recipe::parse(page.substr(begin, page.find("```", begin) - begin), "docs/recipes.md");
  CHECK(example.stages.size() == 2);
  std::istringstream resolved(example.text());
  int keys = 0;
  for (std::string line; std::getline(resolved, line);) {
    if (line.find(" = ") == std::string::npos) continue;
    const auto key = "`" + line.substr(0, line.find(" = ")) + "`";
    CAPTURE(key);
    CHECK(page.find(key) != std::string::npos);
    ++keys;
  }
  CHECK(keys > 50);
}

}  // namespace
TEST_CASE("headers and keys that the TOML library takes for granted are refused", "[experiments][recipe][hostile]") {
  for (const char* text :
       {"[`", "[[`a]]", "[\x01]", "a.` = 1", "[a.`]", "= 1", "[[a].", "{`", "\xC3\xA9 = 1", "a = 1 \xC2\xA0", "a = '''x'''\xC3\xA9"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(Recipe::parse(text, "m"), InputError);
  }
  const auto foreign = with("text = \"text.txt\"", "text = \"t\xC3\xA9xt \\\" \xC3\xA9.txt\"  # \xC3\xA9 ' \"");
  CHECK(Recipe::parse(foreign, "m").data.text == "t\xC3\xA9xt \" \xC3\xA9.txt");
}

TEST_CASE("a gene is pinned once, however it is written", "[experiments][recipe]") {
  for (const char* pins : {"\"0.heads=1\", \"00.heads=2\"", "\"0.ffn_ratio=2\", \"0.ffn=64\"", "\"embed=16\", \"embed=16\""}) {
    CAPTURE(pins);
    CHECK_THAT(message_of(with("ffn_ratio = [2, 4]", "ffn_ratio = [2, 4]\npin = [" + std::string(pins) + "]")),
               Contains("each gene pinned once"));
  }
}

}  // namespace elastiform
