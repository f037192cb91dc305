#include "supernet/layers/residual.hpp"

namespace elastiform {

void join(Backend& backend, const DropoutPlace& dropout, const Matmul& op, Rows r) {
  if (!dropout.is_on()) return backend.matmul(op);
  Matmul product = op;
  product.add = {};
  backend.matmul(product);
  dropout.apply(backend, op.y, op.y, op.add, r.first);
}

ConstView branch_gradient(Backend& backend, const DropoutPlace& dropout, ConstView d, View scratch) {
  if (!dropout.is_on()) return d;
  backend.panels(d.rows, [&](Rows r) { dropout.apply(backend, scratch[r], d[r], {}, r.first); });
  return scratch;
}

void drop(Backend& backend, const DropoutPlace& dropout, View x) {
  if (!dropout.is_on()) return;
  backend.panels(x.rows, [&](Rows r) { dropout.apply(backend, x[r], x[r], {}, r.first); });
}

}  // namespace elastiform
