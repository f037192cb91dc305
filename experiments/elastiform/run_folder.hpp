#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/metric.hpp"
#include "experiments/elastiform/recipe.hpp"
#include "search/prefix_evaluator.hpp"
#include "search/result_store.hpp"
#include "supernet/data/text_data.hpp"
#include "supernet/network.hpp"
#include "trainers/checkpoint.hpp"

namespace elastiform {

/// Paths inside a run folder (docs/runs.md).
struct RunPaths {
  std::string folder;
  std::string recipe() const { return folder + "/recipe.toml"; }
  std::string supernet() const { return folder + "/supernet.h5"; }
  std::string base() const { return folder + "/base.h5"; }        // of a tuning
  std::string teacher() const { return folder + "/teacher.h5"; }  // that stages learn from
  std::string checkpoints() const { return folder + "/checkpoints"; }
  std::string training_log() const { return folder + "/training.jsonl"; }
  std::string training_table() const { return folder + "/training.h5"; }
  std::string exports() const { return folder + "/exports"; }
  std::string latency() const { return folder + "/latency.json"; }  // what profile measured (docs/latency.md)
  std::string finalists() const { return folder + "/finalists"; }   // runs of fine-tuned finalists
};

/// "runs/demo/" and "runs/demo" are one folder, and messages show it one way.
std::string without_slash(std::string path);

/// Digits that fit a number: what names an evaluation of a run instead of a subnet.
bool is_identifier(const std::string& text);

bool is_run_folder(const std::string& path);

/// The costs of a recipe, with the latencies of its run's table where `path`, which the recipe came from, is a run that has one for this
/// machine, its [deploy] and its whole space; else the cost model says why not.
CostModel costs_of(const Recipe& recipe, const std::string& path);

/// A recipe file or a run folder: what `space`, `sample` and `cost` need. Never opens the data.
Recipe load_recipe_or_run(const std::string& path);

/// What --weights takes: what training goes on with, or their running average (train.ema).
inline const std::vector<std::string> kWeightChoices{"trained", "ema"};
constexpr const char* kWeightsHelp = "The trained weights, or their running average (train.ema)";

constexpr const char* kRankHelp = "Of a run tuned by lora with --ranks: the one to merge (default: the largest)";
constexpr const char* kShareHelp =
    "Compute with the weights where the file has them: processes side by side share one copy of them, and each is a little slower";

/// A trained run, opened to read: recipe, weights, network, costs. The data is opened on first use.
class Run {
 public:
  /// `weights`: of kWeightChoices. InputError when it is no run or has no such weights yet.
  /// rank: as load_supernet has it.
  explicit Run(const std::string& folder, const std::string& weights = "trained", std::optional<std::int64_t> rank = std::nullopt,
               Placing placing = Placing::copied);
  const RunPaths& paths() const { return paths_; }
  const Recipe& recipe() const { return recipe_; }
  const SearchSpace& space() const { return supernet_->space; }  // of a tuning: the one that it merges into
  const Weights& weights() const { return supernet_->weights; }
  const LoadedSupernet& supernet() const { return *supernet_; }
  /// Of weights that were mapped, for whoever computes much with them: see Placing.
  void copy_weights() { supernet_->weights = copied(supernet_->weights); }
  const Network& network() const { return *network_; }
  const CostModel& costs() const { return *costs_; }
  const DataSource& data() const;  // InputError when it moved or changed (SHA-256)
  const TextData& text() const;    // InputError when it is images
  const Tokenizer& tokenizer() const;
  const Metric& metric() const { return metric_of(recipe_.space.model()); }
  const char* unit() const;  // of what its data are counted in: bytes, tokens or images
  std::string name() const;  // as the user typed it, for messages

  /// "largest", "middle", "smallest", an id of the run or a subnet's text; checked against the space.
  Subnet subnet(const std::string& text);
  /// Every evaluation of the run, with costs under its [deploy] of today.
  std::unique_ptr<ResultStore> results(ResultStore::Mode mode) const;
  // Both open the data when tokens are no bytes.
  ScoringSet search_set() const;             // what a search scores with
  ScoringSet report_set(Split split) const;  // the whole split, stride T/2: the protocol of reports

 private:
  ScoringSet sized(const ScoringSet& set) const;

  RunPaths paths_;
  std::string typed_;
  Recipe recipe_;
  std::unique_ptr<LoadedSupernet> supernet_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<CostModel> costs_;
  // Opened when they are first asked for.
  mutable std::unique_ptr<DataSource> data_;
  mutable std::optional<Tokenizer> tokenizer_;
  mutable std::map<std::string, ScoringSet> sets_;
};

/// Stride and segments of a split with the bytes that its tokens stand for.
ScoringSet scoring_set(const DataSource& data, int context, ScoringSet set);

/// The recipe that a run stores: its data seen from the run's folder, so the folder moves together with the data.
Recipe as_stored(Recipe recipe, const std::string& folder);

/// The same for a space without a run: "largest", "middle", "smallest" or a subnet's text.
Subnet parse_subnet_of(const SearchSpace& space, const std::string& text, std::string_view where);

/// The same for what `space`, `sample` and `cost` take, a recipe or a run; ids are looked up in the run. `path` is what recipe came from.
Subnet subnet_of(const Recipe& recipe, const std::string& path, const std::string& text);

/// Scores subnets of a run on a set, through the memo of its store when `store` can write; returns stored evaluations with ids.
/// Interrupted after Ctrl-C: then nothing was stored.
std::vector<Evaluation> evaluate_in_run(Run& run, std::span<const Subnet> subnets, const ScoringSet& set, ResultStore& store,
                                        const CommonOptions& common);

/// The same for commands that people run side by side: they keep nobody from writing to the run while they compute, and wait for whoever
/// writes when they have something to keep. A search that is under way refuses them at once.
struct EvaluatedInTurn {
  std::vector<Evaluation> evaluations;
  std::unique_ptr<ResultStore> store;  // that has them; perhaps open for writing, so not to be held
};
EvaluatedInTurn evaluate_in_turn(Run& run, std::span<const Subnet> subnets, const ScoringSet& set, const CommonOptions& common);

std::int64_t scored_tokens(Run& run, const ScoringSet& set);  // how many tokens or images a set scores

double bits_per_byte(double nats_per_token, double bytes_per_token = 1);
/// Of an evaluation: bits per byte of one nat per token.
double bits_per_nat(const Evaluation& evaluation);
/// The same in the unit of a metric's loss.
double units_per_nat(const Evaluation& evaluation, const Metric& metric);

/// "f32,batch=1,context=128,decode,threads=2": what costs meant, for stored descriptions and messages.
std::string deploy_text(const Deploy& deploy);

}  // namespace elastiform
