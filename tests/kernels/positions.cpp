#include <algorithm>
#include <cmath>

#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/finite_difference.hpp"
#include "tests/support/near.hpp"

namespace elastiform {
namespace {

/// cosine or sine of position · 10000^(-2i/D), [positions, D/2].
Matrix angles(const Memory& memory, std::int64_t positions, std::int64_t half, double (*f)(double)) {
  Matrix result = memory.input(positions, half, 1);
  for (std::int64_t p = 0; p < positions; ++p)
    for (std::int64_t i = 0; i < half; ++i)
      result.set(p, i,
                 static_cast<float>(f(static_cast<double>(p) * std::pow(10000.0, -static_cast<double>(i) / static_cast<double>(half)))));
  return result;
}
double cosine_of(double angle) { return std::cos(angle); }
double sine_of(double angle) { return std::sin(angle); }

struct RopeShape {
  std::int64_t N, heads, head_dim, period, offset;
};

std::vector<std::int32_t> tokens_of(std::int64_t N, std::int64_t vocabulary) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t n = 0; n < N; ++n) tokens.push_back(static_cast<std::int32_t>(n * n % vocabulary));  // squares repeat
  return tokens;
}

struct EmbeddingShape {
  std::int64_t N, vocabulary, C, period;
};
const std::vector<EmbeddingShape> kEmbeddings = {{1, 1, 1, 1}, {3, 7, 33, 3}, {17, 256, 7, 5}, {300, 10, 96, 100}, {300, 33, 160, 300}};

}  // namespace

TEST_CASE("rope agrees with float64, turns back, and a slice agrees with its dense copy", "[kernels][conformance]") {
  const auto s = GENERATE(RopeShape{1, 1, 2, 1, 0}, RopeShape{3, 3, 14, 2, 5}, RopeShape{17, 2, 32, 17, 0}, RopeShape{300, 3, 32, 128, 0},
                          RopeShape{300, 1, 66, 300, 9});
  const bool inverse = GENERATE(false, true);
  CAPTURE(s.N, s.heads, s.head_dim, s.period, s.offset, inverse);
  check_conformance("rope", [&](Backend& k, const Memory& memory) {
    const std::int64_t positions = s.period + s.offset;
    const Matrix cosine = angles(memory, positions, s.head_dim / 2, cosine_of), sine = angles(memory, positions, s.head_dim / 2, sine_of);
    Matrix x = memory.in_out(s.N, s.heads * s.head_dim, 2);
    k.panels(s.N, [&](Rows r) {
      k.rope({.x = x.view()[r],
              .cosine = cosine.view(),
              .sine = sine.view(),
              .first_row = r.first,
              .period = s.period,
              .offset = s.offset,
              .inverse = inverse});
    });
    return written(std::move(x));
  });
}

TEST_CASE("inverse rope undoes rope and is its derivative", "[kernels][gradient]") {
  const Memory memory;
  ReferenceBackend k;
  const Matrix cosine = angles(memory, 3, 2, cosine_of), sine = angles(memory, 3, 2, sine_of);
  const auto rope = [&](Matrix& x, bool inverse) {
    k.rope({.x = x.view(), .cosine = cosine.view(), .sine = sine.view(), .first_row = 1, .period = 3, .offset = 0, .inverse = inverse});
  };
  Matrix x = memory.input(4, 8, 1), there_and_back = x;
  rope(there_and_back, false);
  rope(there_and_back, true);
  CHECK_THAT(there_and_back, near(x, {1e-6, 1e-6, "cosine and sine are rounded to float32, so a turn is not quite a rotation"}));
  const Matrix dy = memory.input(4, 8, 2);
  Matrix dx = dy;
  rope(dx, true);
  const auto loss = [&] {
    Matrix y = x;
    rope(y, false);
    return dot(y, dy);
  };
  CHECK_THAT(dx, near(finite_difference(x, loss), tolerance("finite_difference", DType::float64)));
}

TEST_CASE("embedding agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const EmbeddingShape s = GENERATE(from_range(kEmbeddings));
  const bool positioned = GENERATE(false, true);
  const std::int64_t offset = GENERATE(0, 2);
  CAPTURE(s.N, s.vocabulary, s.C, s.period, positioned, offset);
  const std::vector<std::int32_t> tokens = tokens_of(s.N, s.vocabulary);
  check_conformance("embedding", [&](Backend& k, const Memory& memory) {
    const Matrix table = memory.input(s.vocabulary, s.C, 1), positions = memory.input(s.period + offset, s.C, 2),
                 dy = memory.input(s.N, s.C, 3);
    Matrix y = memory.output(s.N, s.C), dtable = memory.in_out(s.vocabulary, s.C, 4), dpositions = memory.in_out(s.period, s.C, 5);
    k.embedding_forward({.y = y.view(),
                         .table = table.view(),
                         .positions = positioned ? positions.view() : ConstView{},
                         .tokens = tokens,
                         .period = s.period,
                         .offset = offset});
    k.embedding_backward({.dtable = dtable.view(),
                          .dpositions = positioned ? dpositions.view() : View{},
                          .dy = dy.view(),
                          .tokens = tokens,
                          .period = s.period});
    return written(std::move(y), std::move(dtable), std::move(dpositions));
  });
}

TEST_CASE("scatter_rows puts rows back where a lookup took them, and leaves the others", "[kernels][conformance]") {
  const std::int64_t N = GENERATE(1, 17, 300), C = GENERATE(1, 33, 96);
  CAPTURE(N, C);
  std::vector<std::int32_t> rows;
  for (std::int64_t n = 0; n < N; n += 1 + n % 3) rows.push_back(static_cast<std::int32_t>(N - 1 - n));
  const auto count = static_cast<std::int64_t>(rows.size());
  check_conformance("exact copy", [&](Backend& k, const Memory& memory) {
    const Matrix table = memory.input(N, C, 1);
    Matrix taken = memory.output(count, C), same = memory.in_out(N, C, 2);
    k.embedding_forward({.y = taken.view(), .table = table.view(), .positions = {}, .tokens = rows});
    k.scatter_rows({.y = same.view(), .x = taken.view(), .rows = rows});
    for (std::int64_t n = 0; n < N; ++n) {
      const bool moved = std::find(rows.begin(), rows.end(), n) != rows.end();
      const Matrix& source = moved ? table : memory.in_out(N, C, 2);
      for (std::int64_t c = 0; c < C; ++c) REQUIRE(same.at(n, c) == source.at(n, c));
    }
    return written(std::move(taken), std::move(same));
  });
}

TEST_CASE("embedding_backward is the derivative of embedding_forward", "[kernels][gradient]") {
  const Memory memory;
  ReferenceBackend k;
  const std::vector<std::int32_t> tokens = {2, 0, 2, 1, 2};
  Matrix table = memory.input(4, 3, 1), positions = memory.input(2, 3, 2);
  const Matrix dy = memory.input(5, 3, 3);
  const auto loss = [&] {
    Matrix y = memory.output(5, 3);
    k.embedding_forward({.y = y.view(), .table = table.view(), .positions = positions.view(), .tokens = tokens, .period = 2});
    return dot(y, dy);
  };
  Matrix dtable(4, 3, 3, DType::float64, 0, kOutputMark), dpositions(2, 3, 3, DType::float64, 0, kOutputMark);
  k.embedding_backward({.dtable = dtable.view(), .dpositions = dpositions.view(), .dy = dy.view(), .tokens = tokens, .period = 2});
  const Tolerance allowed = tolerance("finite_difference", DType::float64);
  CHECK_THAT(dtable, near(finite_difference(table, loss), allowed));
  CHECK_THAT(dpositions, near(finite_difference(positions, loss), allowed));
}

}  // namespace elastiform
