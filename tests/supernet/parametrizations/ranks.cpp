// LoRA of several ranks: nested slices of one pair of matrices, with one factor.
#include <set>

#include "supernet/network.hpp"
#include "supernet/parametrizations/merge.hpp"
#include "tests/supernet/training_pass.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/cpu.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/tuned_spaces.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

double loss_of(Backend& backend, const Weights& weights, const Subnet& subnet, const Batch& batch) {
  return training_pass(Network(weights.table().space(), DType::float32), backend, weights, subnet, batch).report.label_loss;
}

SearchSpace ranked_space() {
  const SearchSpace llama = tiny_space("llama");
  return with_tuning(llama, elastic_lora(llama.model()));
}

}  // namespace

TEST_CASE("merging at a rank is what the network computes at it, and commutes with slicing, bit for bit", "[supernet][tuning][ranks]") {
  const SearchSpace space = ranked_space();
  Cpu cpu(2);
  const Weights weights = random_weights(space, DType::float32, 4);
  const Batch batch = random_batch(space, 3, 24, 8);
  std::set<double> losses;
  for (const int rank : {1, 2, 0}) {
    const Weights plain = merged(weights, rank);
    CHECK(plain.table().space().model().tuning == Tuning{});
    for (std::uint64_t i = 0; i < 6; ++i) {
      Subnet subnet = random_subnet(space, i);
      const Subnet without = subnet;
      subnet.rank = rank;
      CAPTURE(format(subnet));
      REQUIRE(space.contains(subnet));
      const double loss = loss_of(cpu.backend, weights, subnet, batch);
      CHECK(loss == loss_of(cpu.backend, plain, without, batch));
      const Weights dense = extract(weights, subnet);
      CHECK(loss == loss_of(cpu.backend, dense, dense.table().space().largest(), batch));
      CHECK(same_bits(extract(plain, without), merged(dense)));
      if (i == 0) losses.insert(loss);
    }
  }
  CHECK(losses.size() == 3);  // ranks make a difference
}

TEST_CASE("the factor of every rank is alpha over the largest", "[supernet][tuning][ranks]") {
  const SearchSpace space = ranked_space();
  Weights weights = random_weights(space, DType::float32, 4);
  const Weights one = merged(weights, 1);
  const ConstView w = weights.view("block.0.attention.query"), a = weights.view("block.0.attention.query.lora_a"),
                  b = weights.view("block.0.attention.query.lora_b"), found = one.view("block.0.attention.query");
  for (std::int64_t row = 0; row < w.rows; ++row)
    for (std::int64_t c = 0; c < w.columns; ++c)
      CHECK(found.row<float>(row)[c] == Approx(w.row<float>(row)[c] + 2.0f / 4 * a.row<float>(row)[0] * b.row<float>(0)[c]).margin(1e-6));
}

TEST_CASE("bands of A and B end at the ranks, and a subnet of one has those up to it", "[supernet][tuning][ranks]") {
  const SearchSpace space = ranked_space();
  const WeightTable table(space);
  const TensorSpec& a = table.at("block.1.ffn.up.lora_a");
  const TensorSpec& b = table.at("block.1.ffn.up.lora_b");
  CHECK(a.column_bands == std::vector<std::int64_t>{1, 2, 4});
  CHECK(b.row_bands == std::vector<std::int64_t>{1, 2, 4});
  Subnet subnet = space.largest();
  CHECK(table.extent(a, subnet).columns == 4);
  subnet.rank = 2;
  CHECK(table.extent(a, subnet).columns == 2);
  CHECK(table.extent(b, subnet).rows == 2);
  CHECK(table.extent(table.at("block.1.ffn.up"), subnet).columns == 72);
}

TEST_CASE("a subnet's rank in its text", "[supernet][ranks]") {
  const Subnet subnet = parse_subnet("e16:2xh2f32r4,h1f16r4@0,2-3");
  CHECK(subnet.rank == 4);
  CHECK(format(subnet) == "e16:2xh2f32r4,h1f16r4@0,2-3");
  CHECK(format(parse_subnet("e16: h2 r2 f32")) == "e16:h2f32r2");
  CHECK(parse_subnet("e16:h2f32").rank == 0);
  CHECK(parse_subnet("e16:h2f32") < parse_subnet("e16:h2f32r1"));
  CHECK_THROWS_WITH(parse_subnet("e16:h2f32r4,h1f32r2"), Contains("block 1 has another LoRA rank than block 0"));
  CHECK_THROWS_WITH(parse_subnet("e16:h2f32r4,h1f32"), Contains("block 1 has another LoRA rank than block 0"));
  CHECK_THROWS_WITH(parse_subnet("e16:h2f32r0"), Contains("of at least 1"));
}

TEST_CASE("ranks that cannot be are refused, of a space and of a subnet", "[supernet][tuning][ranks]") {
  const SearchSpace llama = tiny_space("llama"), space = ranked_space();
  for (const std::vector<int>& ranks : {std::vector<int>{4}, {2, 2}, {4, 2}, {0, 2}, {-1, 4}})
    CHECK_THROWS_AS(with_tuning(llama, elastic_lora(llama.model(), ranks)), InputError);
  Tuning other = elastic_lora(llama.model());
  other.rank = 8;
  CHECK_THROWS_AS(with_tuning(llama, other), InputError);
  Subnet subnet = space.middle();
  subnet.rank = 3;
  CHECK_THROWS_WITH(space.check(subnet, "test"), Contains("its LoRA rank is 3") && Contains("1, 2, or unwritten 4"));
  CHECK(space.nearest(subnet).rank == 0);
  subnet.rank = 4;  // a second form of the largest
  CHECK_FALSE(space.contains(subnet));
  subnet.rank = 2;
  CHECK(space.contains(subnet));
  CHECK_THROWS_WITH(llama.check(subnet, "test"), Contains("its LoRA rank is 2"));
  CHECK(SearchSpace::parse(space.text(), "test") == space);
  CHECK(with_tuning(llama, lora(llama.model())).text().find("ranks") == std::string::npos);
}

}  // namespace elastiform
