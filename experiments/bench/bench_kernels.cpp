// Speed of every CPU kernel at the shapes of a training step, beside the machine's measured peak; products in bf16 too where the CPU has it.
// bench_kernels [--threads N] [--case WORD]: best of repeats, as other programs may share the machine.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/arena.hpp"
#include "kernels/cpu/bf16.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/cpu/peak.hpp"
#include "kernels/random.hpp"

namespace elastiform {
namespace {

struct Bench {
  const ThreadPool& pool;
  Precision precision;
  std::string only;
  CpuBackend cpu{pool, precision};
  double peak = measured_peak();  // GFLOP/s of all threads
  Arena arena{std::int64_t{1} << 30};

  double measured_peak() const {
    std::vector<double> peaks(static_cast<std::size_t>(pool.size()));
    const auto measure = precision == Precision::bf16 ? cpu::measure_bf16_peak : cpu::measure_fma_peak;
    pool.for_each(pool.size(), [&](std::int64_t i) { peaks[static_cast<std::size_t>(i)] = measure(); });
    return std::accumulate(peaks.begin(), peaks.end(), 0.0) / 1e9;
  }

  View matrix(std::int64_t rows, std::int64_t columns) {
    const View view = arena.matrix(rows, columns, DType::float32);
    RandomStream random(1, Purpose::test);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j) view.row<float>(i)[j] = static_cast<float>(random.uniform() - 0.5);
    return view;
  }

  double best_seconds(const std::function<void()>& body) const {
    double best = 1e9, total = 0;
    for (int i = 0; i < 200 && (i < 5 || total < 0.3); ++i) {
      const auto start = std::chrono::steady_clock::now();
      body();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      best = i == 0 ? best : std::min(best, seconds);  // the first touches memory
      total += seconds;
    }
    return best;
  }

  /// One line: `work` is in the unit that `unit` counts 1e9 of a second.
  void line(std::string name, double work, const char* unit, const std::function<void()>& body) const {
    if (precision == Precision::bf16) name += " bf16";
    if (name.find(only) == std::string::npos) return;
    const double seconds = best_seconds(body), rate = work / seconds / 1e9;
    fmt::print("{:<58}{:>9.3f} ms {:>8.2f} {}", name, seconds * 1e3, rate, unit);
    if (std::string(unit) == "GFLOP/s") fmt::print(" {:>4.0f} % of peak", 100 * rate / peak);
    fmt::print("\n");
  }
};

constexpr std::int64_t kTokens = 2048;

void bench_matmul(Bench& b, std::int64_t I, std::int64_t O) {
  const ArenaScope scope(b.arena);
  const View x = b.matrix(kTokens, I), y = b.matrix(kTokens, O), w = b.matrix(I, O), dw = b.matrix(I, O), bias = b.matrix(1, O);
  const double flops = 2.0 * kTokens * static_cast<double>(I * O);
  const auto name = [&](const char* op) { return fmt::format("{} N={} I={} O={}", op, kTokens, I, O); };
  b.line(name("matmul"), flops, "GFLOP/s",
         [&] { b.cpu.panels(kTokens, [&](Rows r) { b.cpu.matmul({.y = y[r], .x = x[r], .w = w, .bias = {}, .add = {}}); }); });
  b.line(name("matmul bias"), flops, "GFLOP/s",
         [&] { b.cpu.panels(kTokens, [&](Rows r) { b.cpu.matmul({.y = y[r], .x = x[r], .w = w, .bias = bias, .add = {}}); }); });
  b.line(name("matmul_dx"), flops, "GFLOP/s",
         [&] { b.cpu.panels(kTokens, [&](Rows r) { b.cpu.matmul_dx({.dx = x[r], .dy = y[r], .w = w, .add = {}}); }); });
  b.line(name("matmul_dw"), flops, "GFLOP/s", [&] { b.cpu.matmul_dw({.dw = dw, .dbias = {}, .x = x, .dy = y}); });
}

void bench_attention(Bench& b, std::int64_t B, std::int64_t T, std::int64_t H, std::int64_t G, std::int64_t D) {
  const ArenaScope scope(b.arena);
  const AttentionShape shape{.batch = B, .query_tokens = T, .key_tokens = T, .heads = H, .groups = G, .head_dim = D, .scale = 0.125};
  const View q = b.matrix(B * T, H * D), k = b.matrix(B * T, G * D), v = b.matrix(B * T, G * D), out = b.matrix(B * T, H * D);
  const View dq = b.matrix(B * T, H * D), dk = b.matrix(B * T, G * D), dv = b.matrix(B * T, G * D), lse = b.matrix(H, B * T);
  const auto seen = static_cast<double>(B * H * T) * static_cast<double>(T + 1) / 2;  // pairs that causality leaves
  const auto flops = 4 * seen * static_cast<double>(D);
  const std::string name = fmt::format(" B={} T={} H={} G={} D={}", B, T, H, G, D);
  b.line("attention_forward" + name, flops, "GFLOP/s",
         [&] { b.cpu.attention_forward({.out = out, .lse = lse, .q = q, .k = k, .v = v, .shape = shape}); });
  b.line("attention_backward" + name, 2.5 * flops, "GFLOP/s", [&] {
    b.cpu.attention_backward({.dq = dq, .dk = dk, .dv = dv, .dout = out, .out = out, .lse = lse, .q = q, .k = k, .v = v, .shape = shape});
  });
}

void bench_rows(Bench& b, std::int64_t C) {
  const ArenaScope scope(b.arena);
  const View x = b.matrix(kTokens, C), y = b.matrix(kTokens, C), z = b.matrix(kTokens, C), gain = b.matrix(1, C),
             rstd = b.matrix(1, kTokens);
  const View dgain = b.matrix(Backend::panel_count(kTokens), C), cosine = b.matrix(256, 32), sine = b.matrix(256, 32);
  const double elements = static_cast<double>(kTokens * C);
  const auto panels = [&](const char* op, const std::function<void(Rows)>& body) {
    b.line(fmt::format("{} N={} C={}", op, kTokens, C), elements, "Gelem/s", [&] { b.cpu.panels(kTokens, body); });
  };
  const auto columns = [](View vector, Rows r) { return vector.column_range(r.first, r.count); };
  panels("norm_forward rms", [&](Rows r) {
    b.cpu.norm_forward({.y = y[r], .rstd = columns(rstd, r), .mean = {}, .x = x[r], .gain = gain, .bias = {}, .kind = Norm::rms});
  });
  panels("norm_backward rms", [&](Rows r) {
    b.cpu.norm_backward({.dx = z[r],
                         .dgain = dgain.row_range(r.panel, 1),
                         .dbias = {},
                         .dy = y[r],
                         .residual = z[r],
                         .x = x[r],
                         .rstd = columns(rstd, r),
                         .mean = {},
                         .gain = gain,
                         .kind = Norm::rms});
  });
  panels("gelu_forward tanh", [&](Rows r) { b.cpu.gelu_forward({.y = y[r], .x = x[r], .kind = Gelu::tanh}); });
  panels("gelu_backward tanh", [&](Rows r) { b.cpu.gelu_backward({.dx = z[r], .dy = y[r], .x = x[r], .kind = Gelu::tanh}); });
  panels("gelu_forward erf", [&](Rows r) { b.cpu.gelu_forward({.y = y[r], .x = x[r], .kind = Gelu::erf}); });
  panels("swiglu_forward", [&](Rows r) { b.cpu.swiglu_forward({.y = z[r], .gate = x[r], .up = y[r]}); });
  panels("swiglu_backward", [&](Rows r) { b.cpu.swiglu_backward({.dgate = y[r], .dup = z[r], .dy = z[r], .gate = x[r], .up = y[r]}); });
  panels("rope D=64", [&](Rows r) { b.cpu.rope({.x = z[r], .cosine = cosine, .sine = sine, .first_row = r.first, .period = 256}); });
}

void bench_rest(Bench& b) {
  const ArenaScope scope(b.arena);
  const std::int64_t V = 256, C = 384;
  const View logits = b.matrix(kTokens, V), losses = b.matrix(1, kTokens), table = b.matrix(V, C), y = b.matrix(kTokens, C);
  std::vector<std::int32_t> tokens(kTokens);
  for (std::int64_t t = 0; t < kTokens; ++t) tokens[static_cast<std::size_t>(t)] = static_cast<std::int32_t>(t * 7 % V);
  const View dlogits = b.matrix(kTokens, V), columns = losses;
  b.line(fmt::format("softmax_loss N={} V={}", kTokens, V), static_cast<double>(kTokens * V), "Gelem/s", [&] {
    b.cpu.panels(kTokens, [&](Rows r) {
      b.cpu.softmax_loss({.losses = columns.column_range(r.first, r.count),
                          .teacher_losses = {},
                          .correct = {},
                          .dlogits = dlogits[r],
                          .logits = logits[r],
                          .teacher = {},
                          .targets = std::span(tokens).subspan(static_cast<std::size_t>(r.first), static_cast<std::size_t>(r.count))});
    });
  });
  b.line(fmt::format("embedding_forward N={} C={}", kTokens, C), static_cast<double>(kTokens * C), "Gelem/s",
         [&] { b.cpu.embedding_forward({.y = y, .table = table, .positions = {}, .tokens = tokens}); });
  b.line(fmt::format("embedding_backward N={} C={}", kTokens, C), static_cast<double>(kTokens * C), "Gelem/s",
         [&] { b.cpu.embedding_backward({.dtable = table, .dpositions = {}, .dy = y, .tokens = tokens}); });
  const std::int64_t rows = 4096, width = 1024;
  const View weight = b.matrix(rows, width), m = b.matrix(rows, width), v = b.matrix(rows, width), gradient = b.matrix(rows, width);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < width; ++j) v.row<float>(i)[j] = 1;
  const auto strips = [&](const std::function<void(Rows)>& body) { b.cpu.panels(rows, body); };
  b.line(fmt::format("adamw {} parameters", rows * width), static_cast<double>(rows * width), "Gelem/s",
         [&] { strips([&](Rows r) { b.cpu.adamw({.weight = weight[r], .m = m[r], .v = v[r], .gradient = gradient[r], .rate = 1e-6}); }); });
  b.line(fmt::format("sum_squares {} parameters", rows * width), static_cast<double>(rows * width), "Gelem/s",
         [&] { strips([&](Rows r) { b.cpu.sum_squares(gradient[r]); }); });
}

void bench_products(Bench& b) {
  for (const auto& shape :
       std::vector<std::pair<int, int>>{{384, 384}, {384, 1152}, {384, 1536}, {1536, 384}, {256, 256}, {256, 688}, {192, 192}})
    bench_matmul(b, shape.first, shape.second);
  bench_attention(b, 8, 256, 6, 6, 64);
  bench_attention(b, 8, 256, 8, 4, 32);
  bench_attention(b, 1, 2048, 6, 2, 64);
}

int run(int argc, char** argv) {
  int threads = default_threads();
  std::string only;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string option = argv[i];
    if (option == "--threads") threads = std::atoi(argv[i + 1]);
    if (option == "--case") only = argv[i + 1];
  }
  const ThreadPool pool(threads);
  for (const Precision precision : {Precision::f32, Precision::bf16}) {
    if (precision == Precision::bf16 && !cpu::has_bf16()) break;
    Bench b{.pool = pool, .precision = precision, .only = only};
    fmt::print("{} threads, {} peak {:.0f} GFLOP/s\n", threads,
               precision == Precision::bf16 ? "bf16 dot product" : "float32 fused multiply-add", b.peak);
    bench_products(b);
    if (precision == Precision::bf16) break;  // all else is float32
    bench_rows(b, 384);
    bench_rows(b, 1536);
    bench_rest(b);
  }
  return 0;
}

}  // namespace
}  // namespace elastiform

int main(int argc, char** argv) {
  try {
    return elastiform::run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "bench_kernels: {}\n", error.what());
    return 2;
  }
}
