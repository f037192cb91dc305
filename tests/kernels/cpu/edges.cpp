// Slices that end where memory ends: one byte read or written behind them is a crash.
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cstdint>
#include <list>
#include <vector>

#include "kernels/cpu/cpu_backend.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"

using namespace elastiform;

namespace {

/// Matrices whose last element is the last one of a mapped page; the page behind cannot be touched.
class EdgeMemory {
 public:
  ~EdgeMemory() {
    for (const Block& block : blocks_) munmap(block.data, block.bytes);
  }
  View matrix(std::int64_t rows, std::int64_t columns, std::int64_t ld) {
    return filled<float>(rows, columns, ld, [](float x) { return x; });
  }
  /// In bfloat16.
  View narrow(std::int64_t rows, std::int64_t columns, std::int64_t ld) {
    return filled<BFloat16>(rows, columns, ld,
                            [](float x) { return BFloat16{static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16)}; });
  }

 private:
  struct Block {
    void* data;
    std::size_t bytes;
  };

  template <class T, class Convert>
  View filled(std::int64_t rows, std::int64_t columns, std::int64_t ld, const Convert& convert) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t wanted = static_cast<std::size_t>((rows - 1) * ld + columns) * sizeof(T);
    const std::size_t bytes = (wanted + page - 1) / page * page;
    void* data = mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(data != MAP_FAILED);
    REQUIRE(mprotect(static_cast<char*>(data) + bytes, page, PROT_NONE) == 0);
    blocks_.push_back({data, bytes + page});
    auto* first = reinterpret_cast<T*>(static_cast<char*>(data) + bytes - wanted);
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j) first[i * ld + j] = convert(0.25f + 0.001f * static_cast<float>(i + j));
    return view_of(first, rows, columns, ld);
  }

  std::list<Block> blocks_;
};

}  // namespace

TEST_CASE("no kernel touches memory behind its slices", "[kernels]") {
  const ThreadPool pool(1);
  CpuBackend cpu(pool, GENERATE(from_range(precisions_here())));
  EdgeMemory memory;
  const std::int64_t N = GENERATE(1, 9, 70), C = GENERATE(1, 15, 33, 50), O = 37, pad = 5;
  CAPTURE(N, C);
  const View x = memory.matrix(N, C, C + pad), y = memory.matrix(N, O, O + pad), w = memory.matrix(C, O, O + pad),
             wt = memory.matrix(O, C, C + pad);
  const View vector = memory.matrix(1, C, C), bias = memory.matrix(1, O, O), per_row = memory.matrix(1, N, N),
             z = memory.matrix(N, C, C + pad);
  cpu.matmul({.y = y, .x = x, .w = w, .bias = bias, .add = y});
  cpu.matmul({.y = y, .x = x, .w = wt, .bias = bias, .add = y, .transposed = true});
  cpu.matmul_dx({.dx = x, .dy = y, .w = w, .add = x});
  cpu.matmul_dw({.dw = w, .dbias = bias, .x = x, .dy = y});
  cpu.matmul_dw({.dw = wt, .dbias = bias, .x = x, .dy = y, .transposed = true});
  cpu.norm_forward({.y = z, .rstd = per_row, .mean = per_row, .x = x, .gain = vector, .bias = vector, .kind = Norm::layer});
  cpu.norm_backward({.dx = z,
                     .dgain = memory.matrix(1, C, C),
                     .dbias = memory.matrix(1, C, C),
                     .dy = x,
                     .residual = z,
                     .x = x,
                     .rstd = per_row,
                     .mean = per_row,
                     .gain = vector,
                     .kind = Norm::layer});
  cpu.sum_panels({.sum = vector, .partials = x});
  cpu.swiglu_backward({.dgate = z, .dup = memory.matrix(N, C, C + pad), .dy = z, .gate = x, .up = x});
  cpu.gelu_backward({.dx = z, .dy = z, .x = x, .kind = Gelu::erf});
  cpu.adamw({.weight = z, .m = memory.matrix(N, C, C + pad), .v = memory.matrix(N, C, C + pad), .gradient = x, .rate = 1e-3});
  CHECK(cpu.sum_squares(x) > 0);
  const std::vector<std::int32_t> tokens(static_cast<std::size_t>(N), 0);
  cpu.softmax_loss({.losses = per_row,
                    .teacher_losses = per_row,
                    .correct = per_row,
                    .dlogits = z,
                    .logits = x,
                    .teacher = x,
                    .targets = tokens,
                    .temperature = 2});
  cpu.embedding_forward({.y = z, .table = x, .positions = vector, .tokens = tokens});
  cpu.embedding_backward({.dtable = x, .dpositions = vector, .dy = z, .tokens = tokens});
  CHECK(cpu.sum_squares(y) > 0);
}

TEST_CASE("no kernel touches memory behind slices that are stored in bfloat16", "[kernels][bf16]") {
  const std::int64_t N = GENERATE(1, 9, 70), C = GENERATE(2, 16, 34, 50), O = 37, pad = 5;
  CAPTURE(N, C);
  for_each_bf16_kernel([&] {
    const ThreadPool pool(1);
    CpuBackend cpu(pool, Precision::bf16);
    EdgeMemory memory;
    const View x = memory.narrow(N, C, C + pad), y = memory.narrow(N, O, O + pad), z = memory.narrow(N, C, C + pad);
    const View w = memory.matrix(C, O, O + pad), wt = memory.matrix(O, C, C + pad), stream = memory.matrix(N, C, C + pad);
    const View bias = memory.matrix(1, O, O), gain = memory.matrix(1, C, C), angles = memory.matrix(N, C / 2, C / 2 + pad);
    cpu.matmul({.y = y, .x = x, .w = w, .bias = bias, .add = {}});
    cpu.matmul({.y = y, .x = x, .w = wt, .bias = bias, .add = {}, .transposed = true});
    cpu.matmul_dx({.dx = z, .dy = y, .w = w, .add = {}});
    cpu.matmul_dw({.dw = w, .dbias = bias, .x = x, .dy = y});
    cpu.matmul_dw({.dw = wt, .dbias = bias, .x = x, .dy = y, .transposed = true});
    cpu.norm_forward({.y = z, .rstd = {}, .mean = {}, .x = stream, .gain = gain, .bias = {}});
    cpu.swiglu_backward({.dgate = z, .dup = memory.narrow(N, C, C + pad), .dy = z, .gate = x, .up = x});
    cpu.gelu_backward({.dx = z, .dy = z, .x = x, .kind = Gelu::erf});
    cpu.rope({.x = z, .cosine = angles, .sine = angles, .period = N});
    const AttentionShape shape{.batch = 1, .query_tokens = N, .key_tokens = N, .heads = 2, .groups = 1, .head_dim = C / 2, .scale = 0.3};
    const View k = memory.narrow(N, C / 2, C / 2 + pad), lse = memory.matrix(2, N, N + 1);
    cpu.attention_forward({.out = z, .lse = lse, .q = x, .k = k, .v = k, .shape = shape});
    const View dk = memory.matrix(N, C / 2, C / 2 + pad), dv = memory.matrix(N, C / 2, C / 2 + pad);
    cpu.attention_backward({.dq = stream, .dk = dk, .dv = dv, .dout = x, .out = z, .lse = lse, .q = x, .k = k, .v = k, .shape = shape});
    CHECK(cpu.sum_squares(dv) > 0);
  });
}

TEST_CASE("attention touches no memory behind its slices", "[kernels]") {
  const ThreadPool pool(1);
  CpuBackend cpu(pool, GENERATE(from_range(precisions_here())));
  EdgeMemory memory;
  const std::int64_t T = GENERATE(1, 5, 64, 131), D = GENERATE(4, 10, 32);
  CAPTURE(T, D);
  const AttentionShape shape{.batch = 1, .query_tokens = T, .key_tokens = T, .heads = 2, .groups = 1, .head_dim = D, .scale = 0.3};
  const auto queries = [&] { return memory.matrix(T, 2 * D, 2 * D + 3); };
  const auto keys = [&] { return memory.matrix(T, D, D + 3); };
  const View q = queries(), out = queries(), k = keys(), v = keys(), lse = memory.matrix(2, T, T + 1);
  cpu.attention_forward({.out = out, .lse = lse, .q = q, .k = k, .v = v, .shape = shape});
  cpu.attention_backward(
      {.dq = queries(), .dk = keys(), .dv = keys(), .dout = q, .out = out, .lse = lse, .q = q, .k = k, .v = v, .shape = shape});
  CHECK(cpu.sum_squares(out) > 0);
}
