#include "supernet/search_space.hpp"

#include <algorithm>
#include <cmath>
#include <set>

#include "kernels/random.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"

namespace elastiform {
namespace {

using Block = SearchSpace::Block;
using Catch::Matchers::Contains;

Block ratios(std::vector<int> heads, std::vector<double> ffn) {
  return {.heads = std::move(heads), .ffn = {.widths = {}, .ratios = std::move(ffn)}};
}
Block widths(std::vector<int> heads, std::vector<int> ffn) {
  return {.heads = std::move(heads), .ffn = {.widths = std::move(ffn), .ratios = {}}};
}

SearchSpace demo() {
  std::vector<Block> blocks(6, ratios({2, 4, 6}, {2, 3, 4}));
  blocks[5] = ratios({6}, {2, 4});
  return {preset_model("llama"), {192, 256, 320}, {2, 3, 5, 6}, std::move(blocks)};
}

int pick(RandomStream& random, const std::vector<int>& choices) { return choices[random.below(choices.size())]; }

std::vector<int> some(RandomStream& random, int step, int most) {
  std::vector<int> choices;
  for (std::size_t n = 1 + random.below(4); n > 0; --n)
    choices.push_back(step * static_cast<int>(1 + random.below(static_cast<std::uint64_t>(most))));
  return choices;
}

SearchSpace random_space(RandomStream& random) {
  ModelConfig model = preset_model(random.below(2) ? "llama" : "gpt2");
  model.queries_per_group = 1 + static_cast<int>(random.below(3));
  model.branch_scale = random.uniform() + 1e-3;
  model.norm_eps = 1e-7 + random.uniform() * 1e-3;
  std::vector<int> depth = some(random, 1, 8);
  const int deepest = *std::max_element(depth.begin(), depth.end());
  std::vector<Block> blocks;
  for (int i = 0; i < deepest; ++i) {
    const std::vector<int> heads = some(random, model.queries_per_group, 8);
    blocks.push_back(random.below(2) ? widths(heads, some(random, 8, 100))
                                     : ratios(heads, {random.uniform() + 1, random.uniform() * 4 + 1}));
  }
  return {model, some(random, 32, 12), std::move(depth), std::move(blocks)};
}

Subnet random_member(const SearchSpace& space, RandomStream& random) {
  Subnet subnet{.embed = pick(random, space.embed()), .blocks = {}, .kept = {}};
  const int depth = pick(random, space.depth());
  if (random.below(2)) {
    std::set<int> kept;
    while (static_cast<int>(kept.size()) < depth)
      kept.insert(static_cast<int>(random.below(static_cast<std::uint64_t>(space.max_depth()))));
    subnet.kept.assign(kept.begin(), kept.end());
    if (subnet.kept.back() == depth - 1) subnet.kept.clear();
  }
  for (int i = 0; i < depth; ++i) {
    const Block& block = space.blocks()[static_cast<std::size_t>(subnet.kept.empty() ? i : subnet.kept[static_cast<std::size_t>(i)])];
    const int heads = pick(random, block.heads);
    subnet.blocks.push_back(
        {.heads = heads, .groups = heads / space.model().queries_per_group, .ffn = pick(random, block.ffn.at(subnet.embed))});
  }
  return subnet;
}

std::string objection(const SearchSpace& space, const std::string& text) {
  return input_error([&] { space.check(parse_subnet(text), "runs/demo"); });
}

}  // namespace

TEST_CASE("the presets", "[supernet][space]") {
  const ModelConfig llama = preset_model("llama"), gpt2 = preset_model("gpt2");
  CHECK((llama.norm == Norm::rms && llama.ffn == FeedForwardKind::swiglu && llama.positions == Positions::rope && !llama.biases));
  CHECK((gpt2.norm == Norm::layer && gpt2.ffn == FeedForwardKind::gelu_tanh && gpt2.positions == Positions::learned && gpt2.biases));
  CHECK(gpt2.preset == "gpt2");
  CHECK(input_error([] { preset_model("lama"); }) == "model preset: expected one of llama, gpt2, vit, found 'lama'; nearest llama");
}

TEST_CASE("FFN ratios become the nearest multiple of 8, once each and ascending", "[supernet][space]") {
  CHECK(ratios({1}, {4, 2, 3}).ffn.at(96) == std::vector<int>{192, 288, 384});
  CHECK(ratios({1}, {8.0 / 3}).ffn.at(96) == std::vector<int>{256});
  CHECK(ratios({1}, {2.6}).ffn.at(32) == std::vector<int>{80});  // 83.2
  CHECK(ratios({1}, {2.7}).ffn.at(32) == std::vector<int>{88});  // 86.4
  CHECK(ratios({1}, {2.7, 2.6, 2.75}).ffn.at(32) == std::vector<int>{80, 88});
  CHECK(FeedForwardChoices{.widths = {8, 24}, .ratios = {4}}.at(96) == std::vector<int>{8, 24});
}

TEST_CASE("smallest, middle and largest take the first, the ⌊n/2⌋-th and the last of every list", "[supernet][space]") {
  const SearchSpace space = demo();
  CHECK(format(space.smallest()) == "e192:2xh2f384");
  CHECK(format(space.middle()) == "e256:5xh4f768");  // of four depths the third
  CHECK(format(space.largest()) == "e320:6xh6f1280");
  const SearchSpace pinned(preset_model("llama"), {64}, {3}, {ratios({4}, {2, 4}), widths({2, 4}, {96, 64}), ratios({1, 2, 3}, {3})});
  CHECK(format(pinned.middle()) == "e64:h4f256,h4f96,h2f192");
  for (const Subnet& subnet : {space.smallest(), space.middle(), space.largest()}) CHECK(space.contains(subnet));
  CHECK(space.max_ffn(5) == 1280);
  CHECK(space.max_heads(5) == 6);
}

TEST_CASE("a subnet outside the space is answered with the rule it breaks and the nearest member", "[supernet][space]") {
  const SearchSpace space = demo();
  CHECK(objection(space, "e320:2xh7f1280") ==
        "subnet e320:2xh7f1280: block 0 has 7 heads; runs/demo allows 2, 4, 6; nearest e320:2xh6f1280");
  CHECK(objection(space, "e300:2xh6f1280") ==
        "subnet e300:2xh6f1280: embed is 300; runs/demo allows 192, 256, 320; nearest e320:2xh6f1280");
  CHECK(objection(space, "e320:4xh6f1280") == "subnet e320:4xh6f1280: depth is 4; runs/demo allows 2, 3, 5, 6; nearest e320:3xh6f1280");
  CHECK(
      objection(space, "e320:h6f1280,h6f1000") ==
      "subnet e320:h6f1280,h6f1000: block 1 has FFN width 1000; runs/demo allows 640, 960, 1280 at embed 320; nearest e320:h6f1280,h6f960");
  CHECK(objection(space, "e320:2xh6k3f1280") ==
        "subnet e320:2xh6k3f1280: block 0 has 3 KV groups; runs/demo allows 6 for 6 heads; nearest e320:2xh6f1280");
  CHECK(objection(space, "e320:2xh6f1280@1,6") ==
        "subnet e320:2xh6f1280@1,6: the blocks kept after @ are not 2 ascending indices of blocks; runs/demo allows 0 to 5; nearest "
        "e320:2xh6f1280");
  CHECK_THAT(objection(space, "e320:2xh4f1280@0,5"), Contains("block 5 has 4 heads; runs/demo allows 6; nearest e320:h4f1280,h6f1280@0,5"));
  CHECK(objection(space, "e320:h4f1280,h6f640@2,5") == kNoError);
}

TEST_CASE("kept lists must be canonical", "[supernet][space]") {
  const SearchSpace space = demo();
  const BlockGenes genes{.heads = 6, .groups = 6, .ffn = 1280};
  const auto with = [&](std::vector<int> kept) {
    return space.contains({.embed = 320, .blocks = {genes, genes}, .kept = std::move(kept)});
  };
  CHECK(with({}));
  CHECK(with({0, 5}));
  CHECK_FALSE(with({0, 1}));  // the prefix written out is a second name of the same subnet
  CHECK_FALSE(with({5, 0}));
  CHECK_FALSE(with({4, 4}));
  CHECK_FALSE(with({-1, 4}));
  CHECK_FALSE(with({0, 6}));
  CHECK_FALSE(with({5}));
  CHECK_FALSE(space.contains({}));
}

TEST_CASE("members are contained, and what is near a subnet is a member", "[supernet][space]") {
  RandomStream random(3, Purpose::test);
  int outside = 0;
  for (int i = 0; i < 300; ++i) {
    const SearchSpace space = random_space(random);
    CAPTURE(space.text());
    for (int j = 0; j < 20; ++j) {
      const Subnet member = random_member(space, random);
      CAPTURE(format(member));
      REQUIRE(space.contains(member));
      REQUIRE(space.nearest(member) == member);
      Subnet moved = member;
      moved.embed += static_cast<int>(random.below(40));
      BlockGenes& genes = moved.blocks[random.below(moved.blocks.size())];
      genes.groups = genes.heads = genes.heads + static_cast<int>(random.below(2));
      if (random.below(2)) moved.blocks.push_back(genes);
      if (!space.contains(moved)) ++outside;
      const Subnet near = space.nearest(moved);
      REQUIRE(space.contains(near));
      REQUIRE(parse_subnet(format(near)) == near);
    }
  }
  CHECK(outside > 1000);
}

TEST_CASE("the space of one subnet holds exactly that subnet, its blocks renumbered", "[supernet][space]") {
  const Subnet subnet = parse_subnet("e320:h4f1280,h6f640@2,5");
  const SearchSpace dense = SearchSpace::of(demo().model(), subnet);
  CHECK(format(dense.largest()) == "e320:h4f1280,h6f640");
  CHECK(dense.largest() == dense.smallest());
  CHECK(dense.model() == demo().model());
  CHECK_FALSE(dense.contains(subnet));
  CHECK(input_error([&] { SearchSpace::of(demo().model(), parse_subnet("e320:h6k2f8")); }) ==
        "space: subnet e320:h6k2f8: expected 1 heads in each KV group, found 6 heads over 2 groups");
}

TEST_CASE("a space's text is canonical and its hash follows every field", "[supernet][space]") {
  RandomStream random(4, Purpose::test);
  for (int i = 0; i < 300; ++i) {
    const SearchSpace space = random_space(random);
    CAPTURE(space.text());
    REQUIRE(SearchSpace::parse(space.text(), "file") == space);
    REQUIRE(SearchSpace::parse(space.text(), "file").text() == space.text());
  }
  const auto make = [](const ModelConfig& model) { return SearchSpace(model, {64}, {1}, {widths({2}, {8})}); };
  const ModelConfig base;
  std::vector<ModelConfig> models(18, base);
  models[1].preset = "gpt2";
  models[2].vocabulary = 257;
  models[3].context = 64;
  models[4].head_dim = 16;
  models[5].queries_per_group = 2;
  models[6].norm = Norm::layer;
  models[7].norm_eps = 1e-6;
  models[8].ffn = FeedForwardKind::gelu_erf;
  models[9].positions = Positions::learned;
  models[10].rope_theta = 500000;
  models[11].biases = true;
  models[12].tied = false;
  models[13].branch_scale = 0.5;
  models[14].rope_scaling = {.kind = RopeStretch::linear, .factor = 2};
  models[15].rope_scaling = {.kind = RopeStretch::llama3, .factor = 2};
  models[16].rope_scaling = {.kind = RopeStretch::llama3, .factor = 2, .low_factor = 2};
  models[17].rope_scaling = {.kind = RopeStretch::llama3, .factor = 2, .low_factor = 2, .high_factor = 8, .original_context = 4096};
  std::set<std::string> hashes;
  for (const ModelConfig& model : models) {
    hashes.insert(make(model).hash());
    CHECK(SearchSpace::parse(make(model).text(), "file").model() == model);
  }
  CHECK(hashes.size() == models.size());
  CHECK(SearchSpace(base, {64, 32, 64}, {2, 1}, {widths({2, 1}, {8}), widths({1}, {8})}) ==
        SearchSpace(base, {32, 64}, {1, 2}, {widths({1, 2, 2}, {8}), widths({1}, {8})}));
  CHECK(demo().hash().size() == 64);
}

TEST_CASE("what no space may be is refused with its place", "[supernet][space]") {
  const auto refused = [](auto change) {
    ModelConfig model;
    std::vector<int> embed = {64}, depth = {1};
    std::vector<Block> blocks = {widths({2}, {8})};
    change(model, embed, depth, blocks);
    return input_error([&] { SearchSpace(model, embed, depth, blocks); });
  };
  using M = ModelConfig&;
  using L = std::vector<int>&;
  using B = std::vector<Block>&;
  CHECK(refused([](M, L, L, B) {}) == kNoError);
  CHECK(refused([](M, L e, L, B) { e = {}; }) == "space: embed: expected at least one choice, found none");
  CHECK(refused([](M, L e, L, B) { e = {64, -1}; }) == "space: embed: expected 1 to 65536, found -1");
  CHECK(refused([](M, L, L d, B) { d = {0, 1}; }) == "space: depth: expected 1 to 4096, found 0");
  CHECK(refused([](M, L, L d, B) { d = {3}; }) == "space: blocks: expected 3, as many as the largest depth, found 1");
  CHECK(refused([](M m, L, L, B) { m.queries_per_group = 3; }) ==
        "space: block 0: heads: expected multiples of queries_per_group = 3, found 2");
  CHECK(refused([](M, L, L, B b) { b[0].heads = {}; }) == "space: block 0: heads: expected at least one choice, found none");
  CHECK(refused([](M, L, L, B b) { b[0].heads = {5000}; }) == "space: block 0: heads: expected 0 to 4096, found 5000");
  CHECK(refused([](M, L, L, B b) { b[0] = widths({2}, {}); }) == "space: block 0: ffn_ratio: expected at least one choice, found none");
  CHECK_THAT(refused([](M, L, L, B b) { b[0] = ratios({2}, {-1}); }), Contains("expected numbers from 0 to 1024"));
  CHECK_THAT(refused([](M, L, L, B b) { b[0] = ratios({2}, {NAN}); }), Contains("expected numbers from 0 to 1024"));
  CHECK_THAT(refused([](M, L, L, B b) { b[0] = ratios({2}, {0.01}); }), Contains("at least 4 FFN columns at embed 64"));
  CHECK_THAT(refused([](M, L e, L, B b) {
               e = {65536};
               b[0] = ratios({2}, {100});
             }),
             Contains("widths of at most 1048576"));
  CHECK_THAT(refused([](M, L, L, B b) { b[0] = widths({0, 2}, {0, 8}); }), Contains("0 in at most one of the two lists"));
  CHECK(refused([](M, L, L, B b) { b[0] = widths({0, 2}, {8}); }) == kNoError);
  CHECK_THAT(refused([](M m, L, L, B) { m.head_dim = 33; }), Contains("even number"));
  CHECK_THAT(refused([](M m, L, L, B) { m.vocabulary = 1; }), Contains("vocabulary"));
  CHECK_THAT(refused([](M m, L, L, B) { m.norm_eps = NAN; }), Contains("norm_eps"));
  CHECK_THAT(refused([](M m, L, L, B) { m.branch_scale = 0; }), Contains("branch_scale"));
  CHECK_THAT(refused([](M m, L, L, B) { m.preset = "\xff"; }), Contains("preset"));
}

TEST_CASE("a scaling of rotary positions that means nothing is refused", "[supernet][space][rotary]") {
  const auto refused = [](const RopeScaling& rule, Positions positions = Positions::rope) {
    ModelConfig model;
    model.rope_scaling = rule;
    model.positions = positions;
    return input_error([&] { SearchSpace(model, {64}, {1}, {widths({2}, {8})}); });
  };
  const RopeScaling llama3{.kind = RopeStretch::llama3, .factor = 8};
  const auto with = [&](double RopeScaling::*field, double value) {
    RopeScaling rule = llama3;
    rule.*field = value;
    return refused(rule);
  };
  CHECK(refused(llama3) == kNoError);
  CHECK(with(&RopeScaling::factor, 0.5) == "space: rope_factor: expected a number from 1 to 1e+06, found 0.5");
  CHECK_THAT(with(&RopeScaling::factor, 1), Contains("rope_factor: expected a number above 1"));
  CHECK_THAT(with(&RopeScaling::factor, 1 + 1e-9), Contains("rope_factor: expected a number above 1"));
  CHECK_THAT(with(&RopeScaling::factor, NAN), Contains("rope_factor"));
  CHECK(with(&RopeScaling::factor, 1e308) == "space: rope_factor: expected a number from 1 to 1e+06, found 1e+308");
  CHECK_THAT(with(&RopeScaling::low_factor, 4), Contains("less than rope_high_freq_factor, 4, found 4"));
  CHECK_THAT(with(&RopeScaling::high_factor, INFINITY), Contains("rope_high_freq_factor"));
  CHECK_THAT(with(&RopeScaling::original_context, 64.5), Contains("rope_original_context: expected a whole number, found 64.5"));
  CHECK_THAT(with(&RopeScaling::original_context, 0), Contains("rope_original_context"));
  CHECK_THAT(refused(llama3, Positions::learned), Contains("none, with learned positions, found llama3"));
  CHECK_THAT(refused({.kind = RopeStretch::linear, .factor = 2, .low_factor = 2}), Contains("found linear"));
  CHECK_THAT(refused({.kind = RopeStretch::none, .factor = 2}), Contains("found none"));
}

TEST_CASE("lying space texts are refused in one line", "[supernet][space]") {
  const std::string good = demo().text();
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return input_error([&] { SearchSpace::parse(text.replace(at, from.size(), to), "run.h5"); });
  };
  CHECK(replaced("\"embed\":[192", "\"embed\":[1.5") == "run.h5: embed: expected a whole number, found a JSON number");
  CHECK(replaced("\"embed\":[192", "\"embed\":[99999999999") == "run.h5: embed: expected a 32-bit number, found 99999999999");
  CHECK(replaced("\"embed\":[192", "\"embed\":[18446744073709551615") ==
        "run.h5: embed: expected a 32-bit number, found 18446744073709551615");
  CHECK(replaced("\"embed\":[192", "\"embed\":[-4") == "run.h5: space: embed: expected 1 to 65536, found -4");
  CHECK(replaced("\"rms\"", "\"rmss\"") == "run.h5: model.norm: expected one of rms, layer, found 'rmss'; nearest rms");
  CHECK(replaced("\"tied\":true", "\"tied\":1") == "run.h5: model.tied: expected true or false, found a JSON number");
  CHECK(replaced("\"tied\":true,", "") == "run.h5: expected the key model.tied, found none");
  CHECK_THAT(replaced("\"tied\":true", "\"tied\":true,\"moe\":4"), Contains("it may come from a newer version"));
  CHECK_THAT(replaced("\"tied\":true", "\"tied\":true,\"tied\":true"), Contains("twice"));
  CHECK_THAT(replaced("\"branch_scale\":1.0", "\"branch_scale\":1e999"), Contains("run.h5: "));
  CHECK_THAT(input_error([] { SearchSpace::parse(std::string(1 << 20, '['), "run.h5"); }), Catch::StartsWith("run.h5: "));
  CHECK_THAT(input_error([] { SearchSpace::parse(std::string(5 << 20, ' '), "run.h5"); }), Contains("at most 4 MiB"));

  RandomStream random(5, Purpose::test);
  for (int i = 0; i < 3000; ++i) {
    std::string text = good;
    for (int edits = 0; edits < 2; ++edits) {
      const std::size_t at = random.below(text.size());
      if (random.below(3) == 0) text.erase(at, 1 + random.below(8));
      else text[at] = "0123456789-.e,:[]{}\"x"[random.below(21)];
    }
    const std::string message = input_error([&] { SearchSpace::parse(text, "run.h5"); });
    CAPTURE(text, message);
    REQUIRE((message == kNoError || message.rfind("run.h5", 0) == 0));
    REQUIRE(message.find('\n') == std::string::npos);
  }
}

}  // namespace elastiform
