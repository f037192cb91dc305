#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/reference/reference_backend.hpp"

namespace elastiform {
namespace {

/// One query: sequence, head and token fix its row, its columns and the keys it may see.
struct Query {
  std::int64_t row, first_key_row, keys, column, group_column;
};

template <class Body>
void for_each_query(const AttentionShape& s, Body&& body) {
  for (std::int64_t b = 0; b < s.batch; ++b)
    for (std::int64_t h = 0; h < s.heads; ++h)
      for (std::int64_t t = 0; t < s.query_tokens; ++t)
        body(h, Query{b * s.query_tokens + t, b * s.key_tokens, s.causal ? t + s.key_tokens - s.query_tokens + 1 : s.key_tokens,
                      h * s.head_dim, h / (s.heads / s.groups) * s.head_dim});
}

double dot(const double* a, const double* b, std::int64_t n) {
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

void ReferenceBackend::do_attention_forward(const AttentionForward& op) {
  const AttentionShape& s = op.shape;
  std::vector<double> p(s.key_tokens);
  for_each_query(s, [&](std::int64_t head, const Query& query) {
    const double* q = op.q.row<double>(query.row) + query.column;
    double largest = -std::numeric_limits<double>::infinity();
    for (std::int64_t j = 0; j < query.keys; ++j) {
      p[j] = s.scale * dot(q, op.k.row<double>(query.first_key_row + j) + query.group_column, s.head_dim);
      largest = std::max(largest, p[j]);
    }
    double total = 0;
    for (std::int64_t j = 0; j < query.keys; ++j) total += p[j] = std::exp(p[j] - largest);
    double* out = op.out.row<double>(query.row) + query.column;
    std::fill_n(out, s.head_dim, 0.0);
    for (std::int64_t j = 0; j < query.keys; ++j) {
      const double* v = op.v.row<double>(query.first_key_row + j) + query.group_column;
      for (std::int64_t d = 0; d < s.head_dim; ++d) out[d] += p[j] / total * v[d];
    }
    if (!op.lse.empty()) op.lse.row<double>(head)[query.row] = largest + std::log(total);
  });
}

void ReferenceBackend::do_attention_backward(const AttentionBackward& op) {
  const AttentionShape& s = op.shape;
  for (const View& gradient : {op.dq, op.dk, op.dv})
    for (std::int64_t i = 0; i < gradient.rows; ++i) std::fill_n(gradient.row<double>(i), gradient.columns, 0.0);
  for_each_query(s, [&](std::int64_t head, const Query& query) {
    const double* q = op.q.row<double>(query.row) + query.column;
    const double* dout = op.dout.row<double>(query.row) + query.column;
    double* dq = op.dq.row<double>(query.row) + query.column;
    const double lse = op.lse.row<double>(head)[query.row];
    const double d_total = dot(dout, op.out.row<double>(query.row) + query.column, s.head_dim);
    for (std::int64_t j = 0; j < query.keys; ++j) {
      const double* k = op.k.row<double>(query.first_key_row + j) + query.group_column;
      const double* v = op.v.row<double>(query.first_key_row + j) + query.group_column;
      double* dk = op.dk.row<double>(query.first_key_row + j) + query.group_column;
      double* dv = op.dv.row<double>(query.first_key_row + j) + query.group_column;
      const double p = std::exp(s.scale * dot(q, k, s.head_dim) - lse);
      const double dscore = s.scale * p * (dot(dout, v, s.head_dim) - d_total);
      for (std::int64_t d = 0; d < s.head_dim; ++d) {
        dq[d] += dscore * k[d];
        dk[d] += dscore * q[d];
        dv[d] += p * dout[d];
      }
    }
  });
}

}  // namespace elastiform
