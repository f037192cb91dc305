#include "search/prefix_evaluator.hpp"

#include <atomic>
#include <cmath>
#include <cstring>

#include "kernels/random.hpp"
#include "search/prefix_tree.hpp"
#include "search/shared_evaluator.hpp"
#include "supernet/data/image_data.hpp"
#include "supernet/data/text_data.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/residual.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

struct Fixture {
  TemporaryFolder folder;
  SearchSpace space;
  Network network;
  Weights weights;
  std::unique_ptr<DataSource> source;
  const DataSource& data;

  static SearchSpace bytes(const std::string& preset, ResidualRule rule) {
    const SearchSpace tiny = tiny_space(preset);
    ModelConfig model = tiny.model();
    if (!model.classifies()) model.vocabulary = 256;
    return with_residual(SearchSpace(model, tiny.embed(), tiny.depth(), tiny.blocks()), rule);
  }
  static std::string text() {
    RandomStream random(3, Purpose::test);
    std::string bytes;
    while (bytes.size() < 40000) bytes.push_back(static_cast<char>('a' + random.below(26)));
    return bytes;
  }

  explicit Fixture(const std::string& preset, ResidualRule rule = ResidualRule::branch_scale)
      : space(bytes(preset, rule)), network(space, DType::float32), weights(random_weights(space, DType::float32, 4)),
        source(open(folder, space.model())), data(*source) {}

  static std::unique_ptr<DataSource> open(const TemporaryFolder& folder, const ModelConfig& model) {
    DataOptions options;
    options.splits = {60, 20, 20};
    if (!model.classifies()) {
      options.split_block = 2048;
      return std::make_unique<TextData>(folder.write("text.txt", text()), options, model.context);
    }
    options.image.images = folder.write("images.csv", images(model));
    return std::make_unique<ImageData>(options, model, Augmentation{});
  }
  static std::string images(const ModelConfig& model) {
    RandomStream random(3, Purpose::test);
    std::string rows;
    for (int i = 0; i < 900; ++i) {
      for (int p = 0; p < model.image.values(); ++p) rows += std::to_string(random.below(256)) + ",";
      rows += std::to_string(random.below(static_cast<std::uint64_t>(model.vocabulary))) + "\n";
    }
    return rows;
  }
};

bool same(const Score& a, const Score& b) {
  return std::memcmp(&a.loss, &b.loss, sizeof a.loss) == 0 && std::memcmp(&a.loss_se, &b.loss_se, sizeof a.loss_se) == 0 &&
         std::memcmp(&a.accuracy, &b.accuracy, sizeof a.accuracy) == 0 && a.block_losses == b.block_losses;
}

}  // namespace

TEST_CASE("the prefix tree gives 300 subnets the bits of one-by-one evaluation, on any number of threads", "[search][bits]") {
  const Fixture f(GENERATE("llama", "gpt2", "vit"));
  const Precision precision = GENERATE(from_range(precisions_here()));
  CAPTURE(name_of(precision));
  const ScoringSet set{.split = Split::search, .stride = f.space.model().context, .segments = f.space.model().classifies() ? 170 : 1};
  std::vector<Subnet> subnets;
  for (std::uint64_t i = 0; i < 296; ++i) subnets.push_back(random_subnet(f.space, i));
  subnets.push_back(f.space.largest());
  subnets.push_back(subnets.front());                                                    // twice
  subnets.push_back({.embed = 16, .blocks = {f.space.middle().blocks[0]}, .kept = {}});  // a prefix of others
  subnets.push_back({.embed = 16, .blocks = {f.space.middle().blocks[0], f.space.middle().blocks[0]}, .kept = {0, 2}});

  const ThreadPool two(2), one(1), five(5);
  PrefixEvaluator together(f.network, f.weights, f.data, set, two, precision);
  const std::vector<Score> scores = together.evaluate(subnets);
  CHECK(together.last_work().blocks_run < together.last_work().blocks_one_by_one);
  CHECK(two.distinct_threads() == 2);
  PrefixEvaluator single(f.network, f.weights, f.data, set, one, precision);
  for (std::size_t i = 0; i < subnets.size(); ++i) {
    CAPTURE(i, format(subnets[i]));
    REQUIRE(same(single.evaluate(std::span(&subnets[i], 1)).front(), scores[i]));
  }
  PrefixEvaluator many(f.network, f.weights, f.data, set, five, precision);
  const std::vector<Score> again = many.evaluate(subnets);
  for (std::size_t i = 0; i < subnets.size(); ++i) REQUIRE(same(again[i], scores[i]));
  CHECK_FALSE(scores[0].loss == scores[1].loss);  // different subnets, different scores
  if (precision == Precision::f32) return;
  PrefixEvaluator exact(f.network, f.weights, f.data, set, two, Precision::f32);
  const Score score = exact.evaluate(std::span(subnets.data(), 1)).front();
  CHECK_FALSE(score.loss == scores[0].loss);
  CHECK(score.loss == Approx(scores[0].loss).epsilon(0.01));
}

TEST_CASE("subnets of every residual rule are evaluated as one by one; what follows the depth is shared within it alone",
          "[search][bits][residual]") {
  const ResidualRule rule = GENERATE(from_range(every_residual_rule()));
  CAPTURE(residual_rule(rule).name);
  const Fixture f("llama", rule);
  const ScoringSet set{.split = Split::search, .stride = f.space.model().context, .segments = 1};
  std::vector<Subnet> subnets;
  for (std::uint64_t i = 0; i < 30; ++i) subnets.push_back(random_subnet(f.space, i));
  const BlockGenes genes = f.space.middle().blocks[0];
  for (const std::size_t depth : {1u, 2u, 3u})
    subnets.push_back({.embed = 16, .blocks = std::vector<BlockGenes>(depth, genes), .kept = {}});
  const ThreadPool pool(2);
  PrefixEvaluator evaluator(f.network, f.weights, f.data, set, pool, Precision::f32);
  const std::vector<Score> scores = evaluator.evaluate(subnets);
  const std::int64_t blocks = evaluator.last_work().blocks_run;
  for (std::size_t i = 0; i < subnets.size(); ++i) {
    CAPTURE(i, format(subnets[i]));
    REQUIRE(same(evaluator.evaluate(std::span(&subnets[i], 1)).front(), scores[i]));
    // The score is that of the subnet alone, cut out: its depth is the dense network's.
    const Weights dense = extract(f.weights, subnets[i]);
    const Network network(dense.table().space(), DType::float32);
    const Subnet whole = dense.table().space().largest();
    PrefixEvaluator alone(network, dense, f.data, set, pool, Precision::f32);
    REQUIRE(same(alone.evaluate(std::span(&whole, 1)).front(), scores[i]));
  }
  if (rule != ResidualRule::branch_scale_by_depth) return;
  const Fixture constant("llama");
  PrefixEvaluator shared(constant.network, constant.weights, constant.data, set, pool, Precision::f32);
  shared.evaluate(subnets);
  CHECK(blocks > shared.last_work().blocks_run);
}

TEST_CASE("a score is the mean of its blocks and counts every byte but the first of a segment once", "[search]") {
  const Fixture f("llama");
  const ThreadPool pool(2);
  const Subnet subnet = f.space.middle();
  for (const std::int64_t stride : {f.space.model().context, f.space.model().context / 2}) {
    PrefixEvaluator evaluator(f.network, f.weights, f.data, {.split = Split::report, .stride = stride, .segments = 0}, pool,
                              Precision::f32);
    const Score score = evaluator.evaluate(std::span(&subnet, 1)).front();
    const auto& segments = f.data.segments(Split::report);
    std::size_t blocks = 0;
    double weighted = 0, counted = 0;
    for (const Segment& segment : segments)
      for (std::int64_t begin = segment.begin; begin < segment.end;) {
        const std::int64_t end = segment.end - begin < 1024 + 512 ? segment.end : begin + 1024;  // a short rest joins the block before
        const double count = static_cast<double>(end - begin - (begin == segment.begin ? 1 : 0));
        begin = end;
        weighted += count * static_cast<double>(score.block_losses.at(blocks++));
        counted += count;
      }
    CHECK(blocks == score.block_losses.size());
    CHECK(weighted / counted == Approx(score.loss).epsilon(1e-6));
    CHECK(score.loss_se > 0);
    CHECK(score.loss == Approx(std::log(256)).epsilon(0.5));
  }
}

TEST_CASE("an evaluation that is told to stop ends between batches, and the next one is whole", "[search]") {
  const Fixture f("llama");
  const Subnet subnet = f.space.middle();
  const ThreadPool pool(GENERATE(1, 2));
  PrefixEvaluator evaluator(f.network, f.weights, f.data, {.split = Split::search, .stride = 4, .segments = 0}, pool, Precision::f32);
  const Score whole = evaluator.evaluate(std::span(&subnet, 1)).front();
  std::atomic<int> asked{0};
  evaluator.stop_when([&] { return ++asked > 1; });
  CHECK_THROWS_AS(evaluator.evaluate(std::span(&subnet, 1)), Interrupted);
  CHECK(asked.load() <= 1 + pool.size());  // nobody begins another batch
  evaluator.stop_when([] { return false; });
  CHECK(evaluator.evaluate(std::span(&subnet, 1)).front().block_losses == whole.block_losses);
}

TEST_CASE("ranks that share an evaluator give rank 0 the bits of one process", "[search][data_parallel][bits]") {
  const Fixture f("llama");
  const ScoringSet set{.split = Split::search, .stride = f.space.model().context, .segments = GENERATE(0, 1)};
  std::vector<Subnet> subnets;
  for (std::uint64_t i = 0; i < 12; ++i) subnets.push_back(random_subnet(f.space, i));
  subnets.push_back({.embed = 16, .blocks = {f.space.middle().blocks[0], f.space.middle().blocks[0]}, .kept = {0, 2}});
  const std::span<const Subnet> all(subnets);
  const ThreadPool pool(1);
  PrefixEvaluator alone(f.network, f.weights, f.data, set, pool, Precision::f32);
  const std::vector<Score> expected = alone.evaluate(all);
  for (const int size : {1, 2, 3, 7}) {  // with one segment there are fewer batches than ranks
    CAPTURE(set.segments, size);
    std::vector<Score> scores;
    std::atomic<int> followed{0};
    run_ranks(size, [&](Communicator& ranks) {
      const ThreadPool mine(1);
      PrefixEvaluator own(f.network, f.weights, f.data, set, mine, Precision::f32);
      SharedEvaluator shared(own, ranks);
      if (!ranks.leads()) {
        shared.follow();
        ++followed;
        return;
      }
      scores = shared.evaluate(all.first(5));
      CHECK(shared.evaluate({}).empty());
      for (Score& score : shared.evaluate(all.subspan(5))) scores.push_back(std::move(score));
      shared.finish();
    });
    CHECK(followed == size - 1);
    REQUIRE(scores.size() == expected.size());
    for (std::size_t i = 0; i < scores.size(); ++i) CHECK(same(scores[i], expected[i]));
  }
}

TEST_CASE("shared prefixes are nodes once", "[search]") {
  const BlockGenes a{2, 1, 8}, b{4, 2, 8};
  const std::vector<Subnet> subnets{{8, {a, a, b}, {}}, {8, {a, a}, {}}, {8, {a, b}, {}}, {16, {a}, {}}, {8, {a, a, b}, {}}};
  const PrefixTree tree = PrefixTree::of(subnets);
  CHECK(tree.roots.size() == 2);
  CHECK(tree.nodes == 5);  // a, aa, aab, ab at width 8; a at 16
  CHECK(tree.leaves == 4);
  CHECK(tree.leaf_of == std::vector<int>{0, 1, 2, 3, 0});
  const PrefixTree by_depth = PrefixTree::of(subnets, true);
  CHECK(by_depth.nodes == 7);  // a, aa, aab of depth 3; a, aa, ab of depth 2; a at 16
  CHECK(by_depth.leaf_of == tree.leaf_of);
}

}  // namespace elastiform
