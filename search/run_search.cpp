#include "search/run_search.hpp"

#include <algorithm>
#include <stdexcept>

namespace elastiform {
namespace {

/// What the store knows already is referred to by its id; the rest is evaluated, in the candidates' order.
std::vector<Evaluation> score_round(const SearchPlan& plan, std::int64_t round, const std::vector<Subnet>& candidates, Evaluator& evaluator,
                                    const CostModel& costs, const ResultStore& store) {
  std::vector<Evaluation> evaluations;
  std::vector<Subnet> unknown;
  for (const Subnet& subnet : candidates) {
    Evaluation evaluation;
    evaluation.subnet = subnet;
    evaluation.weights_hash = plan.description.weights_hash;
    evaluation.split = plan.split;
    evaluation.blocks = plan.description.blocks;
    evaluation.precision = plan.compute;
    evaluation.search = plan.description.name();
    evaluation.round = round;
    if (auto known = store.find(key_of(evaluation))) {
      evaluations.push_back(std::move(*known));
      continue;
    }
    evaluation.costs = costs.of(subnet);
    evaluations.push_back(std::move(evaluation));
    unknown.push_back(subnet);
  }
  const std::vector<Score> scores = unknown.empty() ? std::vector<Score>{} : evaluator.evaluate(unknown);
  if (scores.size() != unknown.size()) throw std::logic_error("run_search: the evaluator did not score every subnet");
  auto score = scores.begin();
  for (Evaluation& evaluation : evaluations)
    if (evaluation.id == 0) evaluation.score = *score++;
  return evaluations;
}

}  // namespace

std::vector<Evaluation> run_search(const SearchPlan& plan, SearchAlgorithm& algorithm, Evaluator& evaluator, const CostModel& costs,
                                   ResultStore& store, const std::function<bool(const std::vector<Evaluation>&)>& progress) {
  std::vector<Evaluation> done;
  const auto learn = [&](const std::vector<Evaluation>& round) {
    algorithm.tell(round);
    done.insert(done.end(), round.begin(), round.end());
  };
  // The rounds in the store are all the state there is, so a resumed search asks what an uninterrupted one would have asked.
  const auto rounds = store.rounds(plan.description.name());
  for (const auto& round : rounds) learn(round);
  for (auto next = static_cast<std::int64_t>(rounds.size()); done.size() < plan.evaluations; ++next) {
    // Whole rounds: were the last one cut to `evaluations`, a search continued from there would draw other subnets than one that was not.
    const std::vector<Subnet> candidates = algorithm.ask(plan.round_size, static_cast<std::uint64_t>(next));
    if (candidates.empty()) break;
    std::vector<Evaluation> round = score_round(plan, next, candidates, evaluator, costs, store);
    store.append(plan.description, round);  // durable before anyone acts on it
    learn(round);
    if (progress && !progress(done)) break;
  }
  return done;
}

}  // namespace elastiform
