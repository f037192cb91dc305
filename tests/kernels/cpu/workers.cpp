// Products of the CPU backend whose operands its workers share, packed; threads that serve operations.
#include <cmath>
#include <stdexcept>

#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"

namespace elastiform {

TEST_CASE("a gradient too wide for its operand to be packed for all workers has the bits of its halves", "[kernels][bf16]") {
  for_each_bf16_kernel([] {
    const std::int64_t N = 512, I = 3, O = 8320;
    const Memory memory{DType::float32, 0};
    const Matrix x = memory.input(N, I, 1), dy = memory.input(N, O, 2);
    Matrix whole = memory.in_out(I, O, 3), halves = whole;
    Cpu cpu(2, Precision::bf16);
    cpu.backend.matmul_dw({.dw = whole.view(), .dbias = {}, .x = x.view(), .dy = dy.view()});
    for (const std::int64_t first : {std::int64_t{0}, O / 2})
      cpu.backend.matmul_dw(
          {.dw = halves.view().column_range(first, O / 2), .dbias = {}, .x = x.view(), .dy = dy.view().column_range(first, O / 2)});
    CHECK(whole.same_bits(halves));
  });
}

TEST_CASE("two slices of one weight in one loop over panels are two matrices", "[kernels][conformance]") {
  // A teacher's head and a student's: the same memory and leading dimension, other widths, in K within one packed unit or beyond a block.
  const std::int64_t wide = GENERATE(24, 768), narrow = wide == 24 ? 8 : 640, N = 300, V = 70;
  const Precision precision = GENERATE(from_range(precisions_here()));
  CAPTURE(wide, name_of(precision));
  const Memory memory{DType::float32, 5};
  const Matrix table = memory.input(V, wide, 1), x = memory.input(N, wide, 2), h = memory.input(N, narrow, 3);
  const auto run = [&](int threads, bool student, bool teacher) {
    Cpu cpu(threads, precision);
    Matrix y = memory.output(N, V), z = memory.output(N, V);
    cpu.backend.panels(N, [&](Rows r) {
      if (student)
        cpu.backend.matmul(
            {.y = y.view()[r], .x = h.view()[r], .w = table.view().slice(V, narrow), .bias = {}, .add = {}, .transposed = true});
      if (teacher) cpu.backend.matmul({.y = z.view()[r], .x = x.view()[r], .w = table.view(), .bias = {}, .add = {}, .transposed = true});
    });
    return written(std::move(y), std::move(z));
  };
  const std::vector<Matrix> both = run(1, true, true), together = run(3, true, true);
  CHECK(both[0].same_bits(run(1, true, false)[0]));
  CHECK(both[1].same_bits(run(1, false, true)[1]));
  Cpu alone(1, precision);
  Matrix z = memory.output(N, V);  // outside a loop nothing is shared
  alone.backend.matmul({.y = z.view(), .x = x.view(), .w = table.view(), .bias = {}, .add = {}, .transposed = true});
  CHECK(both[1].same_bits(written(std::move(z))[0]));
  CHECK(together[0].same_bits(both[0]));
  CHECK(together[1].same_bits(both[1]));
}

TEST_CASE("a weight that changes between two loops over panels is packed again", "[kernels]") {
  const bool transposed = GENERATE(false, true);
  const auto check = [&](Precision precision) {
    const Memory memory{DType::float32, 5};
    const Matrix x = memory.input(600, 40, 1);
    Matrix w = transposed ? memory.input(50, 40, 2) : memory.input(40, 50, 2);
    Cpu cpu(2, precision);
    const auto run = [&](Backend& k) {
      Matrix y = memory.output(600, 50);
      k.panels(600, [&](Rows r) {
        k.matmul({.y = y.view()[r], .x = x.view()[r], .w = w.view(), .bias = {}, .add = {}, .transposed = transposed});
      });
      return y;
    };
    run(cpu.backend);
    w.map([](double e) { return 2 * e + 1; });
    Cpu fresh(1, precision);
    CHECK(run(cpu.backend).same_bits(run(fresh.backend)));
    CHECK_THROWS_AS(cpu.backend.panels(600, [&](Rows) { throw std::runtime_error("body"); }), std::runtime_error);
    CHECK(run(cpu.backend).same_bits(run(fresh.backend)));  // the loop that failed is over
  };
  check(Precision::f32);
  for_each_bf16_kernel([&] { check(Precision::bf16); });
}

TEST_CASE("matmul_dw and panels of matmul run on every thread", "[kernels][threads]") {
  const int threads = GENERATE(2, 4);
  const Memory memory{DType::float32, 0};
  const Matrix x = memory.input(2048, 512, 1), w = memory.input(512, 768, 2);
  Matrix dw = memory.in_out(512, 768, 3), y = memory.in_out(2048, 768, 4);
  CHECK(threads_that_serve(threads, [&](Backend& k) { k.matmul_dw({.dw = dw.view(), .dbias = {}, .x = x.view(), .dy = y.view()}); }) ==
        threads);
  CHECK(threads_that_serve(threads, [&](Backend& k) {
          k.panels(2048, [&](Rows r) { k.matmul({.y = y.view()[r], .x = x.view()[r], .w = w.view(), .bias = {}, .add = {}}); });
        }) == threads);
}

TEST_CASE("attention runs on every thread", "[kernels][threads]") {
  const int threads = GENERATE(2, 4);
  const AttentionShape s{.batch = 4, .query_tokens = 256, .key_tokens = 256, .heads = 8, .groups = 4, .head_dim = 32, .scale = 0.2};
  const std::int64_t rows = s.batch * s.query_tokens, queries = s.heads * s.head_dim, keys = s.groups * s.head_dim;
  const Memory memory{DType::float32, 0};
  const Matrix q = memory.input(rows, queries, 1), k = memory.input(rows, keys, 2), v = memory.input(rows, keys, 3),
               dout = memory.input(rows, queries, 4);
  Matrix out = memory.output(rows, queries), lse = memory.output(s.heads, rows);
  Matrix dq = memory.output(rows, queries), dk = memory.output(rows, keys), dv = memory.output(rows, keys);
  CHECK(threads_that_serve(threads, [&](Backend& cpu) {
          cpu.attention_forward({.out = out.view(), .lse = lse.view(), .q = q.view(), .k = k.view(), .v = v.view(), .shape = s});
        }) == threads);
  CHECK(threads_that_serve(threads, [&](Backend& cpu) {
          cpu.attention_backward({.dq = dq.view(),
                                  .dk = dk.view(),
                                  .dv = dv.view(),
                                  .dout = dout.view(),
                                  .out = out.view(),
                                  .lse = lse.view(),
                                  .q = q.view(),
                                  .k = k.view(),
                                  .v = v.view(),
                                  .shape = s});
        }) == threads);
}

TEST_CASE("embedding runs on every thread", "[kernels][threads]") {
  const int threads = GENERATE(2, 4);
  constexpr std::int64_t N = 8192, C = 512;
  std::vector<std::int32_t> tokens;
  for (std::int64_t n = 0; n < N; ++n) tokens.push_back(static_cast<std::int32_t>(n * n % 512));
  Matrix y(N, C, C, DType::float32, 1, kOutputMark), table(512, C, C, DType::float32, 0, kOutputMark);
  CHECK(threads_that_serve(threads, [&](Backend& k) {
          k.embedding_backward({.dtable = table.view(), .dpositions = {}, .dy = y.view(), .tokens = tokens});
        }) == threads);
  CHECK(threads_that_serve(threads, [&](Backend& k) {
          k.embedding_forward({.y = y.view(), .table = table.view(), .positions = {}, .tokens = tokens});
        }) == threads);
}

}  // namespace elastiform
