// Speed and memory of whole steps of a GPT-2-like supernet (support/shape.hpp) beside this machine's measured peak:
//   fixed      the largest subnet, labels, one update            single     the subnets of a list, one an update
//   sandwich   the largest from labels, then the smallest and two of the list, half labels, half the largest's logits; one update
//   members    the sandwich's four subnets one after the other, labels, an update each: what a sandwich must not exceed
//   eval       losses of the list's subnets, one after the other
//   elastic    each subnet's step inside the supernet and as a dense network of its size
//   population scores by the prefix evaluator and one by one     growth     a dense step against tokens, layers and width
//   updates    every optimizer's update of the largest subnet beside AdamW's
//   tuning     the largest's step in which a method's tensors learn (LoRA, …), beside one in which all do
// Without --mode the first four. bench/peer/torch_supernet.py does those in PyTorch on the same list, which --write-work makes;
// --write-check writes weights, losses and gradients for it to compare.

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include "experiments/bench/support/check_file.hpp"
#include "experiments/bench/support/elastic.hpp"
#include "experiments/bench/support/growth.hpp"
#include "experiments/bench/support/machine.hpp"
#include "experiments/bench/support/population.hpp"
#include "experiments/bench/support/steps.hpp"
#include "experiments/bench/support/tuning.hpp"
#include "experiments/bench/support/updates.hpp"
#include "experiments/elastiform/devices.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

struct Options {
  std::vector<std::string> modes{"fixed", "single", "sandwich", "eval"};
  std::string shape = "medium", write_work, write_check;
  Precision precision = Precision::f32;
  Device device = Device::cpu;
  int threads = default_threads();
  std::int64_t steps = 0;
  int sequences = 0;   // 0: the shape's
  TrainOptions train;  // activations and the optimizer
  bool json = false, shape_given = false;
};

struct StepRow {
  std::int64_t steps = 0;
  double seconds = 0, rate = 0;  // of a step, FLOP/s
};

/// Times `run` after one warm-up; `run` takes the number of the step and returns its FLOPs. Steps of a list differ in size, so their mean
/// counts; equal steps have a median that a busy moment does not move.
template <class Run>
StepRow time_steps(std::int64_t count, bool equal, const Run& run) {
  run(0);
  std::vector<double> seconds;
  double flops = 0;
  for (std::int64_t i = 0; i < count; ++i) seconds.push_back(seconds_of([&] { flops += run(i); }));
  const double mean = std::accumulate(seconds.begin(), seconds.end(), 0.0) / static_cast<double>(count);
  const double step = equal ? median(seconds) : mean;
  return {.steps = count, .seconds = step, .rate = flops / static_cast<double>(count) / step};
}

StepRow train(const std::string& mode, const Shape& shape, const Options& options, const ThreadPool& pool) {
  const auto backend = make_backend({options.device, options.precision}, pool);
  TrainingSteps steps(shape.space, *backend, initial_weights(shape.space), shape.sequences, mode == "sandwich", options.train);
  const auto listed = [&](std::int64_t turn) { return shape.list[static_cast<std::size_t>(turn) % shape.list.size()]; };
  const auto subnets_of = [&](std::int64_t i) -> std::vector<Subnet> {
    if (mode == "fixed") return {shape.space.largest()};
    if (mode == "single") return {listed(i)};
    return {shape.space.largest(), shape.space.smallest(), listed(2 * i), listed(2 * i + 1)};
  };
  const std::int64_t all = mode == "fixed"                           ? shape.fixed_steps
                           : mode == "sandwich" || mode == "members" ? shape.sandwich_steps
                                                                     : static_cast<std::int64_t>(shape.list.size());
  return time_steps(options.steps > 0 ? options.steps : all, mode == "fixed", [&](std::int64_t i) {
    const std::vector<Subnet> subnets = subnets_of(i);
    if (mode == "members")
      for (const Subnet& subnet : subnets) steps.step(std::span(&subnet, 1));
    else steps.step(subnets);
    backend->wait();
    return model_flops(shape.space, subnets, 6, shape.tokens());
  });
}

StepRow evaluate(const Shape& shape, const Options& options, const ThreadPool& pool) {
  EvaluationSteps steps(shape.space, pool, {options.device, options.precision}, initial_weights(shape.space), shape.sequences);
  const auto all = static_cast<std::int64_t>(shape.list.size());
  return time_steps(options.steps > 0 ? options.steps : all, false, [&](std::int64_t i) {
    const Subnet& subnet = shape.list[static_cast<std::size_t>(i) % shape.list.size()];
    steps.step(subnet);
    return model_flops(shape.space, {subnet}, 2, shape.tokens());
  });
}

void bench_steps(const std::string& mode, const Shape& shape, const Options& options, double peak, double start_mib) {
  reset_peak_resident();
  const ThreadPool pool(options.threads);
  const StepRow row = mode == "eval" ? evaluate(shape, options, pool) : train(mode, shape, options, pool);
  const double mib = peak_resident_mib();
  if (options.json)
    fmt::print(
        "{{\"program\": \"elastiform\", \"shape\": \"{}\", \"mode\": \"{}\", \"precision\": \"{}\", \"threads\": {}, \"steps\": {}, "
        "\"step_ms\": {:.3f}, \"tokens_s\": {:.0f}, \"gflops\": {:.1f}, \"peak_gflops\": {:.1f}, \"start_mib\": {:.1f}, \"peak_mib\": "
        "{:.1f}}}\n",
        shape.name, mode, name_of(options.precision), options.threads, row.steps, 1e3 * row.seconds,
        static_cast<double>(shape.tokens()) / row.seconds, row.rate * 1e-9, peak * 1e-9, start_mib, mib);
  else
    fmt::print("{:<9} {:8.1f} ms/step {:9.0f} tokens/s {:7.1f} GFLOP/s{} {:7.0f} MiB\n", mode, 1e3 * row.seconds,
               static_cast<double>(shape.tokens()) / row.seconds, row.rate * 1e-9,
               peak > 0 ? fmt::format(" ({:.0f} % of peak)", 100 * row.rate / peak) : "", mib);
}

void bench_elastic(const Shape& shape, const Options& options) {
  const ThreadPool pool(options.threads);
  std::vector<double> ratios, firsts;
  for (const ElasticRow& row : measure_elastic(shape, options.precision, pool, options.steps > 0 ? static_cast<int>(options.steps) : 5)) {
    ratios.push_back(row.ratio);
    firsts.push_back(row.first_over_second);
    if (options.json)
      fmt::print(
          "{{\"shape\": \"{}\", \"mode\": \"elastic\", \"precision\": \"{}\", \"subnet\": \"{}\", \"supernet_ms\": {:.3f}, \"dense_ms\": "
          "{:.3f}, \"ratio\": {:.4f}, \"first_over_second\": {:.4f}}}\n",
          shape.name, name_of(options.precision), row.subnet, row.supernet_ms, row.dense_ms, row.ratio, row.first_over_second);
    else
      fmt::print("elastic   {:<44} {:8.1f} ms, dense {:8.1f} ms, ratio {:.3f}; first step / second {:.3f}\n", row.subnet, row.supernet_ms,
                 row.dense_ms, row.ratio, row.first_over_second);
  }
  if (!options.json) fmt::print("elastic   median ratio {:.3f}, median of first over second {:.3f}\n", median(ratios), median(firsts));
}

void bench_population(const Shape& shape, const Options& options) {
  const ThreadPool pool(options.threads);
  for (const PopulationRow& row :
       measure_population(shape, options.precision, pool, options.steps > 0 ? static_cast<int>(options.steps) : 2))
    if (options.json)
      fmt::print(
          "{{\"shape\": \"{}\", \"mode\": \"population\", \"precision\": \"{}\", \"population\": \"{}\", \"subnets\": {}, \"together_ms\": "
          "{:.3f}, \"one_by_one_ms\": {:.3f}, \"blocks_together\": {}, \"blocks_one_by_one\": {}}}\n",
          shape.name, name_of(options.precision), row.population, row.subnets, row.together_ms, row.one_by_one_ms, row.blocks_together,
          row.blocks_one_by_one);
    else
      fmt::print("population {:<28} {} subnets {:8.1f} ms, one by one {:8.1f} ms, ratio {:.2f} (block forwards: {:.2f})\n", row.population,
                 row.subnets, row.together_ms, row.one_by_one_ms, row.one_by_one_ms / row.together_ms,
                 static_cast<double>(row.blocks_one_by_one) / static_cast<double>(row.blocks_together));
}

void bench_updates(const Shape& shape, const Options& options) {
  const ThreadPool pool(options.threads);
  for (const UpdateRow& row : measure_updates(shape, pool, options.steps > 0 ? static_cast<int>(options.steps) : 21))
    if (options.json)
      fmt::print(
          "{{\"shape\": \"{}\", \"mode\": \"updates\", \"optimizer\": \"{}\", \"ms\": {:.3f}, \"ratio\": {:.4f}, \"state_bytes\": "
          "{:.4f}}}\n",
          shape.name, row.optimizer, row.ms, row.ratio, row.state_bytes);
    else
      fmt::print("updates   {:<10} {:8.2f} ms, {:.2f} of AdamW's, state of {:.2f} bytes a parameter\n", row.optimizer, row.ms, row.ratio,
                 row.state_bytes);
}

void bench_tuning(const Shape& shape, const Options& options) {
  const ThreadPool pool(options.threads);
  for (const TuningRow& row : measure_tuning(shape, options.precision, pool, options.steps > 0 ? static_cast<int>(options.steps) : 3))
    if (options.json)
      fmt::print(
          "{{\"shape\": \"{}\", \"mode\": \"tuning\", \"precision\": \"{}\", \"method\": \"{}\", \"learning\": {}, \"full_ms\": {:.3f}, "
          "\"tuned_ms\": {:.3f}, \"ratio\": {:.4f}}}\n",
          shape.name, name_of(options.precision), row.method, row.learning, row.full_ms, row.tuned_ms, row.ratio);
    else
      fmt::print("tuning    {:<8} {:9} parameters learn: {:8.1f} ms/step, all of them {:8.1f} ms, {:.2f} times as fast\n", row.method,
                 row.learning, row.tuned_ms, row.full_ms, row.ratio);
}

void bench_growth(const Options& options) {
  for (const GrowthRow& row : measure_growth(options.precision, options.threads))
    if (options.json)
      fmt::print(
          "{{\"mode\": \"growth\", \"precision\": \"{}\", \"grows\": \"{}\", \"threads\": {}, \"context\": {}, \"layers\": {}, \"embed\": "
          "{}, "
          "\"us_a_token\": {:.4f}, \"attention_us_a_token\": {:.4f}, \"peak_mib\": {:.1f}}}\n",
          name_of(options.precision), row.grows, row.threads, row.context, row.layers, row.embed, row.microseconds_a_token,
          row.attention_microseconds_a_token, row.peak_mib);
    else
      fmt::print("growth in {:<7} {} threads, context {:4}, {:2} layers, embed {}: {:8.2f} us/token, attention {:7.2f}, {:6.0f} MiB\n",
                 row.grows, row.threads, row.context, row.layers, row.embed, row.microseconds_a_token, row.attention_microseconds_a_token,
                 row.peak_mib);
}

void write_work(const std::string& path, const Shape& shape) {
  std::ofstream out(path);
  out << work_text(shape);
  if (!out.flush()) throw InputError({.where = path, .expected = "a file that can be written", .found = "an error", .remedy = ""});
}

std::int64_t number(const std::string& option, const std::string& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1 || value > 1'000'000)
    throw InputError({.where = option, .expected = "an integer from 1 to 1000000", .found = "'" + text + "'", .remedy = ""});
  return value;
}

Options parse(int argc, char** argv) {
  const std::vector<std::string> modes{"fixed",   "single",     "sandwich", "members", "eval",
                                       "elastic", "population", "growth",   "updates", "tuning"};
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--json") {
      options.json = true;
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    if (option == "--write-work" && !value.empty()) options.write_work = value;
    else if (option == "--write-check" && !value.empty()) options.write_check = value;
    else if (option == "--shape") options.shape = value, options.shape_given = true;
    else if (option == "--threads") options.threads = static_cast<int>(number(option, value));
    else if (option == "--precision") options.precision = parse_precision(value, option);
    else if (option == "--device") options.device = parse_device(value, option);
    else if (option == "--steps") options.steps = number(option, value);
    else if (option == "--sequences") options.sequences = static_cast<int>(number(option, value));
    else if (option == "--activations") options.train.activations = value;
    else if (option == "--activation-mib") options.train.activation_bytes = number(option, value) << 20;
    else if (option == "--optimizer") options.train.optimizer = value;
    else if (option == "--mode" && std::find(modes.begin(), modes.end(), value) != modes.end()) options.modes = {value};
    else
      throw InputError({.where = "bench_step",
                        .expected = fmt::format(
                            "--mode {}, --shape small|medium|large|gpt2, --precision f32|bf16, --device, --threads, --steps, --sequences, "
                            "--activations exact|8bit|4bit|2bit|auto, --activation-mib, --optimizer, --json, --write-work FILE or "
                            "--write-check FILE",
                            fmt::join(modes, "|")),
                        .found = "'" + option + " " + value + "'",
                        .remedy = ""});
  }
  if (options.modes.front() == "growth" && (options.shape_given || options.steps > 0))
    throw InputError({.where = "bench_step --mode growth", .expected = "no --shape and no --steps", .found = "one", .remedy = ""});
  return options;
}

void run(const Options& options) {
  offer_devices();
  if (options.device == Device::cpu) require_precision(options.precision, "bench_step --precision bf16");
  if (options.device != Device::cpu &&
      (options.modes.front() == "elastic" || options.modes.front() == "population" || options.modes.front() == "growth" ||
       options.modes.front() == "updates" || options.modes.front() == "tuning"))
    throw InputError({.where = "bench_step --device",
                      .expected = "--mode fixed, single, sandwich, members or eval",
                      .found = options.modes.front(),
                      .remedy = ""});
  const double start_mib = peak_resident_mib();
  activation_choices(options.train);  // a word that there is
  Shape shape = find_shape(options.shape);
  if (options.sequences > 0) shape.sequences = options.sequences;
  if (!options.write_work.empty()) write_work(options.write_work, shape);
  if (!options.write_check.empty()) write_check(options.write_check, shape, options.threads);
  if (!options.write_work.empty() || !options.write_check.empty()) return;
  // A device's is measured by what runs there: 0 says that it is unknown here.
  const double peak = options.device == Device::cpu ? measured_peak(options.precision, options.threads) : 0;
  if (!options.json)
    fmt::print("{}, {}, {}\n", shape.name, text(Compute(options.device, options.precision)),
               peak > 0 ? fmt::format("{} threads, peak {:.0f} GFLOP/s", options.threads, peak * 1e-9) : "peak unknown");
  for (const std::string& mode : options.modes) {
    if (mode == "elastic") bench_elastic(shape, options);
    else if (mode == "population") bench_population(shape, options);
    else if (mode == "growth") bench_growth(options);
    else if (mode == "updates") bench_updates(shape, options);
    else if (mode == "tuning") bench_tuning(shape, options);
    else bench_steps(mode, shape, options, peak, start_mib);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace elastiform

int main(int argc, char** argv) {
  try {
    elastiform::run(elastiform::parse(argc, argv));
    return 0;
  } catch (const elastiform::InputError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_step: %s\n", error.what());
    return 1;
  }
}
