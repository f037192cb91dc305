#include <cmath>
#include <vector>

#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda_on_host/settings.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/cuda/device_matrix.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/near.hpp"
#include "tests/support/sanitized.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

/// A shape, how q, k, v, dout and out are stored, and the arithmetic.
struct Case {
  AttentionShape shape;
  Precision precision = Precision::f32;
  DType stored = DType::float32;
};
struct Layout {
  std::int64_t padding = 0, shift = 0;  // elements after each row, and before the first
};

AttentionShape shape(std::int64_t batch, std::int64_t queries, std::int64_t keys, std::int64_t heads, std::int64_t groups,
                     std::int64_t head_dim, double scale = 0) {
  return {batch, queries, keys, heads, groups, head_dim, scale == 0 ? 1 / std::sqrt(static_cast<double>(head_dim)) : scale};
}

/// q, k, v and dout as they are stored.
struct Inputs {
  Matrix q, k, v, dout;

  Inputs(const Case& c, std::int64_t padding)
      : q(of(c, padding, c.shape.query_tokens, c.shape.heads, 1)), k(of(c, padding, c.shape.key_tokens, c.shape.groups, 2)),
        v(of(c, padding, c.shape.key_tokens, c.shape.groups, 3)), dout(of(c, padding, c.shape.query_tokens, c.shape.heads, 4)) {}
  static Matrix of(const Case& c, std::int64_t padding, std::int64_t tokens, std::int64_t heads, std::uint64_t stream) {
    const std::int64_t columns = heads * c.shape.head_dim;
    return normal(c.shape.batch * tokens, columns, columns + padding, c.stored, stream);
  }
};

Matrix empty_like(const Matrix& m, std::int64_t padding, DType dtype = DType::float32) {
  return canary(m.rows(), m.columns(), m.columns() + padding, dtype);
}
/// What products take of a stored matrix, in float64.
Matrix rounded(const Matrix& stored, const Case& c) {
  return converted(c.precision == Precision::bf16 ? converted(stored, DType::bfloat16) : stored, DType::float64);
}

/// out, lse, then, where queries and keys are the same tokens, dq, dk and dv.
std::vector<Matrix> reference(const Case& c) {
  const Inputs in(c, 0);
  const Matrix q = rounded(in.q, c), k = rounded(in.k, c), v = rounded(in.v, c), dout = rounded(in.dout, c);
  std::vector<Matrix> result{q, canary(c.shape.heads, q.rows(), q.rows(), DType::float64)};
  ReferenceBackend backend;
  backend.attention_forward(
      {.out = result[0].view(), .lse = result[1].view(), .q = q.view(), .k = k.view(), .v = v.view(), .shape = c.shape});
  if (c.shape.query_tokens != c.shape.key_tokens) return result;
  result.insert(result.end(), {q, k, v});
  backend.attention_backward({.dq = result[2].view(),
                              .dk = result[3].view(),
                              .dv = result[4].view(),
                              .dout = dout.view(),
                              .out = result[0].view(),
                              .lse = result[1].view(),
                              .q = q.view(),
                              .k = k.view(),
                              .v = v.view(),
                              .shape = c.shape});
  return result;
}

std::vector<Matrix> run(const Case& c, Layout layout) {
  const Inputs in(c, layout.padding);
  const DeviceMatrix q(in.q, layout.shift), k(in.k, layout.shift), v(in.v, layout.shift), dout(in.dout, layout.shift);
  const DeviceMatrix out(empty_like(in.q, layout.padding, c.stored), layout.shift);
  const DeviceMatrix lse(canary(c.shape.heads, in.q.rows(), in.q.rows() + layout.padding, DType::float32), layout.shift);
  attention_forward(nullptr, {.out = out.view(), .lse = lse.view(), .q = q.view(), .k = k.view(), .v = v.view(), .shape = c.shape},
                    c.precision);
  std::vector<Matrix> result;
  result.push_back(out.read());
  result.push_back(lse.read());
  if (c.shape.query_tokens != c.shape.key_tokens) return result;
  const DeviceMatrix dq(empty_like(in.q, layout.padding), layout.shift), dk(empty_like(in.k, layout.padding), layout.shift),
      dv(empty_like(in.v, layout.padding), layout.shift);
  const AttentionBackward op{.dq = dq.view(),
                             .dk = dk.view(),
                             .dv = dv.view(),
                             .dout = dout.view(),
                             .out = out.view(),
                             .lse = lse.view(),
                             .q = q.view(),
                             .k = k.view(),
                             .v = v.view(),
                             .shape = c.shape};
  void* const scratch = allocate_on_device(attention_backward_scratch_bytes(op));
  attention_backward(nullptr, op, c.precision, static_cast<std::byte*>(scratch));
  for (const DeviceMatrix* gradient : {&dq, &dk, &dv}) result.push_back(gradient->read());
  free_on_device(scratch);
  return result;
}

/// Near float64; the same bits wherever the matrices lie, in whatever order blocks and threads run.
void check(const Case& c) {
  const AttentionShape& s = c.shape;
  CAPTURE(s.batch, s.query_tokens, s.key_tokens, s.heads, s.groups, s.head_dim, s.scale, name_of(c.precision), name_of(c.stored));
  const std::vector<Matrix> expected = reference(c), tight = run(c, {});
  REQUIRE(tight.size() == expected.size());  // two outputs, and three gradients where there are such
  const bool rounds = c.precision == Precision::bf16;
  for (std::size_t i = 0; i < tight.size(); ++i) {
    CAPTURE(i);
    const char* row = i == 1   ? "attention"
                      : i == 0 ? rounds ? "attention bf16" : "attention"
                      : rounds ? "attention_backward bf16"
                               : "attention_backward";
    CHECK_THAT(converted(tight[i], DType::float32),
               near(expected[i], tolerance(i == 0 && c.stored != DType::float32 ? "attention stored" : row, DType::float32)
                                     .scaled(expected[i].largest_magnitude())));
  }
  check_same_bits(run(c, {.padding = 5, .shift = 3}), tight);
  if (kSanitized) return;
  for (const Order order : {Order::reverse, Order::shuffle}) {
    set_order(order, 5);
    check_same_bits(run(c, {.padding = 32}), tight);
  }
  set_order(Order::forward);
}

}  // namespace

TEST_CASE("attention in float32 agrees with float64, for head dimensions of any number of tiles", "[cuda][attention]") {
  check({shape(1, 1, 1, 1, 1, 1)});
  check({shape(2, 70, 70, 4, 2, 7)});
  check({shape(1, 65, 65, 2, 1, 64, -0.2)});
  check({shape(1, 66, 66, 2, 1, 130)});
  check({shape(1, 20, 20, 1, 1, 256)});
  check({shape(2, 3, 130, 2, 1, 40)});
}

TEST_CASE("attention in bf16 agrees with float64 of rounded operands, stored in any type", "[cuda][attention]") {
  const std::int64_t head_dim = GENERATE(32, 64, 128, 48);  // the last one without tensor cores
  const DType stored = GENERATE(DType::float32, DType::bfloat16, DType::float16);
  if (kSanitized && head_dim == 128 && stored != DType::bfloat16) return;
  check({shape(1, 1, 1, 1, 1, head_dim), Precision::bf16, stored});
  check({shape(2, 67, 67, 4, 2, head_dim), Precision::bf16, stored});
  if (stored == DType::float32) check({shape(1, 131, 131, 1, 1, head_dim), Precision::bf16, stored});
  if (stored == DType::bfloat16) check({shape(2, 3, 130, 2, 1, head_dim), Precision::bf16, stored});
}

}  // namespace elastiform::ELASTIFORM_GPU
