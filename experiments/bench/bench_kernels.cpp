// Speed of every CPU kernel at the shapes of training steps, beside the machine's measured peaks: bench_kernels [--threads N] [--json]
// [--case LINE]. A row is a case line, and what ELASTIFORM_VERBOSE=kernels prints is one too, so that any call can be timed by itself.
// Best of repeats, as other programs may share the machine.
#include <fmt/format.h>

#include <charconv>
#include <cstdio>
#include <string>
#include <vector>

#include "experiments/bench/support/kernel_case.hpp"
#include "experiments/bench/support/kernel_table.hpp"
#include "experiments/bench/support/machine.hpp"
#include "kernels/cpu/bf16.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

struct Options {
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

void bench(const CaseLine& line, const ThreadPool& pool, const Peaks& peaks, bool json) {
  CpuBackend backend(pool, line.precision);
  const KernelCase kernel(line, backend);
  const double seconds = best_seconds([&] { kernel.run(); });
  const bool product = kernel.flops() > 0;
  const double rate = (product ? kernel.flops() : kernel.bytes()) / seconds;
  const double reachable = product                ? peaks.of(line.precision) * kernel.workers() / pool.size()
                           : kernel.workers() > 1 ? peaks.bandwidth
                                                  : peaks.bandwidth_of_one_thread;
  const char* unit = product ? "GFLOP/s" : "GB/s";
  if (json)
    fmt::print(
        "{{\"row\": \"kernel\", \"case\": \"{}\", \"ms\": {:.4f}, \"rate\": {:.2f}, \"unit\": \"{}\", \"percent\": {:.1f}, \"workers\": "
        "{}}}\n",
        line.text(), 1e3 * seconds, rate * 1e-9, unit, 100 * rate / reachable, kernel.workers());
  else
    fmt::print("{:>9.3f} ms {:>8.2f} {:<7} {:>4.0f} % of {}  {}\n", 1e3 * seconds, rate * 1e-9, unit, 100 * rate / reachable,
               product ? "peak  " : "memory", line.text());
  std::fflush(stdout);
}

void run(const Options& options) {
  const ThreadPool pool(options.threads);
  std::vector<CaseLine> cases;
  for (const std::string& line : options.lines) cases.push_back(CaseLine::parse(line));  // what is wrong shows before any waiting
  if (cases.empty())
    for (const Precision precision : {Precision::f32, Precision::bf16})
      for (const std::string& line : kernel_table()) {
        const CaseLine one = CaseLine::parse(line);
        if (precision == Precision::f32) cases.push_back(one);
        else if (cpu::has_bf16() && has_bf16_products(one.operation)) cases.push_back(in_bf16(one));
      }
  for (const CaseLine& line : cases) {
    if (options.lines.empty()) break;
    require_precision(line.precision, "case: precision=bf16");
    CpuBackend backend(pool, line.precision);
    KernelCase(line, backend);
  }
  const Peaks peaks = measure_peaks(options);
  for (const CaseLine& line : cases) bench(line, pool, peaks, options.json);
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
    if (option == "--case" && !value.empty()) options.lines.push_back(value);
    else if (option == "--threads" && std::from_chars(value.data(), end, options.threads).ptr == end && options.threads > 0) continue;
    else
      throw InputError({.where = "bench_kernels",
                        .expected = "--threads N, --json or --case LINE",
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
