#include "kernels/ops/matmul.hpp"

#include "kernels/ops/checks.hpp"

namespace elastiform {

void Matmul::check() const {
  const Checks checks(kName);
  checks.present("y", y);
  checks.present("x", x);
  checks.present("w", w);
  checks.same("y.rows", y.rows, "x.rows", x.rows);
  checks.same("x.columns", x.columns, transposed ? "w.columns" : "w.rows", transposed ? w.columns : w.rows);
  checks.same("y.columns", y.columns, transposed ? "w.rows" : "w.columns", transposed ? w.rows : w.columns);
  if (!bias.empty()) checks.vector("bias", bias, "y.columns", y.columns);
  if (!add.empty()) checks.like("add", add, "y", y);
}

void MatmulDx::check() const {
  const Checks checks(kName);
  checks.present("dx", dx);
  checks.present("dy", dy);
  checks.present("w", w);
  checks.same("dx.rows", dx.rows, "dy.rows", dy.rows);
  checks.same("dx.columns", dx.columns, transposed ? "w.columns" : "w.rows", transposed ? w.columns : w.rows);
  checks.same("dy.columns", dy.columns, transposed ? "w.rows" : "w.columns", transposed ? w.rows : w.columns);
  if (!add.empty()) checks.like("add", add, "dx", dx);
}

void MatmulDw::check() const {
  const Checks checks(kName);
  checks.present("dy", dy);
  if (dw.empty()) return checks.vector("dbias", dbias, "dy.columns", dy.columns);
  checks.present("dw", dw);
  checks.present("x", x);
  checks.same("x.rows", x.rows, "dy.rows", dy.rows);
  checks.same(transposed ? "dw.columns" : "dw.rows", transposed ? dw.columns : dw.rows, "x.columns", x.columns);
  checks.same(transposed ? "dw.rows" : "dw.columns", transposed ? dw.rows : dw.columns, "dy.columns", dy.columns);
  if (!dbias.empty()) checks.vector("dbias", dbias, "dy.columns", dy.columns);
}

}  // namespace elastiform
