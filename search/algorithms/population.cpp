#include "search/algorithms/population.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace elastiform {

Population::Population(const FeasibleSet& feasible, const AlgorithmOptions& options) : options_(options), told_(feasible) {
  options_.population = std::max<std::size_t>(options_.population, 2);
  options_.tournament = std::clamp<std::size_t>(options_.tournament, 1, options_.population);
  if (options_.founders > 0) founders_ = feasible.homogeneous(std::min(options_.founders, options_.population));
}

std::vector<Subnet> Population::ask(std::size_t n, RandomStream& random, FunctionRef<std::optional<Subnet>(const Unseen&)> next) const {
  const bool founding = members_.size() < options_.population;
  if (founding) n = std::min(n, options_.population - members_.size());
  Unseen unseen = told_;
  auto founder = founders_.begin();
  std::vector<Subnet> asked;
  while (asked.size() < n) {
    std::optional<Subnet> subnet;
    if (founding) {
      founder = std::find_if(founder, founders_.end(), [&](const Subnet& one) { return !unseen.has(one); });
      if (founder != founders_.end()) subnet = *founder;
    } else {
      subnet = next(unseen);
    }
    if (!subnet) subnet = unseen.draw(options_.law, random);
    if (!subnet) break;
    unseen.add(*subnet);
    asked.push_back(std::move(*subnet));
  }
  return asked;
}

void Population::tell(std::span<const Evaluation> round) {
  for (const Evaluation& evaluation : round) {
    told_.add(evaluation.subnet);
    const double loss = evaluation.score.loss;
    members_.push_back({evaluation.subnet, std::isfinite(loss) ? loss : std::numeric_limits<double>::infinity()});
  }
}

const Member& best_of_some(std::span<const Member> members, std::size_t tournament, RandomStream& random) {
  std::size_t best = random.below(members.size());
  for (std::size_t i = 1; i < tournament; ++i) {
    const std::size_t rival = random.below(members.size());
    if (members[rival].loss < members[best].loss) best = rival;
  }
  return members[best];
}

}  // namespace elastiform
