// What every optimizer must keep under every policy that it can work with: same bits on any number of threads and after a kill, bands that
// stay as they were, and exactly the bytes that were planned.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/support/catch.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/optimizers/optimizer.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

/// A space with matrices that are coded in 8 bits, and some that are not.
SearchSpace wide_space() {
  ModelConfig model = preset_model("llama");
  model.vocabulary = 256;
  model.context = 8;
  model.head_dim = 16;
  const SearchSpace::Block block{{2, 4}, {.widths = {96, 160}, .ratios = {}}};
  return SearchSpace(model, {48, 64}, {1, 2}, {block, block});
}

struct Suite : Fixture {
  Suite(const std::string& optimizer, const std::string& policy) {
    space = wide_space();
    data = std::make_unique<TextData>(folder / "text.txt",
                                      DataOptions{.text = "text.txt", .tokenizer = "bytes", .splits = {80, 10, 10}, .split_block = 4096},
                                      space.model().context);
    find_optimizer(optimizer).set_defaults(options);
    options.optimizer = optimizer, options.policy = policy;
    options.steps = 16, options.sequences = 4, options.band_warmup = 3;
    stages = {{.share = 1, .steps = 0, .sampler = "balanced"}};
    resolve_stages(stages, options.steps);
  }
};

/// All of an optimizer's state, by name.
std::map<std::string, std::vector<std::byte>> state_of(Optimizer& optimizer) {
  std::map<std::string, std::vector<std::byte>> all;
  const auto add = [&](const std::string& name, const void* data, std::size_t bytes) {
    const auto* first = static_cast<const std::byte*>(data);
    all[name].assign(first, first + bytes);
  };
  for (const auto& [name, moment] : optimizer.moments()) add(name, moment->data(), static_cast<std::size_t>(moment->bytes()));
  for (const auto& [name, array] : optimizer.arrays()) add(name, array->data(), static_cast<std::size_t>(array->bytes()));
  for (const auto& [name, numbers] : optimizer.band_numbers()) add("band " + name, numbers->data(), numbers->size() * sizeof(double));
  return all;
}

/// For every element of an optimizer's array, as it lays them out, the band that it belongs to; -1: padding.
std::vector<std::int64_t> bands_of(const std::string& array, const WeightTable& table, std::int64_t count) {
  std::vector<std::int64_t> bands(static_cast<std::size_t>(count), -1);
  const auto fill = [&](std::int64_t first, std::int64_t elements, std::int64_t band) {
    std::fill_n(bands.begin() + static_cast<std::ptrdiff_t>(first), elements, band);
  };
  const auto is_coded = [](const TensorSpec& tensor) { return decays(tensor) && tensor.rows * tensor.columns >= 4096; };
  const bool codes = array.find("_codes") != std::string::npos, scales = array.find("_scales") != std::string::npos;
  std::int64_t next = 0;                               // where bands, one after the other, have numbers
  std::map<const TensorSpec*, std::int64_t> begins{};  // where tensors have the shape of the weights
  std::int64_t end = 0;
  for (const TensorSpec& tensor : table.tensors())
    if (is_coded(tensor) == codes) begins[&tensor] = end, end += tensor.rows * tensor.ld;
  for_each_band(table, [&](const BandRectangle& band) {
    if (scales || array == "rows" || array == "columns") {
      const std::int64_t blocks = is_coded(*band.tensor) ? CodeBlocks(band.rows, band.columns).count() : 0;
      const std::int64_t numbers = scales ? blocks : array == "rows" ? band.rows : band.columns;
      fill(next, numbers, band.band);
      next += numbers;
    } else if (is_coded(*band.tensor) == codes) {
      for (std::int64_t row = 0; row < band.rows; ++row)
        fill(begins.at(band.tensor) + (band.row + row) * band.tensor->ld + band.column, band.columns, band.band);
    }
  });
  return bands;
}

struct Changes {
  std::int64_t active = 0, idle = 0;  // elements that changed; idle: padding too
};
Changes changes_of(const std::string& name, const StateArray& array, const std::vector<std::byte>& before, const WeightTable& table,
                   const ActiveBands& active) {
  const std::vector<std::int64_t> bands = bands_of(name, table, array.count());
  const auto size = static_cast<std::size_t>(bytes_of(array.dtype()));
  Changes changes;
  for (std::size_t i = 0; i < bands.size(); ++i) {
    if (std::memcmp(before.data() + i * size, array.data() + i * size, size) == 0) continue;
    ++(bands[i] >= 0 && active[bands[i]] ? changes.active : changes.idle);
  }
  return changes;
}

std::vector<std::pair<std::string, std::string>> combinations() {
  std::vector<std::pair<std::string, std::string>> all;
  for (const OptimizerEntry& entry : optimizers())
    for (const char* policy : {"dense", "lazy-global", "lazy-local", "catch-up"})
      if (entry.refuses(parse_band_policy(policy)).empty()) all.emplace_back(entry.name, policy);
  return all;
}

}  // namespace

TEST_CASE("every optimizer: stopped and resumed, and on one thread or two, it has the same bits", "[trainers][optimizers][bits]") {
  const auto [optimizer, policy] = GENERATE(from_range(combinations()));
  CAPTURE(optimizer, policy);
  const Suite f(optimizer, policy);
  const ThreadPool pool(2), one(1);
  CpuBackend backend(pool), alone(one);
  Trainer straight(f.space, f.options, f.stages, *f.data, backend), serial(f.space, f.options, f.stages, *f.data, alone);
  while (!straight.done()) straight.step();
  while (!serial.done()) serial.step();
  CHECK(straight.skipped_steps() == 0);
  const auto state = state_of(*straight.state().optimizer);
  CHECK(weights_hash(serial.weights()) == weights_hash(straight.weights()));
  CHECK(state_of(*serial.state().optimizer) == state);
  {
    Trainer first(f.space, f.options, f.stages, *f.data, backend);
    while (first.next_step() < 7) first.step();
    save_checkpoint(first, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  }
  Trainer second(f.space, f.options, f.stages, *f.data, backend);
  load_checkpoint(second, f.folder / "supernet.h5");
  while (!second.done()) second.step();
  CHECK(weights_hash(second.weights()) == weights_hash(straight.weights()));
  CHECK(state_of(*second.state().optimizer) == state);
}

TEST_CASE("every optimizer holds the bytes that its plan says", "[trainers][optimizers][memory]") {
  const auto [name, policy] = GENERATE(from_range(combinations()));
  CAPTURE(name, policy);
  TrainOptions options;
  options.optimizer = name, options.policy = policy;
  const ThreadPool pool(1);
  const CpuBackend backend(pool);
  const auto table = std::make_shared<const WeightTable>(wide_space());
  const auto optimizer = make_optimizer(options, table, backend);
  CHECK(optimizer->bytes() == find_optimizer(name).state_bytes(options, *table));
  std::size_t bytes = 0;
  for (const auto& one : state_of(*optimizer)) bytes += one.second.size();
  CHECK(static_cast<std::int64_t>(bytes) == optimizer->bytes());
}

TEST_CASE("state next to AdamW's: half for Lion, about a quarter in 8 bits, next to nothing for Adafactor",
          "[trainers][optimizers][memory]") {
  ModelConfig model = preset_model("llama");
  model.vocabulary = 64;
  const SearchSpace::Block block{{4, 8}, {.widths = {512, 1024}, .ratios = {}}};
  const WeightTable table(SearchSpace(model, {128, 256}, {4}, {block, block, block, block}));
  const auto bytes = [&](const char* name) {
    return static_cast<double>(find_optimizer(name).state_bytes({}, table)) / static_cast<double>(table.elements());
  };
  CHECK(bytes("adamw") == Approx(8).epsilon(0.01));
  CHECK(bytes("lion") == Approx(4).epsilon(0.01));
  CHECK(bytes("adamw8bit") == Approx(2 + 8 / 256.0).epsilon(0.05));
  CHECK(bytes("adafactor") < 0.1);
}

TEST_CASE("every lazy optimizer leaves bands that no subnet of a step uses bitwise as they were", "[trainers][optimizers][slicing]") {
  const auto [optimizer, policy] = GENERATE(from_range(combinations()));
  if (policy == "dense") return;
  CAPTURE(optimizer, policy);
  const Suite f(optimizer, policy);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  std::vector<BandRectangle> idle;
  bool some_idle = false;
  for (int t = 0; t < 8; ++t) {
    Weights before(trainer.weights().shared_table(), DType::float32);
    before.assign(trainer.weights());
    const auto state = state_of(*trainer.state().optimizer);
    const StepReport report = trainer.step();
    const ActiveBands active(before.table(), report.subnets);
    band_rectangles(
        before.table(), [&](std::int64_t band) { return active[band] ? -1 : 0; }, idle);
    some_idle = some_idle || !idle.empty();
    for (const BandRectangle& r : idle)
      for (std::int64_t row = 0; row < r.rows; ++row)
        REQUIRE(std::memcmp(r.of(before).row<float>(row), r.of(trainer.weights()).row<float>(row),
                            static_cast<std::size_t>(r.columns) * sizeof(float)) == 0);
    // Arrays of the weights' shape, element by element; numbers of bands, band by band.
    for (const auto& [name, moment] : trainer.state().optimizer->moments()) {
      Weights old(before.shared_table(), DType::float32);
      std::memcpy(old.data(), state.at(name).data(), state.at(name).size());
      for (const BandRectangle& r : idle)
        for (std::int64_t row = 0; row < r.rows; ++row)
          REQUIRE(std::memcmp(r.of(old).row<float>(row), r.of(*moment).row<float>(row),
                              static_cast<std::size_t>(r.columns) * sizeof(float)) == 0);
    }
    for (const auto& [name, array] : trainer.state().optimizer->arrays())
      REQUIRE(changes_of(name, *array, state.at(name), before.table(), active).idle == 0);
    for (const auto& [name, numbers] : trainer.state().optimizer->band_numbers())
      for (std::size_t band = 0; band < numbers->size(); ++band)
        if (!active[static_cast<std::int64_t>(band)])
          REQUIRE(std::memcmp(state.at("band " + name).data() + band * sizeof(double), &(*numbers)[band], sizeof(double)) == 0);
  }
  CHECK(some_idle);
}

TEST_CASE("8-bit codes of idle bands do not drift, and arrays change only where a step trains", "[trainers][optimizers][slicing]") {
  const std::string name = GENERATE("adamw8bit", "adafactor");
  TrainOptions options;
  options.optimizer = name;
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const auto table = std::make_shared<const WeightTable>(wide_space());
  const auto optimizer = make_optimizer(options, table, backend);
  Weights weights(table, DType::float32), gradients(table, DType::float32);
  RandomStream random(1, Purpose::test);
  for (std::int64_t i = 0; i < table->elements(); ++i) reinterpret_cast<float*>(gradients.data())[i] = static_cast<float>(random.normal());
  const Subnet smallest = table->space().smallest(), largest = table->space().largest();
  const ActiveBands all(*table, std::span(&largest, 1)), few(*table, std::span(&smallest, 1));
  std::int64_t updates = 0;
  const auto update = [&](const ActiveBands& active) {
    for (std::int64_t i = 0; i < table->elements(); ++i)
      reinterpret_cast<float*>(gradients.data())[i] = static_cast<float>(random.normal());
    optimizer->update(backend, weights, gradients, active, {.step = updates++, .rate = 1e-3});
  };
  update(all);
  const auto before = state_of(*optimizer);
  for (int i = 0; i < 20; ++i) update(few);
  for (const auto& [array, held] : optimizer->arrays()) {
    CAPTURE(name, array);
    const Changes changes = changes_of(array, *held, before.at(array), *table, few);
    CHECK(changes.active > 0);
    CHECK(changes.idle == 0);
  }
}

namespace {

/// AdamW with moments of 32 bits and of 8, beside each other.
struct Both {
  ThreadPool pool{2};
  CpuBackend backend{pool};
  std::shared_ptr<const WeightTable> table = std::make_shared<const WeightTable>(wide_space());
  std::map<std::string, Weights> weights;
  std::map<std::string, std::unique_ptr<Optimizer>> optimizers;
  Weights gradients{table, DType::float32};
  std::int64_t updates = 0;

  explicit Both(TrainOptions options) {
    for (const char* name : {"adamw", "adamw8bit"}) {
      options.optimizer = name;
      optimizers[name] = make_optimizer(options, table, backend);
      fill(weights.try_emplace(name, table, DType::float32).first->second, 1);
    }
  }
  template <class Number>
  void set(Weights& of, const Number& number) const {
    for (std::int64_t i = 0; i < table->elements(); ++i) reinterpret_cast<float*>(of.data())[i] = number();
  }
  void fill(Weights& of, std::uint64_t seed) const {
    RandomStream random(seed, Purpose::test);
    set(of, [&] { return static_cast<float>(random.normal()); });
  }
  void update(const ActiveBands& active) {
    for (auto& [name, optimizer] : optimizers)
      optimizer->update(backend, weights.at(name), gradients, active, {.step = updates, .rate = 1e-3});
    ++updates;
  }
  double largest_difference() const {
    double most = 0;
    const auto value = [&](const char* name, std::int64_t i) { return reinterpret_cast<const float*>(weights.at(name).data())[i]; };
    for (std::int64_t i = 0; i < table->elements(); ++i)
      most = std::max(most, static_cast<double>(std::abs(value("adamw", i) - value("adamw8bit", i))));
    return most;
  }
};

// Of a weight of about 4, and of steps of 1e-3.
constexpr double kFloatRounding = 1e-6;

}  // namespace

TEST_CASE("AdamW in 8 bits: from state of zeros the first update is AdamW's", "[trainers][optimizers]") {
  TrainOptions options;
  options.band_warmup = 0;
  Both both(options);
  both.fill(both.gradients, 2);
  Weights start(both.table, DType::float32);
  start.assign(both.weights.at("adamw"));
  const Subnet largest = both.table->space().largest();
  both.update(ActiveBands(*both.table, std::span(&largest, 1)));
  CHECK(weights_hash(start) != weights_hash(both.weights.at("adamw8bit")));
  CHECK(both.largest_difference() < kFloatRounding);
}

TEST_CASE("AdamW in 8 bits: where a gradient is constant, bands that were idle under catch-up come back as AdamW's",
          "[trainers][optimizers]") {
  TrainOptions options;
  options.policy = "catch-up", options.band_warmup = 0;
  Both both(options);
  both.set(both.gradients, [] { return 0.5f; });  // a block's elements are its scale, whose code is exact
  const Subnet smallest = both.table->space().smallest(), largest = both.table->space().largest();
  const ActiveBands all(*both.table, std::span(&largest, 1)), few(*both.table, std::span(&smallest, 1));
  both.update(all);
  for (int i = 0; i < 9; ++i) both.update(few);
  both.update(all);
  CHECK(both.largest_difference() < 11 * kFloatRounding);
}

TEST_CASE("AdamW in 8 bits learns as AdamW does", "[trainers][optimizers]") {
  const auto losses_of = [](const char* optimizer) {
    Suite f(optimizer, "lazy-local");
    f.options.steps = 50;
    resolve_stages(f.stages, f.options.steps);
    const ThreadPool pool(2);
    CpuBackend backend(pool);
    Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
    double first = trainer.step().losses.front().label_loss, last = 0;
    while (!trainer.done()) {
      const StepReport report = trainer.step();
      if (report.step >= 40) last += report.losses.front().label_loss / 10;
    }
    return std::pair(first, last);
  };
  const auto [first, last] = losses_of("adamw8bit");
  const auto [same_first, expected] = losses_of("adamw");
  CHECK(first == same_first);
  CHECK(last < first - 1);
  CHECK(last == Approx(expected).margin(0.02));
}

TEST_CASE("a checkpoint holds arrays of float64", "[trainers][optimizers]") {
  const Suite f("adafactor", "lazy-local");
  ReferenceBackend backend;
  Trainer first(f.space, f.options, f.stages, *f.data, backend), second(f.space, f.options, f.stages, *f.data, backend);
  for (int t = 0; t < 2; ++t) first.step();
  save_checkpoint(first, "recipe", f.data->sha256(), f.folder / "supernet.h5");
  load_checkpoint(second, f.folder / "supernet.h5");
  CHECK(state_of(*second.state().optimizer) == state_of(*first.state().optimizer));
}

}  // namespace elastiform
