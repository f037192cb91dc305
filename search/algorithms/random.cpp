#include "search/algorithms/factories.hpp"
#include "search/algorithms/unseen.hpp"
#include "search/feasible_set.hpp"

namespace elastiform {
namespace {

/// Draws under the law, without repetition: the baseline that every other algorithm has to beat (Li and Talwalkar, arXiv 1902.07638).
class RandomSearch final : public SearchAlgorithm {
 public:
  RandomSearch(const FeasibleSet& feasible, const AlgorithmOptions& options) : options_(options), told_(feasible) {}

  std::vector<Subnet> ask(std::size_t n, std::uint64_t round) const override {
    RandomStream random(options_.seed, Purpose::search, round);
    Unseen unseen = told_;
    std::vector<Subnet> asked;
    while (asked.size() < n) {
      auto subnet = unseen.draw(options_.law, random);
      if (!subnet) break;
      unseen.add(*subnet);
      asked.push_back(std::move(*subnet));
    }
    return asked;
  }

  void tell(std::span<const Evaluation> round) override {
    for (const Evaluation& evaluation : round) told_.add(evaluation.subnet);
  }

 private:
  AlgorithmOptions options_;
  Unseen told_;
};

}  // namespace

std::unique_ptr<SearchAlgorithm> make_random_search(const FeasibleSet& feasible, const AlgorithmOptions& options) {
  return std::make_unique<RandomSearch>(feasible, options);
}

}  // namespace elastiform
