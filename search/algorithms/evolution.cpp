#include <algorithm>
#include <limits>

#include "search/algorithms/factories.hpp"
#include "search/algorithms/unseen.hpp"
#include "search/algorithms/variation.hpp"

namespace elastiform {
namespace {

// Children that repeat known ones are made again so often, then a draw under the law takes their place.
constexpr int kTries = 16;

/// Regularised evolution (Real et al., arXiv 1802.01548): the population is the last P evaluated, so every member dies of age and none by
/// luck; parents are the best of a random few. Three children in four are mutants, the others crossings. The first P are draws, but for as
/// many homogeneous subnets as are asked for: of a pretrained network's weights these can be ahead of all draws.
class Evolution final : public SearchAlgorithm {
 public:
  Evolution(const FeasibleSet& feasible, const AlgorithmOptions& options) : feasible_(feasible), options_(options), told_(feasible) {
    options_.population = std::max<std::size_t>(options_.population, 2);
    options_.tournament = std::clamp<std::size_t>(options_.tournament, 1, options_.population);
    if (options_.founders > 0) founders_ = feasible.homogeneous(std::min(options_.founders, options_.population));
  }

  std::vector<Subnet> ask(std::size_t n, std::uint64_t round) const override {
    RandomStream random(options_.seed, Purpose::search, round);
    // Late changes let the evaluator reuse prefixes but explore few first blocks, so rounds alternate.
    const BlockBias bias = round % 2 == 0 ? BlockBias::late : BlockBias::uniform;
    const bool founding = history_.size() < options_.population;
    if (founding) n = std::min(n, options_.population - history_.size());
    Unseen unseen = told_;
    std::vector<Subnet> asked;
    while (asked.size() < n) {
      std::optional<Subnet> subnet = founding ? founder(unseen) : child(unseen, bias, random);
      if (!subnet) subnet = unseen.draw(options_.law, random);
      if (!subnet) break;
      unseen.add(*subnet);
      asked.push_back(std::move(*subnet));
    }
    return asked;
  }

  void tell(std::span<const Evaluation> round) override {
    for (const Evaluation& evaluation : round) {
      told_.add(evaluation.subnet);
      const double loss = evaluation.score.loss;
      history_.push_back({evaluation.subnet, std::isfinite(loss) ? loss : std::numeric_limits<double>::infinity()});
    }
  }

 private:
  struct Member {
    Subnet subnet;
    double loss = 0;
  };

  std::optional<Subnet> founder(const Unseen& unseen) const {
    const auto next = std::ranges::find_if(founders_, [&](const Subnet& one) { return !unseen.has(one); });
    return next == founders_.end() ? std::nullopt : std::optional(*next);
  }

  const Member& parent(RandomStream& random) const {
    const std::size_t first = history_.size() - options_.population;
    std::size_t best = first + random.below(options_.population);
    for (std::size_t i = 1; i < options_.tournament; ++i) {
      const std::size_t rival = first + random.below(options_.population);
      if (history_[rival].loss < history_[best].loss) best = rival;
    }
    return history_[best];
  }

  std::optional<Subnet> child(const Unseen& unseen, BlockBias bias, RandomStream& random) const {
    if (unseen.exhausted()) return std::nullopt;
    for (int i = 0; i < kTries; ++i) {
      const Subnet& first = parent(random).subnet;
      auto made = random.below(4) == 0 ? cross(feasible_, first, parent(random).subnet, random) : mutate(feasible_, first, bias, random);
      if (made && !unseen.has(*made)) return made;
    }
    return std::nullopt;
  }

  const FeasibleSet& feasible_;
  AlgorithmOptions options_;
  std::vector<Subnet> founders_;
  Unseen told_;
  std::vector<Member> history_;  // oldest first
};

}  // namespace

std::unique_ptr<SearchAlgorithm> make_evolution(const FeasibleSet& feasible, const AlgorithmOptions& options) {
  return std::make_unique<Evolution>(feasible, options);
}

}  // namespace elastiform
