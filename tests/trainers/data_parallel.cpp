#include <atomic>
#include <mutex>

#include "kernels/cpu/cpu_backend.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/watched_ranks.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/optimizers/bands.hpp"

namespace elastiform {
namespace {

struct Trained {
  std::string weights;
  std::vector<StepReport> steps;
  GradientNoise noise;
};

/// All steps of the fixture by each of `size` ranks, a thread with a backend of its own.
std::vector<Trained> train_on(const Fixture& f, int size) {
  std::vector<Trained> trained(static_cast<std::size_t>(size));
  run_ranks(size, [&](Communicator& ranks) {
    const ThreadPool pool(1);
    CpuBackend backend(pool);
    Trainer trainer(f.space, f.options, f.stages, *f.data, backend, std::nullopt, ranks);
    Trained& mine = trained[static_cast<std::size_t>(ranks.rank())];
    while (!trainer.done()) mine.steps.push_back(trainer.step());
    mine.weights = weights_hash(trainer.weights());
    mine.noise = trainer.noise();
  });
  return trained;
}

struct ShortRun : Fixture {
  explicit ShortRun(int accumulation) {
    options.accumulation = accumulation;
    options.sequences = 3;
    options.steps = 15;
    resolve_stages(stages, options.steps);
  }
};

/// Bytes of everything that some subnet of a step uses, counted element by element.
std::int64_t active_bytes(const SearchSpace& space, const std::vector<Subnet>& subnets) {
  const WeightTable table(space);
  std::int64_t bytes = 0;
  for (const TensorSpec& tensor : table.tensors())
    for (std::int64_t row = 0; row < tensor.rows; ++row)
      for (std::int64_t column = 0; column < tensor.columns; ++column)
        bytes += std::any_of(subnets.begin(), subnets.end(),
                             [&](const Subnet& subnet) {
                               const Extent extent = table.extent(tensor, subnet);
                               return row < extent.rows && column < extent.columns;
                             })
                     ? 4
                     : 0;
  return bytes;
}

}  // namespace

TEST_CASE("ranks that share the micro-batches have the bits of one process that does them all", "[trainers][data_parallel][bits]") {
  struct Case {
    int accumulation;
    std::vector<int> sizes;
  };
  const auto c = GENERATE(Case{1, {1}}, Case{2, {2}}, Case{3, {3}}, Case{4, {2, 4}}, Case{6, {2, 3, 6}}, Case{9, {3}});
  const ShortRun f(c.accumulation);
  const Trained expected = train_on(f, 1).front();
  for (const int size : c.sizes) {
    CAPTURE(c.accumulation, size);
    for (const Trained& one : train_on(f, size)) {
      CHECK(one.weights == expected.weights);
      REQUIRE(one.steps.size() == expected.steps.size());
      for (std::size_t t = 0; t < one.steps.size(); ++t) {
        const StepReport &a = one.steps[t], &b = expected.steps[t];
        REQUIRE(a.subnets == b.subnets);
        CHECK((a.gradient_norm == b.gradient_norm && a.tokens == b.tokens && a.flops == b.flops && a.skipped == b.skipped));
        for (std::size_t i = 0; i < a.losses.size(); ++i)
          CHECK((a.losses[i].label_loss == b.losses[i].label_loss && a.losses[i].teacher_loss == b.losses[i].teacher_loss));
      }
    }
  }
}

TEST_CASE("step rules that go over a batch twice send two sums, and ranks have the bits of one process",
          "[trainers][data_parallel][bits]") {
  ShortRun f(4);
  f.options.step_rule = GENERATE("sam", "looksam", "esam");
  f.options.look_every = 3;
  f.options.noise_scale = true;
  const Trained expected = train_on(f, 1).front();
  for (const int size : {2, 4})
    for (const Trained& one : train_on(f, size)) {
      CAPTURE(f.options.step_rule, size);
      CHECK(one.weights == expected.weights);
      CHECK((one.noise.signal == expected.noise.signal && one.noise.trace == expected.noise.trace));
      for (std::size_t t = 0; t < one.steps.size(); ++t) CHECK(one.steps[t].gradient_norm == expected.steps[t].gradient_norm);
    }
  CHECK(expected.noise.trace != 0);
}

TEST_CASE("ranks send each other the active bands of gradients and nothing else", "[trainers][data_parallel]") {
  const int size = GENERATE(2, 4);
  const ShortRun f(4);
  const std::vector<Trained> trained = train_on(f, size);
  std::int64_t least = std::numeric_limits<std::int64_t>::max(), most = 0;
  for (std::size_t t = 0; t < trained.front().steps.size(); ++t) {
    const std::int64_t active = active_bytes(f.space, trained.front().steps[t].subnets);
    std::int64_t reduced = 0;
    for (const Trained& one : trained) reduced += one.steps[t].reduced_bytes;
    CAPTURE(size, t);
    CHECK(reduced == (size - 1) * active);  // each rank but the first sends one partial sum
    CHECK(trained.front().steps[t].reduced_bytes == 0);
    least = std::min(least, active), most = std::max(most, active);
  }
  CHECK(least < most);  // smaller subnets send less
}

TEST_CASE("planned memory is what a rank holds", "[trainers][data_parallel][memory]") {
  const int accumulation = GENERATE(3, 6, 12);
  const ShortRun f(accumulation);
  std::mutex mutex;
  run_ranks(3, [&](Communicator& ranks) {
    const ThreadPool pool(1);
    CpuBackend backend(pool);
    const Trainer trainer(f.space, f.options, f.stages, *f.data, backend, std::nullopt, ranks);
    const Trainer::Memory planned = Trainer::plan(f.space, f.options, f.stages, backend, std::nullopt, ranks), held = trainer.memory();
    const std::lock_guard lock(mutex);
    CHECK(planned.gradients == held.gradients);
    CHECK(planned.total() == held.total());
    CHECK(held.gradients > held.weights);  // a buffer and a message
  });
}

TEST_CASE("micro-batches that ranks cannot share equally are refused", "[trainers][data_parallel]") {
  const ShortRun f(6);
  CHECK_THROWS_WITH(train_on(f, 4), Catch::Matchers::Contains("train.accumulation: expected a multiple of the 4 ranks") &&
                                        Catch::Matchers::Contains("found 6"));
}

TEST_CASE("a run of several ranks is resumed by another number of them", "[trainers][data_parallel][bits]") {
  const ShortRun f(4);
  const std::string expected = train_on(f, 1).front().weights;
  const auto some_steps = [&](int size, std::int64_t until) {
    std::string hash;
    run_ranks(size, [&](Communicator& ranks) {
      const ThreadPool pool(1);
      CpuBackend backend(pool);
      Trainer trainer(f.space, f.options, f.stages, *f.data, backend, std::nullopt, ranks);
      if (until > 5) load_checkpoint(trainer, f.folder / "supernet.h5");
      barrier(ranks);  // all have read before the first writes
      while (trainer.next_step() < until) trainer.step();
      if (!ranks.leads()) return;
      save_checkpoint(trainer, "recipe", f.data->sha256(), f.folder / "supernet.h5");
      hash = weights_hash(trainer.weights());
    });
    return hash;
  };
  some_steps(4, 5);
  some_steps(1, 9);
  CHECK(some_steps(2, f.options.steps) == expected);
}

TEST_CASE("a rank that fails ends the steps of the others", "[trainers][data_parallel]") {
  const ShortRun f(4);
  std::atomic<int> told{0};
  CHECK_THROWS_WITH(run_ranks(4,
                              [&](Communicator& ranks) {
                                const ThreadPool pool(1);
                                CpuBackend backend(pool);
                                Trainer trainer(f.space, f.options, f.stages, *f.data, backend, std::nullopt, ranks);
                                try {
                                  while (!trainer.done()) {
                                    if (ranks.rank() == 3 && trainer.next_step() == 4) throw std::runtime_error("out of power");
                                    trainer.step();
                                  }
                                } catch (const RankLost&) {
                                  ++told;
                                  throw;
                                }
                              }),
                    "out of power");
  CHECK(told == 3);
}

TEST_CASE("a step's messages are the parts of its gradients, there and back, from the deepest block on", "[trainers][data_parallel]") {
  const ShortRun f(4);
  const int parts = f.space.max_depth() + 1;
  run_ranks(2, [&](Communicator& inner) {
    std::vector<int> tags;
    std::int64_t bytes = 0;
    WatchedRanks ranks(inner, [&](const WatchedRanks::Message& message) {
      if (message.tag == 0 || !message.sends) return;
      tags.push_back(message.tag);
      bytes += static_cast<std::int64_t>(message.bytes);
    });
    const ThreadPool pool(1);
    CpuBackend backend(pool);
    Trainer trainer(f.space, f.options, f.stages, *f.data, backend, std::nullopt, ranks);
    while (!trainer.done()) {
      tags.clear();
      bytes = 0;
      const StepReport report = trainer.step();
      // Rank 1 sends its sum of each part to rank 0, which sends the whole one back.
      const bool ascending = std::is_sorted(tags.begin(), tags.end()) || ranks.leads();
      if (!ascending || tags.size() > static_cast<std::size_t>(parts) || bytes != active_bytes(f.space, report.subnets))
        throw std::runtime_error("rank " + std::to_string(ranks.rank()) + " sends other messages in step " + std::to_string(report.step));
    }
  });
}

TEST_CASE("a rank that fails in the middle of a backward pass ends the step of the others", "[trainers][data_parallel]") {
  const ShortRun f(4);
  const int message = GENERATE(1, 2, 3);  // of those that rank 3 begins to send in its fifth step
  std::atomic<int> told{0};
  CHECK_THROWS_WITH(run_ranks(4,
                              [&](Communicator& inner) {
                                Trainer* running = nullptr;
                                int sent = 0;
                                WatchedRanks ranks(inner, [&](const WatchedRanks::Message& one) {
                                  if (inner.rank() == 3 && running && running->next_step() == 4 && one.sends && ++sent == message)
                                    throw std::runtime_error("out of power");
                                });
                                const ThreadPool pool(1);
                                CpuBackend backend(pool);
                                Trainer trainer(f.space, f.options, f.stages, *f.data, backend, std::nullopt, ranks);
                                running = &trainer;
                                try {
                                  while (!trainer.done()) trainer.step();
                                } catch (const RankLost&) {
                                  ++told;
                                  throw;
                                }
                              }),
                    "out of power");
  CHECK(told == 3);
}

}  // namespace elastiform
