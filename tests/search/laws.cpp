// Statistical tests of the laws of drawing: Pearson's chi-square against the exact law, fixed seeds, at z = 4.5 (one honest run in 3·10^5).
#include <cmath>
#include <functional>
#include <map>

#include "search/feasible_set.hpp"
#include "tests/search/small_spaces.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

constexpr int kDraws = 60'000;

/// Wilson-Hilferty: chi-square of `cells` - 1 degrees of freedom as a standard normal.
double chi_square_z(const std::map<Subnet, int>& drawn, const std::map<Subnet, double>& law) {
  double chi = 0;
  for (const auto& [subnet, probability] : law) {
    const auto found = drawn.find(subnet);
    const double expected = probability * kDraws, count = found == drawn.end() ? 0 : found->second;
    chi += (count - expected) * (count - expected) / expected;
  }
  for (const auto& entry : drawn)
    if (!law.contains(entry.first)) return INFINITY;  // drew what the law forbids
  const double freedom = static_cast<double>(law.size()) - 1, spread = 2 / (9 * freedom);
  return (std::cbrt(chi / freedom) - (1 - spread)) / std::sqrt(spread);
}

double z_of(const std::map<Subnet, double>& law, const std::function<Subnet(RandomStream&)>& draw) {
  RandomStream random(7, Purpose::test);
  std::map<Subnet, int> drawn;
  for (int i = 0; i < kDraws; ++i) ++drawn[draw(random)];
  return chi_square_z(drawn, law);
}

struct Setting {
  SearchSpace space;
  CostModel costs = plain_costs(space);
  FeasibleSet set;
  std::vector<Subnet> members;

  static SearchSpace make_space() {
    ModelConfig model = preset_model("llama");
    model.head_dim = 8;
    model.context = 16;
    SearchSpace::Block block;
    block.heads = {1, 2, 4};
    block.ffn.ratios = {1, 3};
    return {model, {16, 32}, {1, 2, 3}, {block, block, block}};
  }
  Setting() : space(make_space()), set(costs, Budget::parse({"parameters=..55%"}, costs)) {
    for (BigInt i = 0; i < set.count(); ++i) members.push_back(set.unrank(i));
  }
};

std::map<Subnet, double> balanced_law(const std::vector<Subnet>& members) {
  std::map<int, std::map<int, int>> sizes;
  for (const Subnet& subnet : members) ++sizes[subnet.embed][subnet.depth()];
  std::map<Subnet, double> law;
  for (const Subnet& subnet : members) {
    const auto& depths = sizes[subnet.embed];
    law[subnet] = 1.0 / static_cast<double>(sizes.size()) / static_cast<double>(depths.size()) / depths.at(subnet.depth());
  }
  return law;
}

}  // namespace

TEST_CASE("Draws follow the laws, and the test catches a product of marginals", "[search]") {
  const Setting s;
  REQUIRE(s.members.size() > 100);
  std::map<Subnet, double> uniform;
  for (const Subnet& subnet : s.members) uniform[subnet] = 1.0 / static_cast<double>(s.members.size());
  const std::map<Subnet, double> balanced = balanced_law(s.members);

  CHECK(std::abs(z_of(uniform, [&](RandomStream& random) { return s.set.draw(Law::uniform, random); })) < 4.5);
  CHECK(std::abs(z_of(balanced, [&](RandomStream& random) { return s.set.draw(Law::balanced, random); })) < 4.5);
  // The laws differ, so each must fail the other's test.
  CHECK(z_of(balanced, [&](RandomStream& random) { return s.set.draw(Law::uniform, random); }) > 20);

  // What samplers without exact counting do: embed, depth and every gene from its own marginal, until the whole happens to be feasible.
  const auto marginals = [&](RandomStream& random) {
    const auto member = [&]() -> const Subnet& { return s.members[random.below(s.members.size())]; };
    for (int tries = 0; tries < 1000; ++tries) {
      const Subnet& like = member();
      Subnet subnet = like;
      for (std::size_t i = 0; i < subnet.blocks.size(); ++i) {
        const auto gene = [&](int BlockGenes::*which) {
          for (;;)
            if (const Subnet& other = member(); other.embed == like.embed && other.depth() == like.depth()) return other.blocks[i].*which;
        };
        subnet.blocks[i].heads = subnet.blocks[i].groups = gene(&BlockGenes::heads);
        subnet.blocks[i].ffn = gene(&BlockGenes::ffn);
      }
      if (s.set.contains(subnet)) return subnet;
    }
    return s.members.front();
  };
  CHECK(z_of(uniform, marginals) > 20);
  CHECK(z_of(balanced, marginals) > 20);
}

TEST_CASE("Completions are uniform", "[search]") {
  const Setting s;
  const Subnet first = s.members.back();
  const std::vector<BlockGenes> prefix(first.blocks.begin(), first.blocks.begin() + 1);
  std::map<Subnet, double> law;
  for (const Subnet& subnet : s.members)
    if (subnet.embed == first.embed && subnet.depth() == first.depth() && subnet.blocks.front() == prefix.front()) law[subnet] = 1;
  REQUIRE(law.size() > 3);
  for (auto& entry : law) entry.second /= static_cast<double>(law.size());
  CHECK(std::abs(z_of(law, [&](RandomStream& random) { return s.set.complete(first.embed, first.depth(), prefix, random).value(); })) <
        4.5);
}

TEST_CASE("Laws have names, and unknown ones are refused with the nearest", "[search]") {
  CHECK(parse_law("balanced") == Law::balanced);
  CHECK(parse_law(name_of(Law::uniform)) == Law::uniform);
  CHECK_THROWS_WITH(parse_law("unifrom"), Catch::Contains("uniform"));
  CHECK_THROWS_WITH(parse_deployable("hf-lama"), Catch::Contains("hf-llama"));
  for (const char* name : {"any", "hf-gpt2", "gguf-q8_0"}) CHECK(name_of(parse_deployable(name)) == name);
}

}  // namespace elastiform
