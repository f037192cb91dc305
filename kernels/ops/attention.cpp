#include "kernels/ops/attention.hpp"

#include "kernels/ops/checks.hpp"

namespace elastiform {
namespace {

void check_shape(const Checks& checks, const AttentionShape& s) {
  checks.at_least("batch", s.batch, "zero", 0);
  checks.at_least("query_tokens", s.query_tokens, "one token", 1);
  checks.at_least("key_tokens", s.key_tokens, "query_tokens", s.query_tokens);
  checks.at_least("groups", s.groups, "one group", 1);
  checks.at_least("head_dim", s.head_dim, "one channel", 1);
  checks.at_least("heads", s.heads, "groups", s.groups);
  checks.multiple("heads", s.heads, "groups", s.groups);
}

void check_queries(const Checks& checks, const char* field, ConstView view, const AttentionShape& s) {
  checks.present(field, view);
  checks.same((std::string(field) + ".rows").c_str(), view.rows, "batch * query_tokens", s.batch * s.query_tokens);
  checks.same((std::string(field) + ".columns").c_str(), view.columns, "heads * head_dim", s.heads * s.head_dim);
}

void check_keys(const Checks& checks, const char* field, ConstView view, const AttentionShape& s) {
  checks.present(field, view);
  checks.same((std::string(field) + ".rows").c_str(), view.rows, "batch * key_tokens", s.batch * s.key_tokens);
  checks.same((std::string(field) + ".columns").c_str(), view.columns, "groups * head_dim", s.groups * s.head_dim);
}

void check_lse(const Checks& checks, ConstView lse, const AttentionShape& s) {
  checks.present("lse", lse);
  checks.same("lse.rows", lse.rows, "heads", s.heads);
  checks.same("lse.columns", lse.columns, "batch * query_tokens", s.batch * s.query_tokens);
}

}  // namespace

void AttentionForward::check() const {
  const Checks checks(kName);
  check_shape(checks, shape);
  check_queries(checks, "out", out, shape);
  check_queries(checks, "q", q, shape);
  check_keys(checks, "k", k, shape);
  check_keys(checks, "v", v, shape);
  if (!lse.empty()) check_lse(checks, lse, shape);
}

void AttentionBackward::check() const {
  const Checks checks(kName);
  check_shape(checks, shape);
  checks.same("query_tokens", shape.query_tokens, "key_tokens", shape.key_tokens);
  check_queries(checks, "dq", dq, shape);
  check_keys(checks, "dk", dk, shape);
  check_keys(checks, "dv", dv, shape);
  check_queries(checks, "dout", dout, shape);
  check_queries(checks, "out", out, shape);
  check_lse(checks, lse, shape);
  check_queries(checks, "q", q, shape);
  check_keys(checks, "k", k, shape);
  check_keys(checks, "v", v, shape);
}

}  // namespace elastiform
