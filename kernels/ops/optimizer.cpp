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

}  // namespace elastiform
