#include "kernels/ops/elementwise.hpp"

#include <algorithm>

#include "kernels/ops/checks.hpp"

namespace elastiform {
namespace {

void check_tokens(const Checks& checks, std::span<const std::int32_t> tokens, std::int64_t vocabulary) {
  for (const std::int32_t token : tokens)
    if (token < 0 || token >= vocabulary)
      checks.fail("token " + std::to_string(token) + " is outside the table of " + std::to_string(vocabulary) + " rows");
}

}  // namespace

void SwigluForward::check() const {
  const Checks checks(kName);
  checks.present("y", y);
  checks.alike("gate", gate, "y", y);
  checks.alike("up", up, "y", y);
}

void SwigluBackward::check() const {
  const Checks checks(kName);
  checks.present("dy", dy);
  checks.alike("dgate", dgate, "dy", dy);
  checks.alike("dup", dup, "dy", dy);
  checks.alike("gate", gate, "dy", dy);
  checks.alike("up", up, "dy", dy);
}

void GeluForward::check() const {
  const Checks checks(kName);
  checks.present("x", x);
  checks.alike("y", y, "x", x);
}

void Hadamard::check() const {
  const Checks checks(kName);
  checks.present("y", y);
  checks.like("a", a, "y", y);
  if (b.rows == 1) checks.vector("b", b, "y.columns", y.columns);
  else checks.like("b", b, "y", y);
}

void GeluBackward::check() const {
  const Checks checks(kName);
  checks.present("x", x);
  checks.alike("dx", dx, "x", x);
  checks.alike("dy", dy, "x", x);
}

void Rope::check() const {
  const Checks checks(kName);
  checks.present("x", x);
  checks.present("cosine", cosine);
  checks.like("sine", sine, "cosine", cosine);
  checks.multiple("x.columns", x.columns, "2 * cosine.columns", 2 * cosine.columns);
  checks.at_least("period", period, "one token", 1);
  checks.at_least("first_row", first_row, "zero", 0);
  checks.at_least("offset", offset, "zero", 0);
  checks.at_least("cosine.rows", cosine.rows, "offset + the largest position", offset + std::min(period, first_row + x.rows));
}

void EmbeddingForward::check() const {
  const Checks checks(kName);
  checks.present("y", y);
  checks.present("table", table);
  checks.same("tokens.size()", static_cast<std::int64_t>(tokens.size()), "y.rows", y.rows);
  checks.same("table.columns", table.columns, "y.columns", y.columns);
  check_tokens(checks, tokens, table.rows);
  if (positions.empty()) return;
  checks.present("positions", positions);
  checks.same("positions.columns", positions.columns, "y.columns", y.columns);
  checks.at_least("period", period, "one token", 1);
  checks.at_least("offset", offset, "zero", 0);
  checks.at_least("positions.rows", positions.rows, "offset + the largest position", offset + std::min(period, y.rows));
}

void ScatterRows::check() const {
  const Checks checks(kName);
  checks.present("x", x);
  checks.present("y", y);
  checks.same("rows.size()", static_cast<std::int64_t>(rows.size()), "x.rows", x.rows);
  checks.same("y.columns", y.columns, "x.columns", x.columns);
  check_tokens(checks, rows, y.rows);
}

void EmbeddingBackward::check() const {
  const Checks checks(kName);
  checks.present("dy", dy);
  checks.present("dtable", dtable);
  checks.same("tokens.size()", static_cast<std::int64_t>(tokens.size()), "dy.rows", dy.rows);
  checks.same("dtable.columns", dtable.columns, "dy.columns", dy.columns);
  check_tokens(checks, tokens, dtable.rows);
  if (dpositions.empty()) return;
  checks.present("dpositions", dpositions);
  checks.same("dpositions.columns", dpositions.columns, "dy.columns", dy.columns);
  checks.at_least("period", period, "one token", 1);
  checks.at_least("dpositions.rows", dpositions.rows, "the largest position", std::min(period, dy.rows));
}

}  // namespace elastiform
