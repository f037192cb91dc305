#include <set>

#include "search/algorithms/factories.hpp"
#include "search/feasible_set.hpp"

namespace elastiform {
namespace {

/// Subnets whose blocks are all equal, in order: the strong rival that a search has to beat (docs/search.md).
class HomogeneousSearch final : public SearchAlgorithm {
 public:
  HomogeneousSearch(const FeasibleSet& feasible, std::size_t most)
      : members_(most == 0 ? feasible.homogeneous() : feasible.homogeneous(most)) {}

  std::vector<Subnet> ask(std::size_t n, std::uint64_t) const override {
    std::vector<Subnet> asked;
    for (const Subnet& member : members_) {
      if (asked.size() == n) break;
      if (!told_.contains(member)) asked.push_back(member);
    }
    return asked;
  }

  void tell(std::span<const Evaluation> round) override {
    for (const Evaluation& evaluation : round) told_.insert(evaluation.subnet);
  }

 private:
  std::vector<Subnet> members_;
  std::set<Subnet> told_;
};

}  // namespace

std::unique_ptr<SearchAlgorithm> make_homogeneous_search(const FeasibleSet& feasible, const AlgorithmOptions& options) {
  return std::make_unique<HomogeneousSearch>(feasible, options.members);
}

}  // namespace elastiform
