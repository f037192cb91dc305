#include "supernet/layers/branch_end.hpp"

namespace elastiform {

KeptTensor BranchEnd::stream(std::int64_t N, std::int64_t C, std::int64_t flops) const {
  return {.shape = {present() ? N : 0, C}, .by_panel = true, .flops = present() ? flops : 0};
}
KeptTensor BranchEnd::inner(std::int64_t N, std::int64_t C) const {
  return {.shape = {present() ? N : 0, width_}, .by_panel = true, .flops = 2 * N * C * width_};
}
KeptTensor BranchEnd::activated(std::int64_t N) const { return {.shape = {present() ? N : 0, width_}, .by_panel = true}; }
std::int64_t BranchEnd::result_flops(std::int64_t N, std::int64_t C, std::int64_t flops) const {
  return present() ? 2 * N * C * width_ : flops;
}
TensorShape BranchEnd::backward_scratch(std::int64_t N) const { return {present() ? N : 0, width_}; }

void BranchEnd::inward(Backend& backend, const BasicAdapterSlice<ConstView>& w, View inner, ConstView z) const {
  backend.matmul({.y = inner, .x = z, .w = w.down, .bias = {}, .add = {}});
}

void BranchEnd::activate(Backend& backend, View activated, ConstView inner) const { backend.gelu_forward({.y = activated, .x = inner}); }

void BranchEnd::forward(Backend& backend, const BasicAdapterSlice<ConstView>& w, View y, ConstView z, View inner, View activated) const {
  if (!present()) return;
  inward(backend, w, inner, z);
  activate(backend, activated, inner);
  backend.matmul({.y = y, .x = activated, .w = w.up, .bias = {}, .add = z});
}

void BranchEnd::backward(Backend& backend, const BasicAdapterSlice<ConstView>& w, const BasicAdapterSlice<View>& dw, const Operands& o,
                         View d, bool accumulate) const {
  if (!present()) return;
  backend.matmul_dw({.dw = dw.up, .dbias = {}, .x = o.activated, .dy = d, .accumulate = accumulate});
  const View dinner = o.scratch;
  backend.panels(d.rows, [&](Rows r) {
    backend.matmul_dx({.dx = dinner[r], .dy = d[r], .w = w.up, .add = {}});
    backend.gelu_backward({.dx = dinner[r], .dy = dinner[r], .x = o.inner[r]});
    backend.matmul_dx({.dx = d[r], .dy = dinner[r], .w = w.down, .add = d[r]});
  });
  backend.matmul_dw({.dw = dw.down, .dbias = {}, .x = o.z, .dy = dinner, .accumulate = accumulate});
}

}  // namespace elastiform
