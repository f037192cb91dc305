// The residual stream's variance before a training, at every depth of one supernet.
#include <map>
#include <memory>

#include "kernels/reference/reference_backend.hpp"
#include "supernet/initialization.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/residual.hpp"
#include "tests/support/spaces.hpp"

namespace elastiform {

TEST_CASE("the stream's variance at first ends at 2 for every depth where the branch scale follows it", "[supernet][residual]") {
  // Branches of variance 1 that know nothing of each other, which the rule supposes: weights are scaled so, and sequences of one token leave
  // attention nothing to average. With the constant scale of 12 blocks shallow subnets end below: 1 + n / 12.
  const SearchSpace space = equal_blocks_of_depths(ResidualRule::branch_scale_by_depth, {3, 6, 12}, 64, 8, 256);
  const SearchSpace constant = equal_blocks_of_depths(ResidualRule::branch_scale, {3, 6, 12}, 64, 8, 256);
  ReferenceBackend backend;
  const Batch batch = random_batch(space, 300, 1, 3);
  for (const SearchSpace* s : {&space, &constant}) {
    const Weights weights = unit_branches(*s, 7);
    for (const int depth : {3, 6, 12}) {
      Subnet subnet = s->largest();
      subnet.blocks.resize(static_cast<std::size_t>(depth));
      const double variance = stream_variance(*s, backend, weights, subnet, batch);
      CAPTURE(residual_rule(s->model().residual).name, depth);
      CHECK(variance == Approx(s == &space ? 2 : 1 + depth / 12.0).epsilon(0.1));
    }
  }
}

TEST_CASE("with the first values of a training, too, branches add the same variance at every depth where the scale follows it",
          "[supernet][residual]") {
  const Batch batch = random_batch(equal_blocks_of_depths(ResidualRule::branch_scale, {12}, 64, 8, 256), 100, 1, 3);
  ReferenceBackend backend;
  for (const ResidualRule rule : {ResidualRule::branch_scale_by_depth, ResidualRule::branch_scale}) {
    const SearchSpace space = equal_blocks_of_depths(rule, {3, 6, 12}, 64, 8, 256);
    std::map<int, double> added;  // by depth, of several draws: branches and embedding are uncorrelated only in the mean
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      Weights weights(std::make_shared<const WeightTable>(space), DType::float64);
      initialize(weights, seed);
      const auto variance = [&](int depth) {
        Subnet subnet = space.largest();
        subnet.blocks.resize(static_cast<std::size_t>(depth));
        return stream_variance(space, backend, weights, subnet, batch);
      };
      for (const int depth : {3, 6, 12}) added[depth] += variance(depth) - variance(0);
    }
    for (const int depth : {3, 6}) {
      CAPTURE(residual_rule(rule).name, depth);
      CHECK(added[depth] / added[12] == Approx(rule == ResidualRule::branch_scale ? depth / 12.0 : 1).epsilon(0.15));
    }
  }
}

}  // namespace elastiform
