#include <cmath>

#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/finite_difference.hpp"
#include "tests/support/near.hpp"

namespace elastiform {
namespace {

AttentionShape shape(std::int64_t batch, std::int64_t queries, std::int64_t keys, std::int64_t heads, std::int64_t groups,
                     std::int64_t head_dim) {
  return {batch, queries, keys, heads, groups, head_dim, 1 / std::sqrt(static_cast<double>(head_dim))};
}

/// Without causality.
AttentionShape all(AttentionShape s) {
  s.causal = false;
  return s;
}

struct Inputs {
  Matrix q, k, v;
};

Inputs inputs(const Memory& memory, const AttentionShape& s) {
  return {memory.operand(s.batch * s.query_tokens, s.heads * s.head_dim, 1),
          memory.operand(s.batch * s.key_tokens, s.groups * s.head_dim, 2),
          memory.operand(s.batch * s.key_tokens, s.groups * s.head_dim, 3)};
}

/// out and lse.
std::vector<Matrix> forward(Backend& k, const Memory& memory, const AttentionShape& s, const Inputs& in) {
  Matrix out = memory.output(s.batch * s.query_tokens, s.heads * s.head_dim), lse = memory.output(s.heads, s.batch * s.query_tokens);
  k.attention_forward({.out = out.view(), .lse = lse.view(), .q = in.q.view(), .k = in.k.view(), .v = in.v.view(), .shape = s});
  return written(std::move(out), std::move(lse));
}

/// dq, dk and dv for the upstream `dout`.
std::vector<Matrix> backward_of(Backend& k, const Memory& memory, const AttentionShape& s, const Inputs& in, const Matrix& out,
                                const Matrix& lse, const Matrix& dout) {
  Matrix dq = memory.output(in.q.rows(), in.q.columns()), dk = memory.output(in.k.rows(), in.k.columns()),
         dv = memory.output(in.v.rows(), in.v.columns());
  k.attention_backward({.dq = dq.view(),
                        .dk = dk.view(),
                        .dv = dv.view(),
                        .dout = dout.view(),
                        .out = out.view(),
                        .lse = lse.view(),
                        .q = in.q.view(),
                        .k = in.k.view(),
                        .v = in.v.view(),
                        .shape = s});
  return written(std::move(dq), std::move(dk), std::move(dv));
}
std::vector<Matrix> backward(Backend& k, const Memory& memory, const AttentionShape& s, const Inputs& in, const Matrix& dout) {
  const std::vector<Matrix> saved = forward(k, memory, s, in);
  return backward_of(k, memory, s, in, saved[0], saved[1], dout);
}

// Minimal, odd head dimension, grouped heads, more tokens than one tile of keys and of queries, several sequences; the last has more of keys
// than a worker keeps packed.
const std::vector<AttentionShape> kSquare = {shape(1, 1, 1, 1, 1, 1),      shape(2, 7, 7, 4, 2, 7),      shape(1, 33, 33, 3, 1, 32),
                                             shape(2, 130, 130, 2, 2, 16), shape(1, 300, 300, 2, 1, 33), shape(3, 64, 64, 4, 4, 64),
                                             shape(1, 130, 130, 2, 1, 352)};
// Decoding: one new token, a few, and a continuation longer than a tile.
const std::vector<AttentionShape> kDecode = {shape(3, 1, 9, 4, 2, 8), shape(1, 5, 40, 2, 1, 64), shape(2, 1, 300, 3, 3, 32),
                                             shape(1, 100, 290, 2, 2, 16)};

// Every query sees all keys: less than a tile, tiles and a part, several sequences and groups, as many tokens as a ViT has.
const std::vector<AttentionShape> kUnmasked = {all(shape(2, 7, 7, 4, 2, 7)), all(shape(3, 65, 65, 3, 1, 32)),
                                               all(shape(1, 130, 130, 2, 2, 16)), all(shape(2, 197, 197, 2, 2, 64)),
                                               all(shape(1, 300, 300, 2, 1, 33))};
const std::vector<AttentionShape> kUnmaskedFewQueries = {all(shape(2, 5, 140, 2, 1, 32))};

std::vector<AttentionShape> tested_shapes(std::vector<AttentionShape> shapes) {
  std::erase_if(shapes, [](const AttentionShape& s) { return s.head_dim > TestedBackend::largest_head_dim(); });
  return shapes;
}

}  // namespace

TEST_CASE("attention_forward agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const AttentionShape s =
      GENERATE(from_range(tested_shapes(kSquare)), from_range(kDecode), from_range(kUnmasked), from_range(kUnmaskedFewQueries));
  CAPTURE(s.batch, s.query_tokens, s.key_tokens, s.heads, s.groups, s.head_dim, s.causal);
  const auto run = [&](Backend& k, const Memory& memory) { return forward(k, memory, s, inputs(memory, s)); };
  check_conformance("attention", run);
  check_bf16_conformance("attention bf16", run);
  // Scores are exact products of rounded operands, so lse is as close as in float32.
  check_bf16_conformance("attention", [&](Backend& k, const Memory& memory) { return written(std::move(run(k, memory)[1])); });
}

TEST_CASE("attention_backward agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const AttentionShape s = GENERATE(from_range(tested_shapes(kSquare)), from_range(kUnmasked));
  CAPTURE(s.batch, s.query_tokens, s.heads, s.groups, s.head_dim, s.causal);
  const auto run = [&](Backend& k, const Memory& memory) {
    return backward(k, memory, s, inputs(memory, s), memory.operand(s.batch * s.query_tokens, s.heads * s.head_dim, 4));
  };
  check_conformance("attention_backward", run);
  check_bf16_conformance("attention_backward bf16", run);
}

TEST_CASE("attention over operands that are stored in bfloat16 has the bits of float32 ones", "[kernels][bf16]") {
  const AttentionShape s = GENERATE(from_range(tested_shapes(kSquare)), from_range(kUnmasked));
  CAPTURE(s.batch, s.query_tokens, s.heads, s.groups, s.head_dim, s.causal);
  check_stored_operands([&](Backend& k, const Memory& memory) {
    const Inputs in = inputs(memory, s);
    Matrix out = memory.operand_output(in.q.rows(), in.q.columns()), lse = memory.output(s.heads, in.q.rows());
    CHECK(out.dtype() == (memory.stores_operands ? DType::bfloat16 : DType::float32));
    k.attention_forward({.out = out.view(), .lse = lse.view(), .q = in.q.view(), .k = in.k.view(), .v = in.v.view(), .shape = s});
    CHECK(out.largest_magnitude() > 0);
    out.map([](double e) { return to_bf16(static_cast<float>(e)); });
    const Matrix dout = memory.input(in.q.rows(), in.q.columns(), 4), narrow_dout = memory.operand(in.q.rows(), in.q.columns(), 4);
    std::vector<Matrix> results = written(std::move(out), std::move(lse));
    for (const Matrix* upstream : {&dout, &narrow_dout})
      for (Matrix& gradient : backward_of(k, memory, s, in, results[0], results[1], *upstream)) results.push_back(std::move(gradient));
    return results;
  });
}

TEST_CASE("attention_backward is the derivative of attention_forward", "[kernels][gradient]") {
  const AttentionShape s = GENERATE(shape(2, 4, 4, 4, 2, 3), shape(1, 5, 5, 2, 1, 2), all(shape(2, 4, 4, 4, 2, 3)));
  CAPTURE(s.batch, s.heads, s.groups, s.causal);
  const Memory memory;
  ReferenceBackend k;
  Inputs in = inputs(memory, s);
  const Matrix dout = memory.input(s.batch * s.query_tokens, s.heads * s.head_dim, 4);
  const std::vector<Matrix> gradient = backward(k, memory, s, in, dout);
  const auto loss = [&] { return dot(forward(k, memory, s, in)[0], dout); };
  const Tolerance allowed = tolerance("finite_difference", DType::float64);
  CHECK_THAT(gradient[0], near(finite_difference(in.q, loss), allowed));
  CHECK_THAT(gradient[1], near(finite_difference(in.k, loss), allowed));
  CHECK_THAT(gradient[2], near(finite_difference(in.v, loss), allowed));
}

TEST_CASE("a decoded token sees what it saw in the full context, and lse may be absent", "[kernels]") {
  const Memory memory;
  ReferenceBackend k;
  const AttentionShape full = shape(2, 9, 9, 4, 2, 8), last = shape(2, 2, 9, 4, 2, 8);
  const Inputs in = inputs(memory, full);
  const Matrix expected = forward(k, memory, full, in)[0];
  Matrix q = memory.input(4, 32, 1), out = memory.output(4, 32);
  for (std::int64_t b = 0; b < 2; ++b)
    for (std::int64_t t = 0; t < 2; ++t)
      for (std::int64_t c = 0; c < 32; ++c) q.set(b * 2 + t, c, in.q.at(b * 9 + 7 + t, c));
  k.attention_forward({.out = out.view(), .lse = {}, .q = q.view(), .k = in.k.view(), .v = in.v.view(), .shape = last});
  for (std::int64_t b = 0; b < 2; ++b)
    for (std::int64_t t = 0; t < 2; ++t)
      for (std::int64_t c = 0; c < 32; ++c) CHECK(out.at(b * 2 + t, c) == expected.at(b * 9 + 7 + t, c));
}

TEST_CASE("without causality a query sees every key of its sequence and of no other", "[kernels]") {
  const TestedBackend tested(GENERATE(from_range(TestedBackend::precisions())));
  const Memory memory{DType::float32, 5};
  const AttentionShape s = all(shape(2, 70, 70, 2, 1, 32));
  Inputs in = inputs(memory, s);
  in.v.set(70 + 69, 3, kInputMark);  // the last token of the second sequence
  const Matrix out = forward(*tested, memory, s, in)[0];
  for (std::int64_t row = 0; row < 140; ++row) CHECK(std::isnan(out.at(row, 3)) == (row >= 70));
}

TEST_CASE("query heads read their own group and no other", "[kernels]") {
  const TestedBackend tested(GENERATE(from_range(TestedBackend::precisions())));
  ReferenceBackend reference;
  const AttentionShape s = shape(1, 5, 5, 6, 2, 8);
  for (Backend* k : {&*tested, static_cast<Backend*>(&reference)}) {
    CAPTURE(k->name());
    const Memory memory{k->dtype(), 5};
    Inputs in = inputs(memory, s);
    const Matrix before = forward(*k, memory, s, in)[0];
    for (std::int64_t t = 0; t < 5; ++t)
      for (std::int64_t c = 8; c < 16; ++c) in.v.set(t, c, in.v.at(t, c) + 1);  // group 1 only
    const Matrix after = forward(*k, memory, s, in)[0];
    for (std::int64_t t = 0; t < 5; ++t)
      for (std::int64_t c = 0; c < 48; ++c) CHECK((after.at(t, c) == before.at(t, c)) == (c < 3 * 8));
  }
}

TEST_CASE("attention is causal: a later NaN reaches no earlier token, scores of 1e4 stay finite", "[kernels][extreme]") {
  const TestedBackend tested(GENERATE(from_range(TestedBackend::precisions())));
  const Memory memory{DType::float32, 5};
  const AttentionShape s = shape(1, 150, 150, 2, 1, 32);
  Inputs in = inputs(memory, s);
  in.q.map([](double e) { return 1e2 * e; });
  in.k.map([](double e) { return 1e2 * e; });
  in.k.set(100, 3, kInputMark);
  in.v.set(120, 3, kInputMark);
  const std::vector<Matrix> result = forward(*tested, memory, s, in);
  for (std::int64_t t = 0; t < 150; ++t) {
    CAPTURE(t);
    CHECK(std::isnan(result[0].at(t, 0)) == (t >= 100));
    CHECK(std::isnan(result[1].at(0, t)) == (t >= 100));
  }
}

}  // namespace elastiform
