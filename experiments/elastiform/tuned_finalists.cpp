#include "experiments/elastiform/tuned_finalists.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "experiments/elastiform/evaluation_output.hpp"
#include "experiments/elastiform/finetune_steps.hpp"
#include "experiments/elastiform/search_steps.hpp"
#include "experiments/elastiform/train_run.hpp"

namespace elastiform {
namespace {

std::string folder_of(const Run& run, const Subnet& subnet, std::int64_t steps) {
  return fmt::format("{}/{}-{}-{}", run.paths().finalists(), hash8(subnet), run.supernet().weights_hash.substr(0, 8), steps);
}

bool is_trained(const std::string& folder) {
  std::error_code error;
  if (!is_run_folder(folder) || !std::filesystem::exists(RunPaths{folder}.supernet(), error)) return false;
  const Run tuned(folder);
  return tuned.supernet().steps >= tuned.recipe().train.steps;
}

/// Returns whether it was trained to its end.
bool train(const Run& run, const Subnet& subnet, std::int64_t steps, const std::string& folder, const CommonOptions& common) {
  if (is_trained(folder)) return true;
  if (is_run_folder(folder)) return !train_resume(folder, {}, std::nullopt, {}, common).interrupted;
  const LoadedSupernet base = finetune_base(run, subnet);
  // All tokens: random_ltd needs three blocks, which not every finalist has, and they are compared with each other.
  const FinetuneRequest request{
      .where = "elastiform search: --finalists", .subnet = subnet, .method = "full", .steps = steps, .set = {"train.tokens=all"}};
  return !train_new(finetune_recipe(run, base, request), folder, {}, common, {&base, nullptr}).interrupted;
}

/// The row of the tuned network, with what the parent knows of its shape.
Evaluation scored(const Run& run, const Evaluation& before, const std::string& folder, const CommonOptions& common) {
  Run tuned(folder);
  const Subnet subnet = tuned.space().largest();
  const auto store = tuned.results(ResultStore::Mode::write);
  Evaluation after = evaluate_in_run(tuned, std::span(&subnet, 1), tuned.search_set(), *store, common).front();
  after.id = 0;
  after.search.clear();
  after.costs = run.costs().of(subnet);
  after.latency_ms = before.latency_ms;
  return after;
}

SearchDescription description_of(const Run& run, const std::string& search, std::int64_t steps) {
  SearchDescription description;
  description.algorithm = kFinetuneSearch;
  description.options = fmt::format("steps={},of={}", steps, search);
  description.deploy = deploy_text(run.costs().deploy());
  description.weights_hash = run.supernet().weights_hash;
  description.blocks = run.search_set().text();
  return description;
}

/// Keeps the rows as a round, unless this search has a round and every one of them is there.
void keep(const Run& run, ResultStore& store, const std::string& search, TunedFinalists& tuned) {
  std::vector<Evaluation> round;
  bool known = true;
  for (TunedFinalists::Finalist& finalist : tuned.finalists) {
    if (auto found = store.find(key_of(finalist.after))) finalist.after = std::move(*found);
    else known = false;
    round.push_back(finalist.after);
  }
  const SearchDescription description = description_of(run, search, tuned.steps);
  if (known && !store.rounds(description.name()).empty()) return;
  store.append(description, round);
  for (std::size_t i = 0; i < round.size(); ++i) tuned.finalists[i].after = round[i];
}

void rank(TunedFinalists& tuned) {
  std::vector<TunedFinalists::Finalist>& all = tuned.finalists;
  std::vector<std::size_t> order(all.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto loss = [&](std::size_t i) {
    const double value = all[i].after.score.loss;
    return std::isfinite(value) ? value : INFINITY;
  };
  std::ranges::stable_sort(order, {}, loss);
  for (std::size_t i = 0; i < all.size(); ++i) all[i].rank = i + 1, all[order[i]].rank_after = i + 1;
  double agree = 0, pairs = 0;
  for (std::size_t i = 0; i < all.size(); ++i)
    for (std::size_t j = i + 1; j < all.size(); ++j) ++pairs, agree += all[i].rank_after < all[j].rank_after ? 1 : -1;
  tuned.tau = pairs > 0 ? agree / pairs : NAN;
}

}  // namespace

TunedFinalists tune_finalists(const Run& run, ResultStore& store, const std::string& search, const std::vector<Evaluation>& best,
                              std::int64_t steps, const CommonOptions& common) {
  TunedFinalists tuned;
  tuned.steps = steps;
  std::FILE* text = text_stream(common.json);
  for (std::size_t i = 0; i < best.size(); ++i) {
    const std::string folder = folder_of(run, best[i].subnet, steps);
    fmt::print(text, "\nfinalist {} of {}: {}, {} steps in {}\n", i + 1, best.size(), format(best[i].subnet), steps, folder);
    std::fflush(text);
    if (interrupted() || !train(run, best[i].subnet, steps, folder, common)) {
      tuned.interrupted = true;
      break;
    }
    try {
      tuned.finalists.push_back({.before = best[i], .after = scored(run, best[i], folder, common), .folder = folder});
    } catch (const Interrupted&) {
      tuned.interrupted = true;
      break;
    }
  }
  if (!tuned.interrupted && !tuned.finalists.empty()) keep(run, store, search, tuned);
  rank(tuned);
  return tuned;
}

std::string finalists_text(const TunedFinalists& tuned, const Metric& metric) {
  if (tuned.finalists.empty()) return "no finalist was fine-tuned\n";
  Table table({"finalist", "id", "rank", fmt::format("{} before", metric.loss), "rank after", "after", "+- 95 %", "id after"});
  const TunedFinalists::Finalist* best = nullptr;
  for (const TunedFinalists::Finalist& finalist : tuned.finalists) {
    const double units = units_per_nat(finalist.after, metric);
    table.row({format(finalist.before.subnet), std::to_string(finalist.before.id), std::to_string(finalist.rank),
               fmt::format("{:.4f}", units_per_nat(finalist.before, metric) * finalist.before.score.loss),
               std::to_string(finalist.rank_after), fmt::format("{:.4f}", units * finalist.after.score.loss),
               fmt::format("{:.4f}", kNormal95 * units * finalist.after.score.loss_se),
               tuned.interrupted ? "-" : std::to_string(finalist.after.id)});
    if (finalist.rank_after == 1) best = &finalist;
  }
  std::string text = fmt::format("finalists, each fine-tuned alone for {} steps{}\n\n{}\n", tuned.steps,
                                 tuned.interrupted ? " (interrupted: some are missing)" : "", table.text());
  if (tuned.finalists.size() > 1) text += fmt::format("the two rankings: Kendall's tau {:+.2f}; ", tuned.tau);
  if (best->rank == 1) text += "the search's best is the best after fine-tuning too";
  else
    text +=
        fmt::format("the best after fine-tuning was number {} of the search; minus the search's best, both tuned: {}", best->rank,
                    difference_text(difference_in_bits(best->after, tuned.finalists.front().after, 0, metric),
                                    verdict(difference_in_bits(best->after, tuned.finalists.front().after, 0, metric), kMargin), metric));
  return text + fmt::format("\nnext: elastiform export {} --subnet largest --format elastiform --to PATH\n", best->folder);
}

std::string finalists_json(const TunedFinalists& tuned, const Metric& metric) {
  std::vector<std::string> list;
  for (const TunedFinalists::Finalist& finalist : tuned.finalists) {
    JsonObject object;
    object.add("subnet", format(finalist.before.subnet)).add("rank", static_cast<std::int64_t>(finalist.rank));
    object.add("rank_after", static_cast<std::int64_t>(finalist.rank_after)).add("run", finalist.folder);
    object.add_json("before", evaluation_json(finalist.before, metric).text())
        .add_json("after", evaluation_json(finalist.after, metric).text());
    list.push_back(object.text());
  }
  JsonObject object;
  object.add("steps", tuned.steps).add("kendall_tau", tuned.tau).add("interrupted", tuned.interrupted);
  return object.add_json("ranking", json_list(list)).text();
}

}  // namespace elastiform
