#include "search/algorithms/unseen.hpp"

namespace elastiform {
namespace {

// With half of a set seen, 32 draws in a row repeat with probability 2^-32: until then what is proposed follows the law.
constexpr int kDraws = 32;

}  // namespace

std::optional<Subnet> Unseen::draw(Law law, RandomStream& random) const {
  if (exhausted()) return std::nullopt;
  Subnet subnet;
  for (int i = 0; i < kDraws; ++i) {
    subnet = feasible_->draw(law, random);
    if (!has(subnet)) return subnet;
  }
  BigInt rank = feasible_->rank(subnet);
  for (std::size_t step = 0; step <= seen_.size(); ++step) {
    if (++rank == feasible_->count()) rank = 0;
    subnet = feasible_->unrank(rank);
    if (!has(subnet)) return subnet;
  }
  return std::nullopt;
}

}  // namespace elastiform
