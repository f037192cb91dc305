#include "trainers/token_selection/token_selection.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "supernet/cost_model.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/vectors.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/token_selection/importance.hpp"
#include "trainers/token_selection/random_ltd.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

struct TokensFixture : Fixture {
  explicit TokensFixture(const std::string& tokens) {
    options.tokens = tokens;
    options.tokens_kept = 0.4;  // 8 of 24, and with random_ltd 16 later
    options.tokens_step = 8;
  }
};

Batch batch_of(const std::vector<std::int32_t>& ids, std::int64_t sequences) {
  return {.sequences = sequences, .tokens = static_cast<std::int64_t>(ids.size()) / sequences, .inputs = ids, .targets = ids};
}

}  // namespace

TEST_CASE("random-LTD's kept length grows as the reference's", "[trainers][tokens][vectors]") {
  const auto v = vector("random_ltd");
  for (std::size_t i = 0; i < v["t"].size(); ++i)
    CHECK(random_ltd_kept(v["lo"], v["hi"], v["total"], v["step"], v["t"][i]) == v["expected"][i].get<std::int64_t>());
}

TEST_CASE("random-LTD draws tokens in order, each as often as any other, anew for every block, sequence and step", "[trainers][tokens]") {
  TokensFixture f("random_ltd");
  const auto selection = make_token_selection(f.options, f.space);
  const std::int64_t sequences = 50, T = 24;
  Batch batch = batch_of(std::vector<std::int32_t>(static_cast<std::size_t>(sequences * T), 7), sequences);
  batch.kept.count = selection->kept(0);
  REQUIRE(batch.kept.count == 8);
  CHECK(selection->most_kept() == 16);
  std::vector<int> drawn(static_cast<std::size_t>(T), 0);
  std::int64_t draws = 0;
  for (std::int64_t step = 0; step < 20; ++step) {
    selection->select(step, 0, batch);
    for (int block = 0; block < f.space.max_depth(); ++block) {
      const auto rows = batch.kept.rows_of(block, sequences), places = batch.kept.positions_of(block, sequences);
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto b = static_cast<std::int64_t>(i) / batch.kept.count;
        REQUIRE(rows[i] == b * T + places[i]);
        REQUIRE((places[i] >= 0 && places[i] < T));
        if (i % 8 != 0) REQUIRE(places[i] > places[i - 1]);
        ++drawn[static_cast<std::size_t>(places[i])];
      }
      draws += sequences;
    }
    const auto first = batch.kept.rows_of(0, sequences), second = batch.kept.rows_of(1, sequences);
    CHECK_FALSE(std::equal(first.begin(), first.end(), second.begin()));
  }
  const double p = 8.0 / 24, n = static_cast<double>(draws), sigma = std::sqrt(n * p * (1 - p));
  for (const int count : drawn) CHECK(std::abs(count - n * p) < 4 * sigma);
  // Of the same sequence of the same step the same, whoever else is in the batch.
  const Batch whole = batch;
  Batch part = batch_of(std::vector<std::int32_t>(static_cast<std::size_t>(10 * T), 7), 10);
  part.kept.count = 8;
  selection->select(19, 40, part);
  const auto all = whole.kept.positions_of(2, sequences), some = part.kept.positions_of(2, 10);
  CHECK(std::equal(some.begin(), some.end(), all.begin() + 40 * 8));
}

TEST_CASE("important tokens are those whose ids were hard to predict; ids are learned as a running mean", "[trainers][tokens]") {
  TokensFixture f("importance");
  ImportantTokens selection(f.options, f.space);
  CHECK(selection.kept(0) == 8);
  std::vector<std::int32_t> ids;
  for (std::int32_t t = 0; t < 24; ++t) ids.push_back(t % 6);
  Batch batch = batch_of(ids, 1);
  batch.kept.count = 8;
  selection.select(0, 0, batch);  // nothing is known: the earlier ones
  CHECK(std::vector<std::int32_t>(batch.kept.rows.begin(), batch.kept.rows.begin() + 8) ==
        std::vector<std::int32_t>{0, 1, 2, 3, 4, 5, 6, 7});

  std::vector<float> losses(24, 1);
  for (std::size_t t = 0; t < 24; ++t) losses[t] = ids[t] == 4 ? 9.0f : ids[t] == 2 ? 8.0f : 1.0f;
  batch.targets[4] = -100;  // not counted
  losses[4] = 1e6;
  std::vector<double> numbers(static_cast<std::size_t>(2 * selection.learned()), 0);  // of two micro-batches
  const ConstView view = view_of(static_cast<const float*>(losses.data()), 1, 24, 24);
  selection.observe(batch, view, std::span(numbers).first(numbers.size() / 2));
  for (float& loss : losses) loss *= 2;
  losses[4] = 1e6;
  selection.observe(batch, view, std::span(numbers).subspan(numbers.size() / 2));
  selection.learn(numbers);
  const std::vector<double>& learned = *selection.state().at("losses");
  CHECK(learned[4] == Approx(0.9 * std::log(256) + 0.1 * 13.5));
  CHECK(learned[0] == Approx(0.9 * std::log(256) + 0.1 * 1.5));
  CHECK(learned[100] == std::log(256));
  selection.select(1, 0, batch);
  for (int block = 0; block < f.space.max_depth(); ++block) {
    const auto rows = batch.kept.rows_of(block, 1);
    CHECK(std::vector<std::int32_t>(rows.begin(), rows.end()) == std::vector<std::int32_t>{2, 4, 8, 10, 14, 16, 20, 22});
  }
}

TEST_CASE("training on kept tokens learns and resumes bit for bit, on any number of threads", "[trainers][tokens][bits]") {
  TokensFixture f(GENERATE("random_ltd", "importance"));
  CAPTURE(f.options.tokens);
  const ThreadPool two(2), five(5);
  CpuBackend backend(two), other(five);
  Trainer straight(f.space, f.options, f.stages, *f.data, backend);
  const double first = straight.step().losses.front().label_loss;
  StepReport last;
  while (!straight.done()) last = straight.step();
  CHECK(straight.skipped_steps() == 0);
  CHECK(last.losses.front().label_loss < first - 1);
  {
    Trainer begun(f.space, f.options, f.stages, *f.data, other, Trainer::plan(f.space, f.options, f.stages, other).least_arena);
    while (begun.next_step() < 25) begun.step();
    save_checkpoint(begun, "", "", f.folder / "supernet.h5");
  }
  Trainer resumed(f.space, f.options, f.stages, *f.data, backend);
  load_checkpoint(resumed, f.folder / "supernet.h5");
  while (!resumed.done()) resumed.step();
  CHECK(weights_hash(resumed.weights()) == weights_hash(straight.weights()));
  f.options.tokens = "all";
  Trainer all(f.space, f.options, f.stages, *f.data, backend);
  while (!all.done()) all.step();
  CHECK(weights_hash(all.weights()) != weights_hash(straight.weights()));
}

TEST_CASE("ranks that share micro-batches keep the same tokens and learn the same importance", "[trainers][tokens][data_parallel]") {
  TokensFixture f(GENERATE("random_ltd", "importance"));
  CAPTURE(f.options.tokens);
  f.options.accumulation = 2;
  f.options.sequences = 8;
  const auto trained = [&](Communicator& ranks) {
    const ThreadPool pool(1);
    CpuBackend backend(pool);
    Trainer trainer(f.space, f.options, f.stages, *f.data, backend, std::nullopt, ranks);
    while (trainer.next_step() < 15) trainer.step();
    std::string hash = weights_hash(trainer.weights());
    for (const auto& [name, numbers] : trainer.state().tokens->state())
      for (const double number : *numbers) hash += std::to_string(number);
    return hash;
  };
  const std::string one = trained(alone());
  std::vector<std::string> hashes(2);
  run_ranks(2, [&](Communicator& ranks) { hashes[static_cast<std::size_t>(ranks.rank())] = trained(ranks); });
  CHECK(hashes[0] == one);
  CHECK(hashes[1] == one);
}

TEST_CASE("a step's FLOPs follow the tokens that its middle blocks keep", "[trainers][tokens]") {
  TokensFixture f("random_ltd");
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer some(f.space, f.options, f.stages, *f.data, backend);
  f.options.tokens = "all";
  Trainer all(f.space, f.options, f.stages, *f.data, backend);
  const CostModel costs(f.space, {}, 1, [](const WeightTable&) { return std::int64_t{0}; });
  const Subnet largest = f.space.largest();  // of three blocks, in every step of the first stage
  const double rows = 24 * 24, whole = static_cast<double>(costs.additive(largest).macs);
  const auto block = [&](std::int64_t tokens) { return static_cast<double>(costs.block(largest.embed, largest.blocks[1], tokens).macs); };
  CHECK(all.step().flops == Approx(6 * rows * whole));
  CHECK(some.step().flops == Approx(6 * rows * (whole - block(24) + block(8) * 8 / 24)));
  while (some.next_step() < 35) some.step();  // 0.7 of the steps
  while (all.next_step() < 35) all.step();
  CHECK(some.step().flops == all.step().flops);
}

TEST_CASE("memory is planned for the tokens that steps keep, and for all only where some step keeps all", "[trainers][tokens]") {
  TokensFixture f("random_ltd");
  f.stages = {{.share = 1, .steps = 0, .sampler = "largest"}};
  resolve_stages(f.stages, f.options.steps);
  using Counts = std::vector<std::int64_t>;
  const auto counts = [&](const std::string& tokens, double full = 0.7) {
    f.options.tokens = tokens, f.options.tokens_full = full;
    return planned_kept(*make_token_selection(f.options, f.space));
  };
  CHECK(counts("all") == Counts{0});
  CHECK(counts("importance") == Counts{8});
  CHECK(counts("random_ltd") == Counts{0, 16});
  CHECK(counts("random_ltd", 1) == Counts{16});

  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const SearchSpace dense = SearchSpace::of(f.space.model(), f.space.largest());
  const WeightTable table(dense);
  const auto planned = [&](const std::string& tokens) {
    const Counts kept = counts(tokens);
    const std::int64_t arena = Trainer::plan(dense, f.options, f.stages, backend).arena_keeping_all;
    // The cost of a subnet says the same of it.
    const CostModel costs(
        f.space, {.threads = 2}, f.options.sequences, [](const WeightTable&) { return std::int64_t{0}; }, Precision::f32, 0, kept);
    CHECK(costs.of(f.space.largest()).training_bytes == 4 * (table.elements() + table.trained_elements()) + arena);
    return arena;
  };
  const std::int64_t all = planned("all");
  CHECK(planned("importance") < all);
  f.options.tokens_step = 1;
  CHECK(planned("random_ltd") > all);  // 23 of 24 tokens, and lookups of their rows
}

TEST_CASE("token selections that a space cannot have are refused", "[trainers][tokens]") {
  TokensFixture f("random_ltd");
  f.options.tokens_step = 24;
  CHECK_THROWS_WITH(make_token_selection(f.options, f.space), Catch::Contains("tokens_step") && Catch::Contains("24"));
  f.options.tokens_step = 8;
  const SearchSpace& s = f.space;
  const SearchSpace shallow(s.model(), s.embed(), {1, 2}, {s.blocks()[0], s.blocks()[1]});
  CHECK_THROWS_WITH(make_token_selection(f.options, shallow), Catch::Contains("depth of at least 3"));
  f.options.dropout = 0.1;
  CHECK_THROWS_WITH(make_token_selection(f.options, f.space), Catch::Contains("train.dropout = 0") && Catch::Contains("0.1"));
  f.options.dropout = 0;
  f.options.tokens = "random-ltd";
  CHECK_THROWS_WITH(make_token_selection(f.options, f.space), Catch::Contains("random_ltd"));
  f.options.tokens = "all";
  CHECK(make_token_selection(f.options, shallow)->most_kept() == 0);
}

}  // namespace elastiform
