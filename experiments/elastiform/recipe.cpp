#include "experiments/elastiform/recipe.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>

#include "experiments/elastiform/recipe_data.hpp"
#include "experiments/elastiform/recipe_document.hpp"
#include "experiments/elastiform/recipe_space.hpp"
#include "experiments/elastiform/recipe_tuning.hpp"
#include "kernels/errors.hpp"
#include "kernels/parallel.hpp"
#include "search/budget.hpp"
#include "search/law.hpp"
#include "supernet/initialization.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/optimizers/optimizer.hpp"
#include "trainers/precision/precision_rule.hpp"
#include "trainers/running_stages.hpp"
#include "trainers/samplers/sampler.hpp"
#include "trainers/schedules/schedule.hpp"
#include "trainers/step_rules/step_rule.hpp"
#include "trainers/token_selection/token_selection.hpp"
#include "trainers/trainer.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kMost = std::int64_t{1} << 40;  // steps, evaluations: above any run, below what could overflow
constexpr int kByteVocabulary = 256;
constexpr std::size_t kMaxRecipe = 1 << 20;
constexpr std::int64_t kLoggedImages = 256;  // that live losses look at: a few percent of accuracy

template <class Entry>
std::vector<std::string_view> names_of(std::span<const Entry> entries) {
  std::vector<std::string_view> names;
  for (const Entry& entry : entries) names.push_back(entry.name);
  return names;
}

/// That what is there can work together, and that nothing is there that nothing reads.
void check_train(TableReader& table, const TrainOptions& train) {
  for (const char* key : kOptimizerKeys)
    table.only_with(key, find_optimizer(train.optimizer).reads(key), "an optimizer that reads it", "optimizer = " + train.optimizer);
  for (const char* key : kStepRuleKeys)
    table.only_with(key, find_step_rule(train.step_rule).reads(key), "a step rule that reads it", "step_rule = " + train.step_rule);
  check_step_rule(train, table.place("step_rule"));
  check_policy(train);
  table.only_with("base_sequences", scales_rate(train), "train.scale_rate = linear or sqrt", "scale_rate = " + train.scale_rate);
  check_noise_scale(train, table.place("noise_scale"));
  table.only_with("band_warmup", uses_band_warmup(train), "train.policy other than dense", "policy = " + train.policy);
  table.only_with("loss_scale", uses_loss_scale(train), "train.precision = fp16", "precision = " + train.precision);
  table.only_with("fp8_window", uses_fp8_window(train), "train.precision = fp8", "precision = " + train.precision);
  table.only_with("activation_bytes", uses_activation_bytes(train), "train.activations other than exact", "activations = exact");
  table.only_with("cooldown", uses_cooldown(train), "train.schedule = wsd", "schedule = " + train.schedule);
  table.only_with("final_rate", uses_final_rate(train), "train.schedule = wsd or cosine", "schedule = " + train.schedule);
  for (const char* key : {"tokens_kept", "tokens_step"})
    table.only_with(key, uses_tokens_kept(train), "train.tokens other than all", "tokens = " + train.tokens);
  table.only_with("tokens_full", uses_tokens_full(train), "train.tokens = random_ltd", "tokens = " + train.tokens);
  if (uses_cooldown(train) && train.warmup + train.cooldown > 1 + 1e-9)  // decimal shares of 1 may add up to a bit more
    throw InputError({table.place("cooldown"), "warmup + cooldown of at most 1", fmt::format("{}", train.warmup + train.cooldown), ""});
}

void read_augmentation(TableReader& table, TrainOptions& train, bool images) {
  Augmentation& a = train.augmentation;
  train.label_smoothing = table.number("label_smoothing", train.label_smoothing, 0, 0.999);
  a.crop = table.small_integer("crop", a.crop, 0, 1 << 12);
  a.flip = table.number("flip", a.flip, 0, 1);
  a.mixup = table.number("mixup", a.mixup, 0, 100);
  a.cutmix = table.number("cutmix", a.cutmix, 0, 100);
  for (const char* key : {"crop", "flip", "mixup", "cutmix"}) table.only_with(key, images, "data.images", "text");
}

// An image that is moved by its whole side is gone.
void check_crop(const Augmentation& augmentation, const ModelConfig& model, std::string_view where) {
  const int side = std::min(model.image.height, model.image.width);
  if (model.classifies() && augmentation.crop >= side)
    throw InputError({fmt::format("recipe {}: train.crop", where), fmt::format("less than the image's {} pixels", side),
                      std::to_string(augmentation.crop), ""});
}

void read_init(TableReader& table, TrainOptions& train, const ModelConfig& model) {
  train.init = table.choice("init", train.init, names_of(inits()));
  table.only_with("init", uses_init(model), "model.residual = branch_scale, branch_scale_by_depth or layerscale",
                  fmt::format("residual = {}, which has first weights of its own", residual_rule(model.residual).name));
}

TrainOptions read_train(const RecipeValue& document, std::string_view where, const ModelConfig& model) {
  TableReader table(document.find("train"), "train", where);
  TrainOptions train;
  if (model.classifies()) train.log_segments = kLoggedImages;
  train.steps = table.integer("steps", train.steps, 1, kMost);
  train.sequences = table.small_integer("sequences", train.sequences, 1, 1 << 16);
  train.accumulation = table.small_integer("accumulation", train.accumulation, 1, 1 << 16);
  // Each sequence of a step draws from a stream of its own, and streams are numbered with 24 bits.
  if (static_cast<std::int64_t>(train.sequences) * train.accumulation > std::int64_t{1} << 24)
    throw InputError({table.place("accumulation"), "at most 16777216 sequences a step",
                      fmt::format("{} x {}", train.accumulation, train.sequences), "fewer micro-batches, or smaller ones"});
  train.seed = static_cast<std::uint64_t>(table.integer("seed", 0, 0, INT64_MAX));
  read_init(table, train, model);
  train.precision = table.choice("precision", train.precision, names_of(precisions()));
  train.loss_scale = table.number("loss_scale", train.loss_scale, 1, 0x1p24);
  train.fp8_window = table.small_integer("fp8_window", train.fp8_window, 1, 1 << 16);
  train.activations = table.choice("activations", train.activations, {"exact", "8bit", "4bit", "2bit", "auto"});
  train.activation_bytes = table.bytes("activation_bytes", train.activation_bytes);
  train.optimizer = table.choice("optimizer", train.optimizer, names_of(optimizers()));
  find_optimizer(train.optimizer).set_defaults(train);
  train.rate = table.number("rate", train.rate, 1e-12, 100);
  train.beta1 = table.number("beta1", train.beta1, 0, 0.999999);
  train.beta2 = table.number("beta2", train.beta2, 0, 0.999999);
  train.eps = table.number("eps", train.eps, 1e-30, 1);
  train.momentum = table.number("momentum", train.momentum, 0, 0.999999);
  train.nesterov = table.boolean("nesterov", train.nesterov);
  train.trust = table.number("trust", train.trust, 1e-12, 1e6);
  train.decay = table.number("decay", train.decay, 0, 100);
  train.dropout = table.number("dropout", train.dropout, 0, 0.99);
  read_augmentation(table, train, model.classifies());
  train.policy = table.choice("policy", train.policy, {"dense", "lazy-global", "lazy-local", "catch-up"});
  train.band_warmup = table.integer("band_warmup", train.band_warmup, 0, kMost);
  train.step_rule = table.choice("step_rule", train.step_rule, names_of(step_rules()));
  train.rho = table.number("rho", train.rho, 0, 1e6);
  train.adaptive = table.boolean("adaptive", train.adaptive);
  train.look_every = table.integer("look_every", train.look_every, 2, kMost);
  train.look_share = table.number("look_share", train.look_share, 0, 1e6);
  train.uphill_share = table.number("uphill_share", train.uphill_share, 0.01, 1);
  train.sharp_share = table.number("sharp_share", train.sharp_share, 0.001, 1);
  train.scale_rate = table.choice("scale_rate", train.scale_rate, {"none", "linear", "sqrt"});
  train.base_sequences = table.integer("base_sequences", train.base_sequences, 1, kMost);
  train.ema = table.number("ema", train.ema, 0, 0.9999999);
  train.noise_scale = table.boolean("noise_scale", train.noise_scale);
  train.schedule = table.choice("schedule", train.schedule, names_of(schedules()));
  train.warmup = table.number("warmup", train.warmup, 0, 1);
  train.cooldown = table.number("cooldown", train.cooldown, 0, 1);
  train.final_rate = table.number("final_rate", train.final_rate, 0, 1);
  train.clip = table.number("clip", train.clip, 0, 1e9);
  train.tokens = table.choice("tokens", train.tokens, names_of(token_selections()));
  train.tokens_kept = table.number("tokens_kept", train.tokens_kept, 0, 1);
  train.tokens_step = table.small_integer("tokens_step", train.tokens_step, 1, 1 << 24);
  train.tokens_full = table.number("tokens_full", train.tokens_full, 0, 1);
  train.log_every = table.integer("log_every", train.log_every, 1, kMost);
  train.log_segments = table.integer("log_segments", train.log_segments, 1, kMost);
  train.checkpoint_every = table.integer("checkpoint_every", train.checkpoint_every, 1, kMost);
  table.finish();
  check_train(table, train);
  return train;
}

Stage read_stage(TableReader& table) {
  Stage stage;
  stage.share = table.number("share", stage.share, 0, 1);
  stage.steps = table.integer("steps", 0, 0, kMost);
  stage.sampler = table.choice("sampler", stage.sampler, names_of(subnet_samplers()));
  stage.objective = table.choice("objective", stage.objective, names_of(objectives()));
  stage.largest = table.number("largest", stage.largest, 0, 1);
  stage.smallest = table.number("smallest", stage.smallest, 0, 1);
  stage.random = table.small_integer("random", stage.random, 0, 64);
  stage.teacher_weight = table.number("teacher_weight", stage.teacher_weight, 0, 1);
  stage.temperature = table.number("temperature", stage.temperature, 0.01, 100);
  stage.hidden_weight = table.number("hidden_weight", stage.hidden_weight, 0, 1e6);
  stage.mask_ratio = table.number("mask_ratio", stage.mask_ratio, 0.01, 0.99);
  stage.normalize_patches = table.boolean("normalize_patches", stage.normalize_patches);
  table.finish();
  for (const char* key : {"largest", "smallest"})
    table.only_with(key, uses_ends(stage), "sampler = balanced", "sampler = " + stage.sampler);
  table.only_with("random", uses_random(stage), "sampler = sandwich", "sampler = " + stage.sampler);
  for (const char* key : kObjectiveKeys)
    table.only_with(key, find_objective(stage.objective).reads(key), "an objective that reads it", "objective = " + stage.objective);
  if (stage.largest + stage.smallest > 1)
    throw InputError({table.place("largest"), "largest + smallest of at most 1", fmt::format("{}", stage.largest + stage.smallest), ""});
  return stage;
}

// Refuses what masks cannot have, and a decoder that no stage would train.
void check_decoder(const SearchSpace& space, const TrainOptions& train, const std::vector<Stage>& stages, std::string_view where) {
  bool masks = false;
  for (const Stage& stage : stages)
    if (const auto objective = make_objective(stage); objective->mask_ratio() > 0) masking_of(space, train, *objective), masks = true;
  if (space.model().decoder.present() && !masks)
    throw InputError({fmt::format("recipe {}: model.decoder_embed", where), "none, where no stage has objective = masked_patches",
                      "a decoder", "remove model.decoder_embed, decoder_depth and decoder_heads"});
}

std::vector<Stage> read_stages(const RecipeValue& document, std::string_view where, std::int64_t steps) {
  const auto* list = document.find("stage");
  std::vector<Stage> stages;
  std::int64_t in_steps = 0, sum = 0;
  if (list == nullptr) {
    stages = {Stage{}};  // what won docs/survey.md's training_recipe: draws of the balanced sampler, nothing else
  } else if (list->kind != RecipeValue::Kind::list || list->items.empty() || list->items.size() > 100) {
    throw InputError({list->place + ": stage", "a list of 1 to 100 tables", list->shown(), "see docs/recipes.md"});
  } else {
    for (std::size_t i = 0; i < list->items.size(); ++i) {
      TableReader table(&list->items[i], fmt::format("stage.{}", i), where);
      stages.push_back(read_stage(table));
      in_steps += table.has("steps") ? 1 : 0;
      sum += stages.back().steps;
    }
  }
  if (in_steps == 0) resolve_stages(stages, steps);
  // A run's resolved recipe: boundaries are steps, and stay where they are.
  else if (in_steps != static_cast<std::int64_t>(stages.size()) || sum != steps)
    throw InputError({fmt::format("recipe {}: stage", where), fmt::format("steps that add up to train.steps = {}", steps),
                      fmt::format("{} in {} of {} stages", sum, in_steps, stages.size()), "give shares instead, and no steps"});
  // Rounding moved the shares: the resolved ones are those of the steps, so a recipe and its resolved text are equal.
  for (auto& stage : stages) stage.share = static_cast<double>(stage.steps) / static_cast<double>(steps);
  return stages;
}

Deploy read_deploy(const RecipeValue& document, std::string_view where, const ModelConfig& model) {
  TableReader table(document.find("deploy"), "deploy", where);
  Deploy deploy;
  deploy.dtype = table.choice("dtype", deploy.dtype, {name_of(Precision::f32), name_of(Precision::bf16)});
  deploy.batch = table.small_integer("batch", deploy.batch, 1, 1 << 16);
  // An image has its tokens, and all of them come at once.
  const bool images = model.classifies();
  deploy.context = table.small_integer("context", model.context, images ? model.context : 1, model.context);
  if (images) deploy.phase = table.choice("phase", "prefill", {"prefill"});
  else deploy.phase = table.choice("phase", deploy.phase, {"decode", "prefill"});
  deploy.threads = table.small_integer("threads", deploy.threads, 1, kMaxThreads);
  table.finish();
  return deploy;
}

SearchOptions read_search(const RecipeValue& document, std::string_view where, const ModelConfig& model) {
  TableReader table(document.find("search"), "search", where);
  SearchOptions search;
  search.algorithm = table.choice("algorithm", search.algorithm, names_of(search_algorithms()));
  search.evaluations = table.integer("evaluations", search.evaluations, 1, kMost);
  search.round_size = table.integer("round_size", search.round_size, 1, 1 << 16);
  search.population = table.integer("population", search.population, 2, 1 << 20);
  search.tournament = table.integer("tournament", std::min(search.tournament, search.population), 1, search.population);
  search.founders = table.integer("founders", search.founders, 0, 1 << 20);
  search.law = table.choice("law", search.law, {name_of(Law::balanced), name_of(Law::uniform)});
  search.seed = static_cast<std::uint64_t>(table.integer("seed", 0, 0, INT64_MAX));
  search.segments = table.integer("segments", search.segments, 0, kMost);
  search.stride = table.integer("stride", model.context, model.classifies() ? model.context : 1, model.context);
  search.budgets = table.texts("budgets");
  table.finish();
  return search;
}

// A run that trains for an hour must not fail on its budget afterwards.
void check_budgets(const Recipe& recipe, std::string_view where) {
  if (recipe.search.budgets.empty()) return;
  auto costs = cost_model_of(recipe);
  // A table of latencies is measured once there is a run; any will do to read a limit by.
  LatencyModel some;
  for (const int embed : recipe.space.embed())
    some.lines.push_back({.embed = embed, .frame = 1, .attention = 1, .head = 1, .feed_forward = 1, .column = 1});
  costs.predict_latency(std::move(some));
  for (const auto& text : recipe.search.budgets) {
    try {
      Budget::parse({text}, costs);
    } catch (const InputError& error) {
      auto parts = error.parts();
      parts.where = fmt::format("recipe {}: search.budgets: {}", where, parts.where);
      throw InputError(parts);
    }
  }
}

}  // namespace

bool uses_init(const ModelConfig& model) { return residual_rule(model.residual).start == nullptr; }
bool uses_loss_scale(const TrainOptions& train) { return find_precision(train.precision).scales_losses; }
bool uses_fp8_window(const TrainOptions& train) { return find_precision(train.precision).delays_scales; }
bool uses_activation_bytes(const TrainOptions& train) { return train.activations != "exact"; }
bool uses_band_warmup(const TrainOptions& train) { return train.policy != "dense"; }
bool scales_rate(const TrainOptions& train) { return train.scale_rate != "none"; }
bool uses_cooldown(const TrainOptions& train) { return train.schedule == "wsd"; }
bool uses_final_rate(const TrainOptions& train) { return train.schedule == "wsd" || train.schedule == "cosine"; }
bool uses_tokens_kept(const TrainOptions& train) { return train.tokens != "all"; }
bool uses_tokens_full(const TrainOptions& train) { return train.tokens == "random_ltd"; }
bool uses_ends(const Stage& stage) { return stage.sampler == "balanced"; }
bool uses_random(const Stage& stage) { return stage.sampler == "sandwich"; }
bool needs_teacher(const Recipe& recipe) {
  return std::any_of(recipe.stages.begin(), recipe.stages.end(), [](const Stage& stage) { return make_objective(stage)->needs_teacher(); });
}

Recipe Recipe::parse(std::string_view toml, std::string_view where, const std::vector<std::string>& overrides, bool inherited) {
  const auto document = parse_recipe_document(toml, where, overrides, inherited);
  TableReader tables(&document, "", where);
  for (const char* key : {"data", "model", "space", "tune", "teacher", "train", "stage", "deploy", "search"}) tables.has(key);
  tables.finish();
  auto data = read_data(document, where);
  auto space = read_space(document, where, reads_bytes(data) ? kByteVocabulary : 0);
  auto tune = read_tuning(document, where, space.model());
  space = tuned_space(space, tune.tuning, fmt::format("recipe {}", where));
  check_data(data, space.model(), where);
  auto train = read_train(document, where, space.model());
  check_crop(train.augmentation, space.model(), where);
  make_token_selection(train, space);  // refuses what the context cannot have
  auto stages = read_stages(document, where, train.steps);
  check_decoder(space, train, stages, where);
  const ModelConfig space_model = space.model();
  std::string teacher = read_teacher(document, where, space_model, train);
  Recipe recipe{std::move(data),
                std::move(space),
                std::move(train),
                std::move(stages),
                read_deploy(document, where, space_model),
                read_search(document, where, space_model),
                std::move(teacher),
                std::move(tune.base)};
  check_budgets(recipe, where);
  return recipe;
}

Recipe Recipe::load(const std::string& path, const std::vector<std::string>& overrides) {
  namespace fs = std::filesystem;
  std::error_code error;
  if (!fs::is_regular_file(path, error))
    throw InputError({"recipe " + path, "a TOML file", fs::exists(path, error) ? "something else" : "nothing", "see docs/recipes.md"});
  if (fs::file_size(path, error) > kMaxRecipe) throw InputError({"recipe " + path, "a file of at most 1 MiB", "a larger one", ""});
  std::ifstream file(path, std::ios::binary);
  const std::string toml((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) throw InputError({"recipe " + path, "a file that can be read", "an error while reading", "check its permissions"});
  auto recipe = parse(toml, path, overrides);
  // A path in the file is relative to the file, one that is typed to where the user stands.
  const fs::path folder = fs::path(path).parent_path();
  for (const DataPath& place : data_paths(recipe.data)) {
    bool typed = false;
    for (const auto& text : overrides) typed = typed || text.starts_with(std::string(place.key) + "=");
    if (!typed) *place.path = (folder / *place.path).lexically_normal().string();
  }
  return recipe;
}

namespace {

Compute compute_of(const std::string& key, const std::string& text, Precision precision, Device device) {
  if (device == Device::cpu) require_precision(precision, key + " = " + text);
  return {device, precision};
}

}  // namespace

Compute training_compute(const Recipe& recipe, Device device) {
  return compute_of("train.precision", recipe.train.precision, find_precision(recipe.train.precision).compute, device);
}
Compute evaluation_compute(const Recipe& recipe, Device device) {
  return compute_of("deploy.dtype", recipe.deploy.dtype, parse_precision(recipe.deploy.dtype, "deploy.dtype"), device);
}

CostModel cost_model_of(const Recipe& recipe) {
  const auto state_bytes = [train = recipe.train](const WeightTable& table) { return training_state_bytes(train, table); };
  return CostModel(recipe.space, recipe.deploy, recipe.train.sequences, state_bytes, find_precision(recipe.train.precision).compute,
                   recipe.train.dropout, planned_kept(*make_token_selection(recipe.train, recipe.space)));
}

}  // namespace elastiform
