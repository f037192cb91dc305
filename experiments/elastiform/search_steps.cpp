#include "experiments/elastiform/search_steps.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "experiments/elastiform/evaluation_output.hpp"
#include "experiments/elastiform/latency_steps.hpp"
#include "kernels/errors.hpp"
#include "search/algorithms/algorithm.hpp"
#include "search/feasible_set.hpp"
#include "search/run_search.hpp"

namespace elastiform {
namespace {

// Homogeneous members are a fixed list, so a round only decides how often progress is kept.
constexpr std::size_t kHomogeneousRound = 64;

/// A fixed list is neither drawn nor seeded, and always evaluated whole.
bool draws(const std::string& algorithm) { return algorithm != "homogeneous"; }

/// More than the first population are no other search.
std::int64_t founders_of(const SearchOptions& options) { return std::min(options.founders, options.population); }

SearchPlan plan_of(const Run& run, const SearchRequest& request, const FeasibleSet& feasible, Device device) {
  const SearchOptions& options = run.recipe().search;
  SearchPlan plan;
  plan.compute = text(evaluation_compute(run.recipe(), device));
  plan.evaluations = request.evaluations;
  plan.round_size = draws(request.algorithm) ? static_cast<std::size_t>(options.round_size) : kHomogeneousRound;
  SearchDescription& description = plan.description;
  description.algorithm = request.algorithm;
  description.budget = feasible.budget().text();
  description.deployable = std::string(name_of(request.deployable));
  description.deploy = deploy_text(run.costs().deploy());
  description.weights_hash = run.supernet().weights_hash;
  description.blocks = run.search_set().text();
  // Another table draws another border around the same text of a budget.
  const std::string table = feasible.budget().limit_of(Cost::latency) ? ",latency=" + run.costs().latency()->hash : "";
  if (!draws(request.algorithm)) {
    if (request.members > 0) description.options = fmt::format("members={}", request.members);
    description.options += table;
    return plan;
  }
  description.law = std::string(name_of(request.law));
  description.seed = request.seed;
  description.options = fmt::format("round={}", options.round_size);
  if (find_algorithm(request.algorithm).has_population) {
    description.options += fmt::format(",population={},tournament={}", options.population, options.tournament);
    if (options.founders > 0) description.options += fmt::format(",founders={}", founders_of(options));
  }
  description.options += table;
  return plan;
}

// A rival with fewer looks than the search would be no fair one; 256 cost less than training and cover all of most spaces' lists.
constexpr std::size_t kFewestRivals = 256;

SearchRequest rival_of(const SearchRequest& request, const FeasibleSet& feasible, std::FILE* text) {
  SearchRequest rival = request;
  rival.algorithm = "homogeneous";
  if (request.algorithm == rival.algorithm) {
    rival.evaluations = feasible.homogeneous().size();
    return rival;
  }
  const std::size_t most = std::max(kFewestRivals, request.evaluations), members = feasible.homogeneous(most + 1).size();
  rival.evaluations = std::min(most, members);
  if (members <= most) return rival;
  rival.members = most;
  fmt::print(text, "homogeneous: {} of them, evenly spaced in their list; --algorithm homogeneous evaluates all\n",
             grouped(static_cast<std::int64_t>(most)));
  return rival;
}

std::optional<Evaluation> best_of(const std::vector<Evaluation>& evaluations, const SearchOutcome& outcome) {
  const Evaluation* best = nullptr;
  for (const Evaluation& evaluation : evaluations)
    if (std::isfinite(evaluation.score.loss) && outcome.admits(evaluation) && (best == nullptr || evaluation.score.loss < best->score.loss))
      best = &evaluation;
  return best == nullptr ? std::nullopt : std::optional(*best);
}

/// Runs or continues one named search; sets `interrupted` when Ctrl-C ended it.
std::vector<Evaluation> run_one(const Run& run, ResultStore& store, const SearchRequest& request, const FeasibleSet& feasible,
                                Evaluator& evaluator, const CommonOptions& common, SearchOutcome& outcome) {
  const SearchOptions& options = run.recipe().search;
  const auto algorithm = find_algorithm(request.algorithm)
                             .make(feasible, {.law = request.law,
                                              .seed = request.seed,
                                              .population = static_cast<std::size_t>(options.population),
                                              .tournament = static_cast<std::size_t>(options.tournament),
                                              .founders = static_cast<std::size_t>(founders_of(options)),
                                              .members = request.members});
  const SearchPlan plan = plan_of(run, request, feasible, common.device);
  if (draws(request.algorithm) || outcome.name.empty()) outcome.name = plan.description.name();
  std::size_t stored = 0;
  for (const auto& round : store.rounds(plan.description.name())) stored += round.size();
  const std::size_t whole_rounds = (plan.evaluations + plan.round_size - 1) / plan.round_size * plan.round_size;
  const BigInt most = std::min<BigInt>(feasible.count(), whole_rounds);
  Progress progress(common.json, request.algorithm);
  if (stored > 0)
    progress.line(fmt::format("{}: continues search {} after {} evaluations", request.algorithm, plan.description.name(), stored));
  return run_search(plan, *algorithm, evaluator, run.costs(), store, [&](const std::vector<Evaluation>& done) {
    const auto best = best_of(done, outcome);
    progress.update(static_cast<std::int64_t>(done.size()), most.convert_to<std::int64_t>(),
                    best ? fmt::format("best {:.4f} {}", units_per_nat(*best, run.metric()) * best->score.loss, run.metric().loss) : "");
    outcome.interrupted = interrupted();
    return !outcome.interrupted;
  });
}

/// Measured, or else predicted.
std::string latency_text(const Evaluation& evaluation) {
  if (std::isfinite(evaluation.latency_ms)) return fmt::format("; measured {}", time_text(evaluation.latency_ms));
  return evaluation.costs.latency > 0 ? fmt::format("; predicted {}", time_text(static_cast<double>(evaluation.costs.latency) / 1e9)) : "";
}

/// What stands below a search under a latency budget.
std::string measured_text(const MeasuredFinalists& latency) {
  if (!latency.measured)
    return fmt::format("latency: as predicted by the table of {}, guard band {:.1f} %; not measured here\n", latency.table,
                       100 * latency.guard);
  std::string text =
      fmt::format("latency: predicted by {}, guard band {:.1f} %; of {} measured here {} outside of the budget and left out\n",
                  latency.table, 100 * latency.guard, latency.inside.size() + latency.outside.size(),
                  latency.outside.size() == 1 ? "1 is" : fmt::format("{} are", latency.outside.size()));
  if (latency.unmeasured > 0)
    text += fmt::format("    at most {} are measured a search, so {} more that would be answers {} not, and left out\n", kMostMeasured,
                        latency.unmeasured, latency.unmeasured == 1 ? "was" : "were");
  return text;
}

std::string best_line(const char* what, const std::optional<Evaluation>& best, std::size_t among, const Metric& metric) {
  if (!best) return fmt::format("{}: none\n", what);
  return fmt::format("{}: {}  (id {}, of {} evaluated)\n    {}; {} parameters, {} macs/{}{}\n", what, format(best->subnet), best->id,
                     grouped(static_cast<std::int64_t>(among)), quality_text(*best, metric), grouped(best->costs.parameters),
                     grouped(best->costs.macs), metric.input, latency_text(*best));
}

/// What the algorithm and its rival both proposed counts once.
std::vector<Evaluation> evaluated_once(const SearchOutcome& outcome) {
  std::vector<Evaluation> all = outcome.found;
  std::set<std::int64_t> ids;
  for (const Evaluation& evaluation : all) ids.insert(evaluation.id);
  for (const Evaluation& evaluation : outcome.homogeneous)
    if (ids.insert(evaluation.id).second) all.push_back(evaluation);
  return all;
}

std::vector<Evaluation> answers_of(const SearchOutcome& outcome, std::size_t most) {
  std::vector<Evaluation> answers;
  for (Evaluation& evaluation : evaluated_once(outcome))
    if (outcome.admits(evaluation) && std::isfinite(evaluation.score.loss)) answers.push_back(std::move(evaluation));
  std::ranges::sort(answers, {}, [](const Evaluation& e) { return std::pair(e.score.loss, e.id); });
  if (answers.size() > most) answers.resize(most);
  return answers;
}

ParetoFront front_of(const SearchOutcome& outcome) {
  ParetoFront front(outcome.cost);
  for (const Evaluation& evaluation : evaluated_once(outcome))
    if (outcome.admits(evaluation)) front.add(evaluation);
  return front;
}

void judge_latency(const Run& run, const SearchRequest& request, const Limit& limit, ResultStore& store, const CommonOptions& common,
                   SearchOutcome& outcome) {
  const LatencyModel& model = *run.costs().latency();
  if (model.imported || outcome.interrupted) {
    outcome.latency = MeasuredFinalists{.table = model.origin, .guard = model.guard, .measured = false, .inside = {}, .outside = {}};
    return;
  }
  fmt::print(text_stream(common.json), "measuring the best and the front\n");
  std::fflush(text_stream(common.json));
  RunClock clock(run, run.costs().deploy(), parse_device(model.device, run.paths().latency()));
  try {
    outcome.latency =
        measure_finalists(limit, outcome.cost, request.finalists, outcome.found, outcome.homogeneous, clock, store, interrupted);
  } catch (const Interrupted&) {  // answers as predicted; the same command measures them
    outcome.interrupted = true;
    outcome.latency = MeasuredFinalists{};
  }
  outcome.latency->table = model.origin;
  outcome.latency->guard = model.guard;
}

}  // namespace

SearchRequest search_request(const Recipe& recipe, std::vector<std::string> budget) {
  SearchRequest request;
  request.budget = std::move(budget);
  request.algorithm = recipe.search.algorithm;
  request.law = parse_law(recipe.search.law);
  request.seed = recipe.search.seed;
  request.evaluations = static_cast<std::size_t>(recipe.search.evaluations);
  return request;
}

FeasibleSet feasible_set(const Run& run, const SearchRequest& request) {
  FeasibleSet feasible(run.costs(), Budget::parse(request.budget, run.costs()), request.deployable);
  if (feasible.empty()) throw InputError({.where = run.name(), .expected = "", .found = feasible.why_empty(), .remedy = ""});
  return feasible;
}

SearchOutcome run_budget_search(const Run& run, ResultStore& store, const SearchRequest& request, const FeasibleSet& feasible,
                                Evaluator& evaluator, const CommonOptions& common) {
  SearchOutcome outcome;
  outcome.metric = run.metric();
  outcome.budget = feasible.budget().text();
  outcome.feasible = feasible.count().str();
  outcome.law = std::string(name_of(request.law));
  outcome.deployable = std::string(name_of(request.deployable));
  outcome.cost = leading_cost(feasible.budget());
  if (feasible.budget().limit_of(Cost::latency)) check_device(run);
  std::FILE* text = text_stream(common.json);
  fmt::print(text, "budget {}{}: {} feasible subnets; {}{}\n", outcome.budget.empty() ? "(none)" : outcome.budget,
             request.deployable == Deployable::any ? "" : ", deployable as " + outcome.deployable, grouped(outcome.feasible),
             request.algorithm, draws(request.algorithm) ? fmt::format(", law {}, seed {}", outcome.law, request.seed) : "");
  const SearchRequest rival = rival_of(request, feasible, text);
  std::fflush(text);

  if (request.algorithm != rival.algorithm) outcome.found = run_one(run, store, request, feasible, evaluator, common, outcome);
  if (!outcome.interrupted) outcome.homogeneous = run_one(run, store, rival, feasible, evaluator, common, outcome);
  if (request.algorithm == rival.algorithm) outcome.found = outcome.homogeneous;
  outcome.algorithm = request.algorithm;
  if (const Limit* limit = feasible.budget().limit_of(Cost::latency)) judge_latency(run, request, *limit, store, common, outcome);
  outcome.best_of_algorithm = best_of(outcome.found, outcome);
  outcome.best_homogeneous = best_of(outcome.homogeneous, outcome);
  std::vector<Evaluation> finalists;
  if (outcome.best_of_algorithm) finalists.push_back(*outcome.best_of_algorithm);
  if (outcome.best_homogeneous) finalists.push_back(*outcome.best_homogeneous);
  outcome.best = best_of(finalists, outcome);
  if (request.finalists > 0 && !outcome.interrupted) {
    outcome.finalists = tune_finalists(run, store, outcome.name, answers_of(outcome, request.finalists), request.finetune_steps, common);
    outcome.interrupted = outcome.finalists->interrupted;
  }
  if (request.algorithm != rival.algorithm && outcome.best_of_algorithm && outcome.best_homogeneous) {
    outcome.difference = difference_in_bits(*outcome.best_of_algorithm, *outcome.best_homogeneous, request.seed, outcome.metric);
    if (!outcome.metric.classifies) outcome.verdict = verdict(*outcome.difference, kMargin);
  }
  return outcome;
}

std::string outcome_text(const SearchOutcome& outcome) {
  const Metric& metric = outcome.metric;
  std::string text = best_line("best found", outcome.best, evaluated_once(outcome).size(), metric);
  if (outcome.latency) text += measured_text(*outcome.latency);
  if (outcome.best_of_algorithm && outcome.best_of_algorithm->subnet != outcome.best->subnet)
    text += best_line(fmt::format("best of {} alone", outcome.algorithm).c_str(), outcome.best_of_algorithm, outcome.found.size(), metric);
  text += best_line("best homogeneous", outcome.best_homogeneous, outcome.homogeneous.size(), metric);
  if (outcome.difference)
    text += fmt::format("{} - homogeneous: {}\n", outcome.algorithm, difference_text(*outcome.difference, outcome.verdict, metric));
  if (outcome.difference && outcome.best_of_algorithm->subnet != outcome.best_homogeneous->subnet)
    text +=
        "    both were chosen on these blocks, so the difference flatters the larger search: `evaluate --split report --against` decides\n";
  const ParetoFront front = front_of(outcome);
  text += "\n" + front_table(front, metric) + "\n" + front_plot(evaluated_once(outcome), front, metric);
  if (outcome.finalists) text += "\n" + finalists_text(*outcome.finalists, metric);
  if (outcome.interrupted) text += "\ninterrupted after a whole round; the same command continues\n";
  return text;
}

std::string outcome_json(const SearchOutcome& outcome) {
  JsonObject object;
  object.add("search", outcome.name).add("budget", outcome.budget).add("feasible", outcome.feasible).add("law", outcome.law);
  object.add("deployable", outcome.deployable).add("evaluations", static_cast<std::int64_t>(outcome.found.size()));
  object.add("homogeneous", static_cast<std::int64_t>(outcome.homogeneous.size())).add("interrupted", outcome.interrupted);
  if (outcome.best) object.add_json("best", evaluation_json(*outcome.best, outcome.metric).text());
  if (outcome.best_of_algorithm) object.add_json("best_of_algorithm", evaluation_json(*outcome.best_of_algorithm, outcome.metric).text());
  if (outcome.best_homogeneous) object.add_json("best_homogeneous", evaluation_json(*outcome.best_homogeneous, outcome.metric).text());
  if (outcome.difference) {
    JsonObject difference;
    difference.add(outcome.metric.classifies ? "nats" : "bits_per_byte", outcome.difference->mean)
        .add("low", outcome.difference->low)
        .add("high", outcome.difference->high);
    difference.add("blocks", static_cast<std::int64_t>(outcome.difference->blocks));
    if (!outcome.metric.classifies) difference.add("verdict", outcome.verdict);
    object.add_json("difference", difference.text());
  }
  if (outcome.latency) {
    JsonObject latency;
    latency.add("table", outcome.latency->table).add("guard", outcome.latency->guard).add("measured", outcome.latency->measured);
    latency.add("inside", static_cast<std::int64_t>(outcome.latency->inside.size()));
    latency.add("outside", static_cast<std::int64_t>(outcome.latency->outside.size()));
    object.add_json("latency", latency.add("unmeasured", static_cast<std::int64_t>(outcome.latency->unmeasured)).text());
  }
  const ParetoFront front = front_of(outcome);
  std::vector<std::string> members;
  for (const Evaluation& member : front.members()) members.push_back(evaluation_json(member, outcome.metric).text());
  if (outcome.finalists) object.add_json("finalists", finalists_json(*outcome.finalists, outcome.metric));
  return object.add_json("front", json_list(members)).text();
}

namespace {

/// A measured latency counts before a predicted one.
bool inside(const Budget& budget, const Evaluation& evaluation) {
  const Limit* limit = budget.limit_of(Cost::latency);
  if (limit == nullptr || !std::isfinite(evaluation.latency_ms)) return budget.admits(evaluation.costs);
  Costs costs = evaluation.costs;
  costs.latency_bound = cost_of(evaluation, Cost::latency);
  return budget.admits(costs);
}

}  // namespace

std::vector<Evaluation> comparable_evaluations(const Run& run, const ResultStore& store, const Budget& budget) {
  std::vector<Evaluation> evaluations;
  for (const Evaluation& evaluation : store.evaluations())
    if (evaluation.weights_hash == run.supernet().weights_hash && evaluation.split == name_of(Split::search) &&
        evaluation.blocks == run.search_set().text() && inside(budget, evaluation))
      evaluations.push_back(evaluation);
  return evaluations;
}

Cost leading_cost(const Budget& budget) { return budget.limits().empty() ? Cost::parameters : budget.limits().front().cost; }

PairedDifference difference_in_bits(const Evaluation& a, const Evaluation& b, std::uint64_t seed, const Metric& metric) {
  return paired_difference(a.score.block_losses, b.score.block_losses, seed).scaled(units_per_nat(a, metric));
}

std::string difference_text(const PairedDifference& difference) { return difference_text(difference, verdict(difference, kMargin)); }

std::string difference_text(const PairedDifference& difference, std::string_view verdict, const Metric& metric) {
  const std::string text = fmt::format("{:+.4f} {}, 95 % interval {:+.4f} to {:+.4f} over {} {}", difference.mean, metric.loss,
                                       difference.low, difference.high, difference.blocks, metric.blocks);
  if (metric.classifies) return text;  // the margin is one of accuracy: `evaluate --against` judges
  return text + fmt::format(": {} (margin {} {})", verdict, kMargin, metric.loss);
}

std::vector<std::vector<float>> hits_of(Run& run, std::span<const Evaluation> evaluations, const ScoringSet& set,
                                        const CommonOptions& common) {
  std::vector<std::vector<float>> hits;
  std::vector<Subnet> stored;
  std::vector<std::size_t> places;
  for (const Evaluation& evaluation : evaluations) {
    hits.push_back(evaluation.score.block_hits);
    if (!hits.back().empty()) continue;
    places.push_back(hits.size() - 1);
    stored.push_back(evaluation.subnet);
  }
  if (stored.empty()) return hits;
  const ThreadPool pool(threads_of(common));
  PrefixEvaluator evaluator(run.network(), run.weights(), run.data(), set, pool, evaluation_compute(run.recipe(), common.device));
  evaluator.stop_when(interrupted);
  std::vector<Score> scores = evaluator.evaluate(stored);
  for (std::size_t i = 0; i < scores.size(); ++i) hits[places[i]] = std::move(scores[i].block_hits);
  return hits;
}

std::string verdict_of_hits(const PairedDifference& difference) {
  PairedDifference of_errors = difference;  // fewer are better, as of losses
  of_errors.mean = -difference.mean;
  of_errors.low = -difference.high, of_errors.high = -difference.low;
  of_errors.low90 = -difference.high90, of_errors.high90 = -difference.low90;
  return verdict(of_errors, kAccuracyMargin);
}

std::string difference_of_hits_text(const PairedDifference& difference) {
  return fmt::format("{:+.2f} points of accuracy, 95 % interval {:+.2f} to {:+.2f} over {} images: {} (margin {} points)",
                     100 * difference.mean, 100 * difference.low, 100 * difference.high, difference.blocks, verdict_of_hits(difference),
                     100 * kAccuracyMargin);
}

}  // namespace elastiform
