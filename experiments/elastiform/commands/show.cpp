#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/evaluation_output.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/tuned_finalists.hpp"
#include "kernels/errors.hpp"
#include "trainers/rank_hash.hpp"

namespace elastiform {
namespace {

std::string search_text(const ResultStore& store, const Evaluation& evaluation) {
  for (const SearchDescription& search : store.searches()) {
    if (search.name() != evaluation.search) continue;
    return fmt::format("{} {}{}{}, seed {}, round {}", search.algorithm, search.name(),
                       search.budget.empty() ? "" : ", budget " + search.budget, search.law.empty() ? "" : ", law " + search.law,
                       search.seed, evaluation.round);
  }
  return evaluation.search;
}

bool is_tuned(const ResultStore& store, const Evaluation& evaluation) {
  const auto searches = store.searches();
  const auto found = std::ranges::find_if(searches, [&](const auto& search) { return search.name() == evaluation.search; });
  return found != searches.end() && found->algorithm == kFinetuneSearch;
}

/// Which of the run's weights have the hash. `now` is merged at the largest rank, whose hash is that of the weights.
std::string which_weights(const Run& run, const std::string& hash) {
  const LoadedSupernet& now = run.supernet();
  if (hash == now.weights_hash) return "";
  if (hash == now.average_hash) return " (the running average)";
  for (const int rank : run.recipe().space.model().tuning.ranks) {
    if (hash == hash_at_rank(now.weights_hash, rank)) return fmt::format(" (at rank {})", rank);
    if (hash == hash_at_rank(now.average_hash, rank)) return fmt::format(" (the running average, at rank {})", rank);
  }
  return " (stale: the run was trained further)";
}

std::string weights_text(const Run& run, const std::string& hash, bool tuned) {
  return hash.substr(0, 16) + (tuned ? " (a fine-tuned finalist of a search, alone)" : which_weights(run, hash));
}

std::string text_of(const Run& run, const ResultStore& store, const Evaluation& evaluation) {
  const Metric& metric = run.metric();
  const auto [worst, best] = [&] {
    const auto& losses = evaluation.score.block_losses;
    if (losses.empty()) return std::pair{0.0, 0.0};
    const auto ends = std::ranges::minmax(losses);
    return std::pair{units_per_nat(evaluation, metric) * ends.max, units_per_nat(evaluation, metric) * ends.min};
  }();
  std::string text;
  const auto line = [&](std::string_view name, const std::string& value) { text += fmt::format("{:<20} {}\n", name, value); };
  line("subnet", format(evaluation.subnet));
  line("id", std::to_string(evaluation.id));
  line("quality", quality_text(evaluation, metric));
  line("loss", fmt::format("{:.5f} nats/{}, standard error {:.5f} over {}", evaluation.score.loss, metric.input, evaluation.score.loss_se,
                           metric.blocks));
  line("blocks", fmt::format("best {:.4f}, worst {:.4f} {}", best, worst, metric.loss));
  line(metric.classifies ? "accuracy" : "next-token accuracy", fmt::format("{:.2f} %", 100 * evaluation.score.accuracy));
  line("scored on", fmt::format("{} split, {}, {}", evaluation.split, evaluation.blocks, evaluation.precision));
  line("weights", weights_text(run, evaluation.weights_hash, is_tuned(store, evaluation)));
  line("parameters", fmt::format("{} ({} in blocks)", grouped(evaluation.costs.parameters), grouped(evaluation.costs.block_parameters)));
  line("macs", fmt::format("{} per {}", grouped(evaluation.costs.macs), metric.input));
  line("inference", bytes_text(static_cast<double>(evaluation.costs.inference_bytes)));
  if (evaluation.costs.latency > 0)
    line("latency, predicted",
         fmt::format("{} by {}", time_text(static_cast<double>(evaluation.costs.latency) / 1e9), run.costs().latency()->origin));
  if (std::isfinite(evaluation.latency_ms)) line("latency, measured", time_text(evaluation.latency_ms) + ", median");
  line("training alone", bytes_text(static_cast<double>(evaluation.costs.training_bytes)));
  line("found by", search_text(store, evaluation));
  line("evaluated in", duration_text(evaluation.score.seconds));
  return text;
}

/// `elastiform show`: one evaluation in full.
class ShowCommand final : public Command {
 public:
  std::string_view name() const override { return "show"; }
  std::string_view help() const override { return "One evaluation in full"; }
  std::string_view example() const override { return "elastiform show runs/demo 12"; }
  void declare(Options& options) override {
    options.positional("run", run_, "Run folder");
    options.positional("id", id_, "Number of an evaluation, as search and front print it");
  }
  int run(const CommonOptions& common) override {
    const Run run(run_, "trained", std::nullopt, Placing::mapped);
    if (!is_identifier(id_))
      throw InputError({"elastiform show: " + id_.substr(0, 60), "the number of an evaluation", "a text",
                        "elastiform front " + run.name() + " lists some"});
    const auto store = run.results(ResultStore::Mode::read);
    const auto evaluation = store->find(std::stoll(id_));
    if (!evaluation)
      throw InputError({run.name(),
                        store->evaluations().empty() ? "an evaluation" : "an id from 1 to " + std::to_string(store->evaluations().size()),
                        id_, "elastiform front " + run.name() + " lists some"});
    if (common.json) fmt::print("{}\n", evaluation_json(*evaluation, run.metric()).text());
    else fmt::print("{}", text_of(run, *store, *evaluation));
    return 0;
  }

 private:
  std::string run_, id_;
};

}  // namespace

std::unique_ptr<Command> make_show_command() { return std::make_unique<ShowCommand>(); }

}  // namespace elastiform
