#include "kernels/ops/optimizer.hpp"

#include "kernels/ops/checks.hpp"

namespace elastiform {

void Adamw::check() const {
  const Checks checks(kName);
  checks.present("weight", weight);
  checks.like("m", m, "weight", weight);
  checks.like("v", v, "weight", weight);
  if (!gradient.empty()) checks.like("gradient", gradient, "weight", weight);
}

void AdamwDirection::check() const {
  const Checks checks(kName);
  checks.present("weight", weight);
  checks.like("m", m, "weight", weight);
  checks.like("v", v, "weight", weight);
  checks.like("gradient", gradient, "weight", weight);
}

void MomentumStep::check() const {
  const Checks checks(kName);
  checks.present("weight", weight);
  checks.like("m", m, "weight", weight);
  if (!gradient.empty()) checks.like("gradient", gradient, "weight", weight);
}

void FactoredMoments::check() const {
  const Checks checks(kName);
  checks.present("gradient", gradient);
  checks.vector("row", row, "gradient.rows", gradient.rows);
  checks.vector("column", column, "gradient.columns", gradient.columns);
}

void FactoredStep::check() const {
  const Checks checks(kName);
  checks.present("weight", weight);
  checks.vector("row", row, "weight.rows", weight.rows);
  checks.vector("column", column, "weight.columns", weight.columns);
  checks.like("gradient", gradient, "weight", weight);
}

void Adamw8bit::check() const {
  const Checks checks(kName);
  checks.present("weight", weight);
  checks.like("m", m, "weight", weight);
  checks.like("v", v, "weight", weight);
  const std::int64_t blocks = CodeBlocks(weight.rows, weight.columns).count();
  checks.vector("m_scale", m_scale, "blocks of weight", blocks);
  checks.vector("v_scale", v_scale, "blocks of weight", blocks);
  if (!gradient.empty()) checks.like("gradient", gradient, "weight", weight);
}

}  // namespace elastiform
