// Speed of whole steps of a GPT-2-like supernet (embed 384, 6 layers, 6 heads, context 256, 8 sequences, 256 bytes):
//   fixed      the largest subnet, labels, one update            single     the subnets of a list, one an update
//   sandwich   the largest from labels, then the smallest and two of the list, half labels, half the largest's logits; one update
//   eval       losses of the list's subnets, one after the other
// bench/peer/torch_supernet.py does the same in PyTorch on the same list, which --write-work makes.
//
//   bench_step [--mode MODE] [--precision f32|bf16] [--threads N] [--steps N] [--json] | bench_step --write-work FILE

#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "kernels/cpu/bf16.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/cpu/peak.hpp"
#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "supernet/cost_model.hpp"
#include "supernet/initialization.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/optimizers/optimizer.hpp"
#include "trainers/samplers/sampler.hpp"

namespace elastiform {
namespace {

constexpr int kSequences = 8, kContext = 256, kHeadDim = 64, kSubnets = 16;

SearchSpace bench_space() {
  ModelConfig model = preset_model("gpt2");
  model.context = kContext;
  model.head_dim = kHeadDim;
  const SearchSpace::Block block{.heads = {3, 4, 5, 6}, .ffn = {.widths = {}, .ratios = {2, 3, 4}}};
  return SearchSpace(model, {192, 256, 320, 384}, {3, 4, 5, 6}, std::vector<SearchSpace::Block>(6, block));
}

std::vector<Subnet> listed_subnets(const SearchSpace& space) {
  std::vector<Subnet> list;
  for (int i = 0; i < kSubnets; ++i) list.push_back(draw_balanced(space, 0, static_cast<std::uint64_t>(i), 0));
  return list;
}

Batch random_batch(std::int64_t sequences) {
  Batch batch{.sequences = sequences, .tokens = kContext, .inputs = {}, .targets = {}};
  RandomStream random(0, Purpose::test);
  for (std::int64_t i = 0; i < batch.rows(); ++i) {
    batch.inputs.push_back(static_cast<std::int32_t>(random.below(256)));
    batch.targets.push_back(static_cast<std::int32_t>(random.below(256)));
  }
  return batch;
}

/// One call of run() is one step of a mode; returns its floating point operations: 6 a multiply-add and token, 2 for eval.
class Steps {
 public:
  Steps(std::string mode, Precision precision, int threads)
      : mode_(std::move(mode)), space_(bench_space()), list_(listed_subnets(space_)), pool_(threads), backend_(pool_, precision),
        network_(space_, backend_.dtype()), table_(std::make_shared<const WeightTable>(space_)), weights_(table_, backend_.dtype()),
        plans_(network_, backend_.slots()), costs_(space_, {}, kSequences, [](std::int64_t, std::int64_t) { return std::int64_t{0}; }) {
    initialize(weights_, 0);
    if (mode_ == "eval") prepare_evaluation();
    else prepare_training();
  }

  double run() { return mode_ == "eval" ? evaluate(next()) : train(); }
  void rewind() { turn_ = 0; }
  std::int64_t list_steps() const { return mode_ == "fixed" ? 8 : mode_ == "sandwich" ? kSubnets / 2 : kSubnets; }

 private:
  struct Training {
    Batch batch;
    Stage stage;
    TrainOptions options;
    std::unique_ptr<Objective> objective;
    std::unique_ptr<Optimizer> optimizer;
    Weights gradients;
    Arena arena;
    std::int64_t updates = 0;
  };
  // As the product's evaluator: every worker scores its own part of the data with a serial backend.
  struct Worker {
    ThreadPool serial{1};
    CpuBackend backend;
    Batch batch;
    Arena arena;
    Worker(Precision precision, Batch part, std::int64_t bytes) : backend(serial, precision), batch(std::move(part)), arena(bytes) {}
  };

  const Subnet& next() { return list_[static_cast<std::size_t>(turn_++ % kSubnets)]; }

  double flops(const Subnet& subnet, double per_mac, std::int64_t rows) const {
    AdditiveCosts sum = costs_.frame(subnet.embed);
    for (const BlockGenes& genes : subnet.blocks) sum.macs += costs_.block(subnet.embed, genes).macs;
    return per_mac * static_cast<double>(sum.macs) * static_cast<double>(rows);
  }

  void prepare_training() {
    Stage stage;
    stage.objective = mode_ == "sandwich" ? "labels+largest" : "labels";
    TrainOptions options;
    auto objective = make_objective(stage);
    const std::int64_t rows = kSequences * kContext;
    const std::int64_t bytes =
        network_.plan_training(backend_.slots(), space_.largest(), {kSequences, kContext, objective->needs_largest()}).arena_bytes +
        objective->extra_arena_bytes(space_, backend_.dtype(), rows);
    auto optimizer = find_optimizer(options.optimizer).make(options, table_, backend_.dtype());
    training_.emplace(Training{random_batch(kSequences), stage, options, std::move(objective), std::move(optimizer),
                               Weights(table_, backend_.dtype()), Arena(bytes)});
  }

  double train() {
    Training& t = *training_;
    std::vector<Subnet> subnets;
    if (mode_ == "fixed") subnets = {space_.largest()};
    if (mode_ == "single") subnets = {next()};
    if (mode_ == "sandwich") {
      subnets = {space_.largest(), space_.smallest()};
      subnets.push_back(next());
      subnets.push_back(next());
    }
    const ActiveBands active(*table_, subnets);
    zero_active(backend_, t.gradients, active);
    t.objective->forward_backward({backend_, network_, weights_, t.gradients, t.arena, plans_}, subnets, t.batch);
    const double norm = global_norm(backend_, t.gradients, active);
    t.optimizer->update(backend_, weights_, t.gradients, active,
                        {.step = t.updates, .rate = 3e-4, .gradient_scale = clip_scale(norm, t.options.clip)});
    ++t.updates;
    double total = 0;
    for (const Subnet& subnet : subnets) total += flops(subnet, 6, t.batch.rows());
    return total;
  }

  void prepare_evaluation() {
    const std::int64_t parts = std::min<std::int64_t>(pool_.size(), kSequences);
    for (std::int64_t i = 0; i < parts; ++i) {
      const std::int64_t sequences = kSequences * (i + 1) / parts - kSequences * i / parts, rows = sequences * kContext;
      const Subnet largest = space_.largest();
      const std::int64_t bytes = 2 * Arena::bytes_for(rows, largest.embed, DType::float32) + Arena::bytes_for(1, rows, DType::float32) +
                                 std::max(network_.plan_block(1, largest.embed, largest.blocks[0], sequences, kContext),
                                          network_.plan_score(1, largest.embed, sequences, kContext));
      workers_.push_back(std::make_unique<Worker>(backend_.precision(), random_batch(sequences), bytes));
    }
  }

  double evaluate(const Subnet& subnet) {
    pool_.for_each(static_cast<std::int64_t>(workers_.size()), [&](std::int64_t i) {
      Worker& w = *workers_[static_cast<std::size_t>(i)];
      const ArenaScope scope(w.arena);
      View x = w.arena.matrix(w.batch.rows(), subnet.embed, DType::float32),
           y = w.arena.matrix(w.batch.rows(), subnet.embed, DType::float32);
      const View losses = w.arena.matrix(1, w.batch.rows(), DType::float32);
      network_.embed(w.backend, weights_, subnet.embed, w.batch, x);
      for (int b = 0; b < subnet.depth(); ++b) {
        network_.forward_block(w.backend, weights_, subnet.embed, subnet.blocks[static_cast<std::size_t>(b)], subnet.block_index(b),
                               kContext, x, y, w.arena);
        std::swap(x, y);
      }
      network_.score(w.backend, weights_, subnet.embed, x, w.batch, losses, {}, w.arena);
    });
    return flops(subnet, 2, kSequences * kContext);
  }

  std::string mode_;
  SearchSpace space_;
  std::vector<Subnet> list_;
  ThreadPool pool_;
  CpuBackend backend_;
  Network network_;
  std::shared_ptr<const WeightTable> table_;
  Weights weights_;
  PlanCache plans_;
  CostModel costs_;
  std::optional<Training> training_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::int64_t turn_ = 0;
};

double measured_peak(Precision precision, int threads) {
  const ThreadPool pool(threads);
  std::vector<double> each(static_cast<std::size_t>(threads));
  const auto measure = precision == Precision::bf16 ? cpu::measure_bf16_peak : cpu::measure_fma_peak;
  pool.for_each(threads, [&](std::int64_t i) { each[static_cast<std::size_t>(i)] = measure(); });
  return std::accumulate(each.begin(), each.end(), 0.0);
}

void bench(const std::string& mode, Precision precision, int threads, std::int64_t wanted, bool json, double peak) {
  Steps steps(mode, precision, threads);
  steps.run();  // warms caches; then the list from its start
  steps.rewind();
  const std::int64_t count = wanted > 0 ? wanted : steps.list_steps();
  std::vector<double> seconds;
  double flops = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto start = std::chrono::steady_clock::now();
    flops += steps.run();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  const double total = std::accumulate(seconds.begin(), seconds.end(), 0.0);
  std::sort(seconds.begin(), seconds.end());
  // Steps of a list differ in size, so their mean counts; equal steps have a median that a busy moment does not move.
  const double step = mode == "fixed" ? seconds[seconds.size() / 2] : total / static_cast<double>(count);
  const double rate = flops / static_cast<double>(count) / step;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const double mib = static_cast<double>(usage.ru_maxrss) / 1024;
  if (json)
    fmt::print(
        "{{\"program\": \"elastiform\", \"mode\": \"{}\", \"precision\": \"{}\", \"threads\": {}, \"steps\": {}, \"optimizer\": \"adamw\", "
        "\"step_ms\": {:.3f}, "
        "\"gflops\": {:.1f}, \"peak_gflops\": {:.1f}, \"peak_mib\": {:.1f}}}\n",
        mode, name_of(precision), threads, count, 1e3 * step, rate * 1e-9, peak * 1e-9, mib);
  else
    fmt::print("{:<9} {:8.1f} ms/step {:9.0f} tokens/s {:7.1f} GFLOP/s ({:.0f} % of peak) {:7.0f} MiB\n", mode, 1e3 * step,
               kSequences * kContext / step, rate * 1e-9, 100 * rate / peak, mib);
}

void write_work(const std::string& path) {
  const SearchSpace space = bench_space();
  std::string list;
  for (const Subnet& subnet : listed_subnets(space)) list += (list.empty() ? "\"" : ", \"") + format(subnet) + "\"";
  std::ofstream out(path);
  out << fmt::format(
      "{{\"vocabulary\": 256, \"context\": {}, \"batch\": {}, \"head_dim\": {}, \"largest\": \"{}\", \"smallest\": \"{}\",\n \"subnets\": "
      "[{}]}}\n",
      kContext, kSequences, kHeadDim, format(space.largest()), format(space.smallest()), list);
  if (!out.flush()) throw InputError({.where = path, .expected = "a file that can be written", .found = "an error", .remedy = ""});
}

std::int64_t number(const std::string& option, const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1)
    throw InputError({.where = option, .expected = "a positive integer", .found = "'" + text + "'", .remedy = ""});
  return value;
}

void run(int argc, char** argv) {
  std::vector<std::string> modes{"fixed", "single", "sandwich", "eval"};
  int threads = default_threads();
  std::int64_t steps = 0;
  Precision precision = Precision::f32;
  bool json = false;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--json") {
      json = true;
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    if (option == "--write-work" && !value.empty()) return write_work(value);
    if (option == "--threads") threads = static_cast<int>(number(option, value));
    else if (option == "--precision") precision = parse_precision(value, option);
    else if (option == "--steps") steps = number(option, value);
    else if (option == "--mode" && std::find(modes.begin(), modes.end(), value) != modes.end()) modes = {value};
    else
      throw InputError(
          {.where = "bench_step",
           .expected = "--mode fixed|single|sandwich|eval, --precision f32|bf16, --threads, --steps, --json or --write-work FILE",
           .found = "'" + option + " " + value + "'",
           .remedy = ""});
  }
  require_precision(precision, "bench_step --precision bf16");
  const double peak = measured_peak(precision, threads);
  if (!json) fmt::print("{} threads, peak {:.0f} GFLOP/s {}\n", threads, peak * 1e-9, name_of(precision));
  for (const std::string& mode : modes) bench(mode, precision, threads, steps, json, peak);
}

}  // namespace
}  // namespace elastiform

int main(int argc, char** argv) {
  try {
    elastiform::run(argc, argv);
    return 0;
  } catch (const elastiform::InputError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_step: %s\n", error.what());
    return 1;
  }
}
