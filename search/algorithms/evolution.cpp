#include <optional>
#include <span>
#include <vector>

#include "kernels/random.hpp"
#include "search/algorithms/factories.hpp"
#include "search/algorithms/population.hpp"
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
  Evolution(const FeasibleSet& feasible, const AlgorithmOptions& options)
      : feasible_(feasible), seed_(options.seed), population_(feasible, options) {}

  std::vector<Subnet> ask(std::size_t n, std::uint64_t round) const override {
    RandomStream random(seed_, Purpose::search, round);
    // Late changes let the evaluator reuse prefixes but explore few first blocks, so rounds alternate.
    const BlockBias bias = round % 2 == 0 ? BlockBias::late : BlockBias::uniform;
    return population_.ask(n, random, [&](const Unseen& unseen) { return child(unseen, bias, random); });
  }

  void tell(std::span<const Evaluation> round) override { population_.tell(round); }

 private:
  const Subnet& parent(RandomStream& random) const {
    return best_of_some(std::span(population_.members()).last(population_.size()), population_.tournament(), random).subnet;
  }

  std::optional<Subnet> child(const Unseen& unseen, BlockBias bias, RandomStream& random) const {
    if (unseen.exhausted()) return std::nullopt;
    for (int i = 0; i < kTries; ++i) {
      const Subnet& first = parent(random);
      auto made = random.below(4) == 0 ? cross(feasible_, first, parent(random), random) : mutate(feasible_, first, bias, random);
      if (made && !unseen.has(*made)) return made;
    }
    return std::nullopt;
  }

  const FeasibleSet& feasible_;
  std::uint64_t seed_;
  Population population_;
};

}  // namespace

std::unique_ptr<SearchAlgorithm> make_evolution(const FeasibleSet& feasible, const AlgorithmOptions& options) {
  return std::make_unique<Evolution>(feasible, options);
}

}  // namespace elastiform
