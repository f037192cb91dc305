#include "kernels/reference/reference_backend.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/matrix.hpp"

namespace elastiform {
namespace {

Matrix zeros(std::int64_t rows, std::int64_t columns) { return {rows, columns, columns, DType::float64, 0, kInputMark}; }

/// What the operation says against its operands; empty if it takes them.
template <class Call>
std::string complaint(Call&& call) {
  try {
    call();
  } catch (const ShapeError& error) {
    return error.what();
  }
  return "";
}

using Catch::Matchers::Contains;

}  // namespace

TEST_CASE("an operation names the fields that disagree, and their sizes", "[kernels][checks]") {
  ReferenceBackend k;
  Matrix a = zeros(3, 4), b = zeros(4, 5), c = zeros(3, 5), row = zeros(1, 5), wrong = zeros(2, 5);
  const ConstView none;
  CHECK(complaint([&] { k.matmul({.y = c.view(), .x = a.view(), .w = b.view(), .bias = row.view(), .add = c.view()}); }).empty());
  CHECK_THAT(complaint([&] { k.matmul({.y = c.view(), .x = b.view(), .w = b.view(), .bias = none, .add = none}); }),
             Contains("matmul") && Contains("y.rows is 3") && Contains("x.rows is 4"));
  CHECK_THAT(complaint([&] { k.matmul({.y = c.view(), .x = a.view(), .w = b.view(), .bias = wrong.view(), .add = none}); }),
             Contains("bias is 2x5"));
  CHECK_THAT(complaint([&] { k.matmul({.y = c.view(), .x = a.view(), .w = b.view(), .bias = none, .add = wrong.view()}); }),
             Contains("add is 2x5"));
  CHECK_THAT(complaint([&] { k.matmul({.y = c.view(), .x = a.view(), .w = b.view(), .bias = none, .add = none, .transposed = true}); }),
             Contains("x.columns is 4"));
  CHECK_THAT(complaint([&] { k.matmul({.y = c.view(), .x = none, .w = b.view(), .bias = none, .add = none}); }), Contains("x is missing"));
  CHECK_THAT(complaint([&] { k.swiglu_forward({.y = c.view(), .gate = c.view(), .up = wrong.view()}); }), Contains("up is 2x5"));
  CHECK_THAT(
      complaint([&] { k.norm_forward({.y = c.view(), .rstd = row.view(), .mean = {}, .x = c.view(), .gain = row.view(), .bias = none}); }),
      Contains("rstd is 1x5"));
  CHECK_THAT(complaint([&] {
               k.norm_backward({.dx = c.view(),
                                .dgain = {},
                                .dbias = {},
                                .dy = c.view(),
                                .residual = none,
                                .x = c.view(),
                                .rstd = zeros(1, 3).view(),
                                .mean = none,
                                .gain = row.view(),
                                .kind = Norm::layer});
             }),
             Contains("mean is missing"));
  CHECK_THAT(complaint([&] { k.sum_panels({.sum = wrong.view(), .partials = c.view()}); }), Contains("sum is 2x5"));
  CHECK_THAT(complaint([&] { k.rope({.x = c.view(), .cosine = zeros(1, 2).view(), .sine = zeros(1, 2).view()}); }),
             Contains("x.columns is 5"));
  CHECK_THAT(
      complaint([&] { k.rope({.x = a.view(), .cosine = zeros(2, 2).view(), .sine = zeros(2, 2).view(), .first_row = 0, .period = 3}); }),
      Contains("cosine.rows is 2"));
}

TEST_CASE("tokens, targets and attention shapes outside their range are refused", "[kernels][checks]") {
  ReferenceBackend k;
  Matrix table = zeros(4, 5), y = zeros(3, 5), row = zeros(1, 3);
  const std::vector<std::int32_t> high = {0, 4, 1}, low = {0, -1, 1}, few = {0, 1};
  for (const auto& tokens : {high, low, few}) {
    CHECK_FALSE(complaint([&] { k.embedding_forward({.y = y.view(), .table = table.view(), .positions = {}, .tokens = tokens}); }).empty());
    CHECK_FALSE(
        complaint([&] { k.embedding_backward({.dtable = table.view(), .dpositions = {}, .dy = y.view(), .tokens = tokens}); }).empty());
  }
  const std::vector<std::int32_t> targets = {0, 5, kIgnoredTarget};
  CHECK_THAT(complaint([&] {
               k.softmax_loss({.losses = row.view(),
                               .teacher_losses = {},
                               .correct = {},
                               .dlogits = {},
                               .logits = y.view(),
                               .teacher = {},
                               .targets = targets});
             }),
             Contains("target 5"));
  const auto attend = [&](AttentionShape s) {
    Matrix q = zeros(s.batch * s.query_tokens, s.heads * s.head_dim), kv = zeros(s.batch * s.key_tokens, s.groups * s.head_dim);
    return complaint([&] { k.attention_forward({.out = q.view(), .lse = {}, .q = q.view(), .k = kv.view(), .v = kv.view(), .shape = s}); });
  };
  CHECK(attend({2, 3, 3, 4, 2, 2, 1}).empty());
  CHECK_THAT(attend({2, 3, 2, 4, 2, 2, 1}), Contains("key_tokens is 2"));
  CHECK_THAT(attend({2, 3, 3, 4, 3, 2, 1}), Contains("heads is 4"));
}

TEST_CASE("a view of another element type is refused", "[kernels][checks]") {
  ReferenceBackend k;
  Matrix y = zeros(3, 5);
  const Matrix narrow(3, 5, 5, DType::float32, 0, kInputMark);
  CHECK_THAT(complaint([&] { k.gelu_forward({.y = y.view(), .x = narrow.view()}); }), Contains("x is float32") && Contains("float64"));
  CHECK_THAT(complaint([&] { k.sum_squares(narrow.view()); }), Contains("float32"));
}

}  // namespace elastiform
