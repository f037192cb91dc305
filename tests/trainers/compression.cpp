#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "supernet/weights_file.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

std::string trained(const Fixture& f, int threads, std::int64_t resumed_at = 0) {
  const ThreadPool pool(threads);
  CpuBackend backend(pool);
  Trainer first(f.space, f.options, f.stages, *f.data, backend);
  if (resumed_at == 0) {
    while (!first.done()) first.step();
    return weights_hash(first.weights());
  }
  while (first.next_step() < resumed_at) first.step();
  save_checkpoint(first, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  Trainer second(f.space, f.options, f.stages, *f.data, backend);
  load_checkpoint(second, f.folder / "supernet.h5");
  while (!second.done()) second.step();
  return weights_hash(second.weights());
}

}  // namespace

TEST_CASE("training with compressed activations has the same bits on 1 and 3 threads, and when resumed", "[trainers][compression][bits]") {
  Fixture f;
  f.space = wide_space(f.space);
  f.options.steps = 12;
  f.options.sequences = 12;
  resolve_stages(f.stages, f.options.steps);
  const std::string exact = trained(f, 2);
  f.options.activations = GENERATE("8bit", "4bit", "auto");
  f.options.accumulation = GENERATE(1, 2);
  CAPTURE(f.options.activations, f.options.accumulation);
  const std::string expected = trained(f, 1);
  CHECK(trained(f, 3) == expected);
  CHECK(trained(f, 2, 7) == expected);
  CHECK(expected != exact);
}

TEST_CASE("training with compressed activations learns, in fewer bytes", "[trainers][compression]") {
  Fixture f;
  SECTION("narrow") {}
  SECTION("wide") { f.space = wide_space(f.space), f.options.rate = 3e-3; }
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const Trainer::Memory all = Trainer::plan(f.space, f.options, f.stages, backend);
  f.options.activations = GENERATE("4bit", "2bit");
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  CHECK(trainer.memory().arena < all.arena);
  CHECK(trainer.memory().recomputed_share == 0);  // what a product computes is compressed, not computed again
  CHECK(trainer.memory().compressed > 4);
  CHECK(trainer.memory().compressed < trainer.memory().tensors);  // statistics
  CHECK(all.compressed == 0);
  CHECK(all.tensors == trainer.memory().tensors);
  CHECK(Trainer::plan(f.space, f.options, f.stages, backend).arena == trainer.memory().arena);
  StepReport last;
  while (!trainer.done()) last = trainer.step();
  CHECK(last.losses.front().label_loss < 3.0);
}

TEST_CASE("the recipe says what compressed activations take, and what is too little is refused", "[trainers][compression][memory]") {
  Fixture f;
  f.space = wide_space(f.space);
  f.options.steps = 20;
  resolve_stages(f.stages, f.options.steps);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  f.options.activations = GENERATE("auto", "4bit");
  const std::int64_t automatic = Trainer::plan(f.space, f.options, f.stages, backend).arena;
  f.options.activation_bytes = 1;
  const std::string message = input_error([&] { Trainer::plan(f.space, f.options, f.stages, backend); });
  CAPTURE(message);
  const std::size_t number = message.find("at least ");
  REQUIRE(number != std::string::npos);
  const std::int64_t least = std::stoll(message.substr(number + 9));
  CHECK(least < automatic);
  for (const std::int64_t bytes : {least + 4096, std::int64_t{0}}) {
    f.options.activation_bytes = bytes;
    Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
    if (bytes == 0) CHECK(trainer.memory().compressed > 0);
    while (!trainer.done()) trainer.step();  // every pass asserts planned == used
    const std::int64_t capacity = trainer.memory().arena;
    CHECK(capacity >= least);
    CHECK_THROWS_AS(Trainer(f.space, f.options, f.stages, *f.data, backend, capacity - 64), InputError);
  }
  f.options.activations = "3bit";
  CHECK_THROWS_AS(Trainer::plan(f.space, f.options, f.stages, backend), InputError);
}

TEST_CASE("a network of more blocks than noise has names for cannot compress, and can wait in a file", "[trainers][compression]") {
  Fixture f;
  const std::vector<SearchSpace::Block> blocks(257, {{2}, {.widths = {8}, .ratios = {}}});
  f.space = SearchSpace(f.space.model(), {8}, {257}, blocks);
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  CHECK_NOTHROW(Trainer::plan(f.space, f.options, f.stages, backend));
  f.options.activations = "4bit";
  CHECK_THROWS_WITH(Trainer::plan(f.space, f.options, f.stages, backend), Catch::Matchers::Contains("at most 256 blocks"));
}

}  // namespace elastiform
