#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "kernels/errors.hpp"
#include "search/algorithms/factories.hpp"
#include "search/algorithms/loss_model.hpp"
#include "search/algorithms/population.hpp"
#include "search/algorithms/variation.hpp"

namespace elastiform {
namespace {

// From a parent that was evaluated, the best of so many mutants by the model's word, and so on from it, as often: the model is a straight
// line through what was seen, and further away it is wrong.
constexpr int kMutants = 32, kChanges = 4;
// The model has a matrix of some 16 numbers for every pair of blocks, and its time grows with their cube: at this depth seconds a round.
constexpr std::size_t kMostBlocks = 512;

/// Search guided by a predictor of losses (Wen et al., arXiv 1912.00848; a predictor drawn anew for every proposal: White et al., arXiv
/// 1910.11858): few evaluations show which blocks miss what they lack most, and proposals take from the others. Begins as evolution does.
class Predictor final : public SearchAlgorithm {
 public:
  Predictor(const FeasibleSet& feasible, const AlgorithmOptions& options)
      : feasible_(feasible), seed_(options.seed), population_(feasible, options) {}

  std::vector<Subnet> ask(std::size_t n, std::uint64_t round) const override {
    RandomStream random(seed_, Purpose::search, round);
    std::vector<Member> best = population_.members();
    std::ranges::stable_sort(best, {}, &Member::loss);
    if (best.size() > population_.size()) best.resize(population_.size());
    std::optional<LossModel> model;
    if (best.size() == population_.size() && std::isfinite(best.front().loss))
      model.emplace(feasible_.costs().space(), population_.members());
    return population_.ask(n, random, [&](const Unseen& unseen) -> std::optional<Subnet> {
      if (!model || unseen.exhausted()) return std::nullopt;
      return proposal(*model, best_of_some(best, population_.tournament(), random).subnet, unseen, random);
    });
  }

  void tell(std::span<const Evaluation> round) override { population_.tell(round); }

 private:
  /// The best by the model's word of all new mutants on the way.
  std::optional<Subnet> proposal(const LossModel& model, Subnet at, const Unseen& unseen, RandomStream& random) const {
    const std::vector<double> effects = model.draw(random);
    double lowest = model.predict(at, effects), lowest_new = std::numeric_limits<double>::infinity();
    std::optional<Subnet> found;
    for (int change = 0; change < kChanges; ++change) {
      std::optional<Subnet> next;
      for (int i = 0; i < kMutants; ++i) {
        auto mutant = mutate(feasible_, at, BlockBias::uniform, random);
        if (!mutant) continue;
        const double loss = model.predict(*mutant, effects);
        if (loss < lowest_new && !unseen.has(*mutant)) {
          lowest_new = loss;
          found = mutant;
        }
        if (loss < lowest) {
          lowest = loss;
          next = std::move(mutant);
        }
      }
      if (!next) break;
      at = std::move(*next);
    }
    return found;
  }

  const FeasibleSet& feasible_;
  std::uint64_t seed_;
  Population population_;
};

}  // namespace

std::unique_ptr<SearchAlgorithm> make_predictor(const FeasibleSet& feasible, const AlgorithmOptions& options) {
  if (const std::size_t blocks = feasible.costs().space().blocks().size(); blocks > kMostBlocks)
    throw InputError({"search.algorithm predictor", "a space of at most " + std::to_string(kMostBlocks) + " blocks", std::to_string(blocks),
                      "evolution"});
  return std::make_unique<Predictor>(feasible, options);
}

}  // namespace elastiform
