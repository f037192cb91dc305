#include "kernels/ops/norm.hpp"

#include "kernels/ops/checks.hpp"

namespace elastiform {

void NormForward::check() const {
  const Checks checks(kName);
  checks.present("x", x);
  checks.like("y", y, "x", x);
  checks.vector("gain", gain, "x.columns", x.columns);
  if (!bias.empty()) checks.vector("bias", bias, "x.columns", x.columns);
  if (!rstd.empty()) checks.vector("rstd", rstd, "x.rows", x.rows);
  if (!mean.empty()) checks.vector("mean", mean, "x.rows", x.rows);
  checks.at_least("x.columns", x.columns, "one channel", 1);
}

void NormBackward::check() const {
  const Checks checks(kName);
  checks.present("x", x);
  checks.like("dx", dx, "x", x);
  checks.like("dy", dy, "x", x);
  if (!residual.empty()) checks.like("residual", residual, "x", x);
  checks.vector("gain", gain, "x.columns", x.columns);
  checks.vector("rstd", rstd, "x.rows", x.rows);
  if (kind == Norm::layer) checks.vector("mean", mean, "x.rows", x.rows);
  if (!dgain.empty()) checks.vector("dgain", dgain, "x.columns", x.columns);
  if (!dbias.empty()) checks.vector("dbias", dbias, "x.columns", x.columns);
  checks.at_least("x.columns", x.columns, "one channel", 1);
}

void SumPanels::check() const {
  const Checks checks(kName);
  checks.present("partials", partials);
  if (sum.columns == 1) checks.vector("sum", sum, "one number", 1);
  else checks.vector("sum", sum, "partials.columns", partials.columns);
}

}  // namespace elastiform
