#include "kernels/ops/affine.hpp"

#include "kernels/ops/checks.hpp"

namespace elastiform {
namespace {

void check_broadcast(const Checks& checks, const char* field, ConstView view, std::int64_t columns) {
  if (view.empty()) return;
  if (view.columns == 1) checks.vector(field, view, "one number", 1);
  else checks.vector(field, view, "columns", columns);
}

}  // namespace

void AffineForward::check() const {
  const Checks checks(kName);
  checks.present("x", x);
  checks.like("y", y, "x", x);
  check_broadcast(checks, "gain", gain, x.columns);
  check_broadcast(checks, "shift", shift, x.columns);
  if (!add.empty()) checks.like("add", add, "x", x);
}

void AffineBackward::check() const {
  const Checks checks(kName);
  checks.present("dy", dy);
  if (!dx.empty()) checks.like("dx", dx, "dy", dy);
  if (!add.empty()) checks.like("add", add, "dy", dy);
  if (!dgain.empty()) {
    checks.vector("dgain", dgain, "dy.columns", dy.columns);
    checks.like("x", x, "dy", dy);
  }
  if (!dshift.empty()) checks.vector("dshift", dshift, "dy.columns", dy.columns);
  check_broadcast(checks, "gain", gain, dy.columns);
}

}  // namespace elastiform
