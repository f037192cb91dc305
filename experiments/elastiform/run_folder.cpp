#include "experiments/elastiform/run_folder.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/latency_steps.hpp"
#include "experiments/elastiform/recipe_data.hpp"
#include "experiments/elastiform/resume_check.hpp"
#include "kernels/errors.hpp"
#include "search/latency_file.hpp"
#include "supernet/parametrizations/merge.hpp"
#include "supernet/storage/durable_file.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

bool exists(const std::string& path) {
  std::error_code error;
  return fs::exists(path, error);
}

Subnet stored_subnet(const ResultStore& store, const std::string& id, const std::string& run) {
  const auto found = store.find(std::stoll(id));
  if (!found)
    throw InputError({"subnet " + id, "an id of " + run, "none of that number", fmt::format("elastiform front {} lists some", run)});
  return found->subnet;
}

SearchDescription evaluation_description(Run& run, const ScoringSet& set) {
  SearchDescription description;
  description.algorithm = "evaluate";
  description.deploy = deploy_text(run.costs().deploy());
  description.weights_hash = run.supernet().weights_hash;
  description.blocks = fmt::format("{},{}", name_of(set.split), set.text());
  return description;
}

}  // namespace

std::string without_slash(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

bool is_identifier(const std::string& text) {
  return !text.empty() && text.size() <= 18 && std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool is_run_folder(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error) && fs::is_regular_file(path + "/recipe.toml", error);
}

CostModel costs_of(const Recipe& recipe, const std::string& path) {
  CostModel costs = cost_model_of(recipe);
  if (!is_run_folder(path)) return costs;
  const std::string run = without_slash(path), file = RunPaths{run}.latency();
  if (!exists(file)) {
    costs.refuse_latency(fmt::format("none: elastiform profile {} measures one", run));
    return costs;
  }
  try {
    const LatencyTable table = load_latency(file);
    const std::string why = why_unusable(table, merged_space(recipe.space), costs.deploy(), file, run);
    if (why.empty()) costs.predict_latency(latency_lines(table, merged_space(recipe.space)));
    else costs.refuse_latency(why);
  } catch (const InputError& error) {
    costs.refuse_latency(error.what());
  }
  return costs;
}

Recipe load_recipe_or_run(const std::string& path) {
  if (is_run_folder(path)) return Recipe::load(RunPaths{without_slash(path)}.recipe());
  std::error_code error;
  if (fs::is_directory(path, error))
    throw InputError({path, "a recipe or a run folder", "a folder without recipe.toml", "elastiform train makes runs"});
  return Recipe::load(path);
}

Run::Run(const std::string& folder, const std::string& weights, std::optional<std::int64_t> rank, Placing placing)
    : paths_{without_slash(folder)}, typed_(without_slash(folder)), recipe_([&] {
        if (is_run_folder(folder)) return Recipe::load(RunPaths{without_slash(folder)}.recipe());
        throw InputError({folder, "a run folder", exists(folder) ? "something else" : "nothing", "elastiform train makes runs"});
      }()) {
  if (!exists(paths_.supernet()))
    throw InputError({typed_, "supernet.h5", "nothing", fmt::format("the run has no weights yet: elastiform train --resume {}", typed_)});
  supernet_ =
      std::make_unique<LoadedSupernet>(load_supernet(paths_.supernet(), weights == "ema" ? Which::average : Which::trained, rank, placing));
  if (supernet_->space.hash() != merged_space(recipe_.space).hash())
    throw InputError(
        {paths_.supernet(), "the space of " + paths_.recipe(), "another space", "restore the recipe that the run was made with"});
  refuse_changed_data(recipe_, supernet_->recipe_toml, paths_.recipe());
  network_ = std::make_unique<Network>(supernet_->space, supernet_->weights.dtype());
  costs_ = std::make_unique<CostModel>(costs_of(recipe_, folder));
}

const DataSource& Run::data() const {
  if (data_) return *data_;
  Recipe recipe = recipe_;
  const DataPath place = main_path(recipe.data);
  const std::string remedy = fmt::format("set {} in {}", place.key, paths_.recipe());
  if (!exists(*place.path)) throw InputError({*place.path, "the data that the run was trained on", "nothing", remedy});
  auto data = open_data(recipe);
  if (data->sha256() != supernet_->data_sha256)
    throw InputError({*place.path, "the data that the run was trained on, SHA-256 " + supernet_->data_sha256.substr(0, 16),
                      data->sha256().substr(0, 16), remedy});
  data_ = std::move(data);
  return *data_;
}

const TextData& Run::text() const {
  if (has_images(recipe_.data)) throw InputError({typed_, "a run of a language model", "a classifier of images", ""});
  return dynamic_cast<const TextData&>(data());
}

const char* Run::unit() const {
  if (metric().classifies) return "images";
  return reads_bytes(recipe_.data) ? "bytes" : "tokens";
}

std::string Run::name() const { return typed_; }

Subnet Run::subnet(const std::string& text) {
  if (!is_identifier(text)) return parse_subnet_of(space(), text, typed_);
  return stored_subnet(*results(ResultStore::Mode::read), text, typed_);
}

std::unique_ptr<ResultStore> Run::results(ResultStore::Mode mode) const {
  auto store = std::make_unique<ResultStore>(paths_.folder, mode, recipe_.space.hash(), supernet_->recipe_toml);
  store->show_costs(deploy_text(costs_->deploy()), [this](const Subnet& subnet) { return costs_->of(subnet); });
  if (costs_->latency())
    store->show_latencies([this](const Subnet& subnet, Costs& costs) {
      const LatencyModel& model = *costs_->latency();
      const std::int64_t sum = model.sum_of(subnet);
      costs.latency = model.whole_of(sum);
      costs.latency_bound = model.bound_of(sum);
    });
  return store;
}

const Tokenizer& Run::tokenizer() const {
  if (!tokenizer_) tokenizer_ = data_ ? text().tokenizer() : Tokenizer::named(recipe_.data.tokenizer);
  return *tokenizer_;
}

ScoringSet Run::sized(const ScoringSet& set) const {
  if (reads_bytes(recipe_.data)) return set;
  const std::string key = std::string(name_of(set.split)) + "," + set.text();
  const auto known = sets_.find(key);
  if (known != sets_.end()) return known->second;
  return sets_.emplace(key, scoring_set(data(), recipe_.space.model().context, set)).first->second;
}

ScoringSet Run::search_set() const { return sized({Split::search, recipe_.search.stride, recipe_.search.segments}); }

ScoringSet Run::report_set(Split split) const { return sized({split, std::max(1, recipe_.space.model().context / 2), 0}); }

Subnet parse_subnet_of(const SearchSpace& space, const std::string& text, std::string_view where) {
  Subnet subnet;
  if (text == "largest") subnet = space.largest();
  else if (text == "middle") subnet = space.middle();
  else if (text == "smallest") subnet = space.smallest();
  else if (is_identifier(text))
    throw InputError({"subnet " + text, "a subnet's text, largest, middle or smallest", "an id", "ids belong to a run: give its folder"});
  else subnet = parse_subnet(text);
  space.check(subnet, where);
  return subnet;
}

Subnet subnet_of(const Recipe& recipe, const std::string& path, const std::string& text) {
  if (!is_run_folder(path) || !is_identifier(text)) return parse_subnet_of(recipe.space, text, path);
  return stored_subnet(ResultStore(without_slash(path), ResultStore::Mode::read, recipe.space.hash(), recipe.text()), text, path);
}

namespace {

/// Evaluations of the subnets: the store's, or fresh ones without an id.
std::vector<Evaluation> known_or_scored(Run& run, std::span<const Subnet> subnets, const ScoringSet& set, const ResultStore& store,
                                        const CommonOptions& common) {
  const Compute compute = evaluation_compute(run.recipe(), common.device);
  std::vector<Evaluation> evaluations(subnets.size());
  std::vector<Subnet> unknown;
  std::vector<std::size_t> places;
  for (std::size_t i = 0; i < subnets.size(); ++i) {
    auto& evaluation = evaluations[i];
    evaluation.subnet = subnets[i];
    evaluation.weights_hash = run.supernet().weights_hash;
    evaluation.split = std::string(name_of(set.split));
    evaluation.blocks = set.text();
    evaluation.precision = text(compute);
    if (const auto known = store.find(key_of(evaluation))) {
      evaluation = *known;
    } else {
      unknown.push_back(subnets[i]);
      places.push_back(i);
    }
  }
  if (unknown.empty()) return evaluations;
  const ThreadPool pool(threads_of(common));
  PrefixEvaluator evaluator(run.network(), run.weights(), run.data(), set, pool, compute);
  evaluator.stop_when(interrupted);
  auto scores = evaluator.evaluate(unknown);
  for (std::size_t i = 0; i < unknown.size(); ++i) {
    auto& evaluation = evaluations[places[i]];
    evaluation.score = std::move(scores[i]);
    evaluation.costs = run.costs().of(unknown[i]);
  }
  return evaluations;
}

/// Fresh evaluations become rows. A look at the report split counts even when the store knew the answer.
void keep(Run& run, const ScoringSet& set, ResultStore& store, std::vector<Evaluation>& evaluations) {
  const bool fresh = std::any_of(evaluations.begin(), evaluations.end(), [](const Evaluation& one) { return one.id == 0; });
  if (fresh || set.split == Split::report) store.append(evaluation_description(run, set), evaluations);
}

}  // namespace

std::vector<Evaluation> evaluate_in_run(Run& run, std::span<const Subnet> subnets, const ScoringSet& set, ResultStore& store,
                                        const CommonOptions& common) {
  std::vector<Evaluation> evaluations = known_or_scored(run, subnets, set, store, common);
  keep(run, set, store, evaluations);
  return evaluations;
}

namespace {

/// Open for writing when whoever writes has ended; Interrupted after Ctrl-C.
std::unique_ptr<ResultStore> store_in_turn(const Run& run) {
  for (bool told = false;; told = true) {
    try {
      return run.results(ResultStore::Mode::write);
    } catch (const FolderLocked& locked) {
      if (interrupted()) throw Interrupted();
      if (!told) fmt::print(stderr, "what was found is kept when the other writer has ended: {}\n", locked.parts().found);
    }
  }
}

}  // namespace

EvaluatedInTurn evaluate_in_turn(Run& run, std::span<const Subnet> subnets, const ScoringSet& set, const CommonOptions& common) {
  // Opened as a writer first, so that whoever would have to wait for a search to end is told so before it begins.
  auto store = run.results(ResultStore::Mode::write);
  store = run.results(ResultStore::Mode::read);
  std::vector<Evaluation> evaluations = known_or_scored(run, subnets, set, *store, common);
  const bool fresh = std::any_of(evaluations.begin(), evaluations.end(), [](const Evaluation& one) { return one.id == 0; });
  if (!fresh && set.split != Split::report) return {std::move(evaluations), std::move(store)};
  store = store_in_turn(run);
  keep(run, set, *store, evaluations);
  return {std::move(evaluations), std::move(store)};
}

std::int64_t scored_tokens(Run& run, const ScoringSet& set) {
  std::int64_t tokens = 0;
  for (const Window& window : run.data().scoring_windows(set.split, run.space().model().context, set.stride, set.segments))
    tokens += window.length - window.skip;
  return tokens;
}

double bits_per_byte(double nats_per_token, double bytes_per_token) { return nats_per_token / std::log(2.0) / bytes_per_token; }

double bits_per_nat(const Evaluation& evaluation) { return units_per_nat(evaluation, kTextMetric); }

double units_per_nat(const Evaluation& evaluation, const Metric& metric) { return metric.shown(1, bytes_per_token_of(evaluation.blocks)); }

ScoringSet scoring_set(const DataSource& data, int context, ScoringSet set) {
  set.bytes_per_token = data.bytes_per_token(data.scoring_windows(set.split, context, set.stride, set.segments));
  return set;
}

Recipe as_stored(Recipe recipe, const std::string& folder) {
  // absolute first: of a folder that does not exist yet, weakly_canonical() gives a relative path back.
  for (const DataPath& place : data_paths(recipe.data)) {
    const auto relative = fs::weakly_canonical(fs::absolute(*place.path)).lexically_relative(fs::weakly_canonical(fs::absolute(folder)));
    if (!relative.empty()) *place.path = relative.string();
  }
  return recipe;
}

std::string deploy_text(const Deploy& deploy) {
  return fmt::format("{},batch={},context={},{},threads={}", deploy.dtype, deploy.batch, deploy.context, deploy.phase, deploy.threads);
}

}  // namespace elastiform
