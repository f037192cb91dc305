#include "search/measured_finalists.hpp"

#include <algorithm>
#include <cmath>

#include "search/pareto_front.hpp"

namespace elastiform {
namespace {

// 50 passes each: the median of a network of 1 ms then moves by about a tenth of what single passes vary.
constexpr int kRounds = 10, kPasses = 5;
constexpr double kPicoseconds = 1e9;  // of a millisecond

using Lists = std::vector<std::vector<Evaluation>*>;

/// Those that would be answers if nothing more were measured, and have no median yet.
std::vector<Evaluation> unmeasured_answers(const Lists& lists, Cost cost, std::size_t best_of_all, const MeasuredFinalists& known) {
  std::vector<Evaluation> answers;
  std::set<std::int64_t> ids;
  const auto want = [&](const Evaluation& evaluation) {
    if (!known.inside.contains(evaluation.id) && ids.insert(evaluation.id).second) answers.push_back(evaluation);
  };
  ParetoFront front(cost);
  for (const auto* list : lists) {
    const Evaluation* best = nullptr;
    for (const Evaluation& evaluation : *list) {
      if (known.outside.contains(evaluation.id) || !std::isfinite(evaluation.score.loss)) continue;
      front.add(evaluation);
      if (best == nullptr || evaluation.score.loss < best->score.loss) best = &evaluation;
    }
    if (best != nullptr) want(*best);
  }
  for (const Evaluation& member : front.members()) want(member);
  std::vector<Evaluation> all;
  std::set<std::int64_t> once;
  for (const auto* list : lists)
    for (const Evaluation& evaluation : *list)
      if (!known.outside.contains(evaluation.id) && std::isfinite(evaluation.score.loss) && once.insert(evaluation.id).second)
        all.push_back(evaluation);
  std::ranges::stable_sort(all, {}, [](const Evaluation& evaluation) { return evaluation.score.loss; });
  for (std::size_t i = 0; i < std::min(best_of_all, all.size()); ++i) want(all[i]);
  return answers;
}

}  // namespace

bool within(const Limit& limit, double milliseconds) {
  const double picoseconds = milliseconds * kPicoseconds;
  return picoseconds >= static_cast<double>(limit.low) && picoseconds <= static_cast<double>(limit.high);
}

MeasuredFinalists measure_finalists(const Limit& limit, Cost cost, std::size_t best, std::vector<Evaluation>& found,
                                    std::vector<Evaluation>& rivals, InferenceClock& clock, ResultStore& store,
                                    const std::function<bool()>& stop) {
  MeasuredFinalists finalists;
  finalists.measured = true;
  const Lists lists{&found, &rivals};
  const auto judge = [&](const Evaluation& evaluation) {
    if (std::isfinite(evaluation.latency_ms))
      (within(limit, evaluation.latency_ms) ? finalists.inside : finalists.outside).insert(evaluation.id);
  };
  for (const auto* list : lists) std::ranges::for_each(*list, judge);
  std::size_t measured = 0;
  while (true) {
    std::vector<Evaluation> answers = unmeasured_answers(lists, cost, best, finalists);
    const std::size_t wanted = answers.size();
    answers.resize(std::min(wanted, kMostMeasured - measured));
    if (answers.empty()) {
      finalists.unmeasured = wanted;
      break;
    }
    measured += answers.size();
    std::vector<Subnet> subnets;
    for (const Evaluation& answer : answers) subnets.push_back(answer.subnet);
    const std::vector<Milliseconds> times = time_in_turn(clock, subnets, kRounds, kPasses, stop);
    std::vector<std::pair<std::int64_t, double>> medians;
    for (std::size_t i = 0; i < answers.size(); ++i) medians.emplace_back(answers[i].id, times[i].median);
    store.set_latencies(medians);
    for (const auto& [id, median] : medians)
      for (auto* list : lists)
        for (Evaluation& evaluation : *list)
          if (evaluation.id == id) evaluation.latency_ms = median, judge(evaluation);
  }
  return finalists;
}

}  // namespace elastiform
