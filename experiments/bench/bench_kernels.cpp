// Speed of every kernel at the shapes of training steps: bench_kernels [--threads N] [--json] [--case LINE] [--device D]; of the CPU's beside
// the machine's measured peaks, of a device's without: it is told several calls at a time, as in a step. A row is a case line, and what ELASTIFORM_VERBOSE=kernels prints is one too, so that any call can be timed by itself.
// Best of repeats, as other programs may share the machine.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <string>
#include <vector>

#include "experiments/bench/support/kernel_case.hpp"
#include "experiments/bench/support/kernel_table.hpp"
#include "experiments/bench/support/machine.hpp"
#include "experiments/elastiform/devices.hpp"
#include "kernels/cpu/bf16.hpp"
#include "kernels/device.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

struct Options {
  Device device = Device::cpu;
  int threads = default_threads();
  std::vector<std::string> lines;  // empty: the table
  bool json = false;
};

/// What all threads reach together; a row that uses fewer is compared with its part.
struct Peaks {
  double f32 = 0, bf16 = 0;                           // FLOP/s; bf16 0: this CPU has none
  double bandwidth = 0, bandwidth_of_one_thread = 0;  // bytes/s
  double of(Precision precision) const { return precision == Precision::bf16 ? bf16 : f32; }
};

Peaks measure_peaks(const Options& options) {
  Peaks peaks{.f32 = measured_peak(Precision::f32, options.threads),
              .bf16 = cpu::has_bf16() ? measured_peak(Precision::bf16, options.threads) : 0,
              .bandwidth = measured_bandwidth(options.threads),
              .bandwidth_of_one_thread = measured_bandwidth(1)};
  if (options.json)
    fmt::print(
        "{{\"row\": \"peaks\", \"threads\": {}, \"f32_gflops\": {:.1f}, \"bf16_gflops\": {:.1f}, \"gb_s\": {:.1f}, \"gb_s_one_thread\": "
        "{:.1f}}}\n",
        options.threads, peaks.f32 * 1e-9, peaks.bf16 * 1e-9, peaks.bandwidth * 1e-9, peaks.bandwidth_of_one_thread * 1e-9);
  else
    fmt::print("{} threads: peak {:.0f} GFLOP/s float32, {:.0f} bf16, memory {:.1f} GB/s (one thread {:.1f})\n", options.threads,
               peaks.f32 * 1e-9, peaks.bf16 * 1e-9, peaks.bandwidth * 1e-9, peaks.bandwidth_of_one_thread * 1e-9);
  return peaks;
}

void bench(const CaseLine& line, const ThreadPool& pool, const Peaks& peaks, const Options& options) {
  const bool on_cpu = options.device == Device::cpu;
  const auto backend = make_backend({options.device, line.precision}, pool);
  const KernelCase kernel(line, *backend);
  backend->wait();
  const int calls = on_cpu ? 1 : 20;
  const double seconds = best_seconds([&] {
                           for (int i = 0; i < calls; ++i) kernel.run();
                           backend->wait();
                         }) /
                         calls;
  const bool product = kernel.flops() > 0;
  const double rate = (product ? kernel.flops() : kernel.bytes()) / seconds;
  const double reachable = product                ? peaks.of(line.precision) * kernel.workers() / pool.size()
                           : kernel.workers() > 1 ? peaks.bandwidth
                                                  : peaks.bandwidth_of_one_thread;
  const char* unit = product ? "GFLOP/s" : "GB/s";
  const double percent = on_cpu ? 100 * rate / reachable : 0;
  if (options.json)
    fmt::print(
        "{{\"row\": \"kernel\", \"case\": \"{}\", \"ms\": {:.4f}, \"rate\": {:.2f}, \"unit\": \"{}\", \"percent\": {:.1f}, \"workers\": "
        "{}}}\n",
        line.text(), 1e3 * seconds, rate * 1e-9, unit, percent, kernel.workers());
  else
    fmt::print("{:>9.3f} ms {:>8.2f} {:<7} {}{}\n", 1e3 * seconds, rate * 1e-9, unit,
               on_cpu ? fmt::format("{:>4.0f} % of {}  ", percent, product ? "peak  " : "memory") : "", line.text());
  std::fflush(stdout);
}

void run(const Options& options) {
  offer_devices();
  const ThreadPool pool(options.threads);
  std::vector<CaseLine> cases;
  for (const std::string& line : options.lines) cases.push_back(CaseLine::parse(line));  // what is wrong shows before any waiting
  if (cases.empty())
    for (const Precision precision : {Precision::f32, Precision::bf16})
      for (const std::string& line : kernel_table()) {
        const CaseLine one = CaseLine::parse(line);
        if (precision == Precision::f32) cases.push_back(one);
        else if ((options.device != Device::cpu || cpu::has_bf16()) && has_bf16_products(one.operation)) cases.push_back(in_bf16(one));
      }
  for (const CaseLine& line : cases) {
    if (options.lines.empty()) break;
    if (options.device == Device::cpu) require_precision(line.precision, "case: precision=bf16");
    KernelCase(line, *make_backend({options.device, line.precision}, pool));
  }
  const Peaks peaks = options.device == Device::cpu ? measure_peaks(options) : Peaks{};
  for (const CaseLine& line : cases) bench(line, pool, peaks, options);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string option = argv[i];
    if (option == "--json") {
      options.json = true;
      continue;
    }
    const std::string value = i + 1 < argc ? argv[++i] : "";
    const char* end = value.data() + value.size();
    if (option == "--device") options.device = parse_device(value, option);
    else if (option == "--case" && !value.empty()) options.lines.push_back(value);
    else if (option == "--threads" && std::from_chars(value.data(), end, options.threads).ptr == end && options.threads > 0) continue;
    else
      throw InputError({.where = "bench_kernels",
                        .expected = "--threads N, --json, --device D or --case LINE",
                        .found = "'" + option + " " + value + "'",
                        .remedy = ""});
  }
  return options;
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
    std::fprintf(stderr, "bench_kernels: %s\n", error.what());
    return 1;
  }
}
