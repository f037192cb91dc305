#include "supernet/layers/feed_forward.hpp"

#include <algorithm>
#include <array>

#include "supernet/layers/normalize.hpp"
#include "supernet/parametrizations/parametrization.hpp"

namespace elastiform {

LayerTensors FeedForward::tensors(const ModelConfig& model, const BlockShape& shape, const BackendTraits& traits) {
  const std::int64_t N = shape.rows(), C = shape.embed, F = shape.ffn;
  const std::int64_t gates = model.ffn == FeedForwardKind::swiglu ? N : 0, branches = Residual::branch_rows(model, N);
  const std::int64_t product = 2 * N * C * F, shift_panels = residual_form(model).shifts ? traits.panel_count(N) : 0;
  const Linears linears(model);
  const BranchEnd end(model);
  const bool reads_normed = linears.reads_input(LinearMap::gate) || linears.reads_input(LinearMap::up);
  LayerTensors tensors;
  // The order of Kept.
  // Slopes of activations are not linear in their input: in the gate's with SwiGLU, in the only one's with GELU.
  const std::int64_t gate = 2 * gates * C * F;
  const int up_bits = gates > 0 ? 2 : 8;
  tensors.kept = {{.shape = {Residual::input_rows(model, N), C},
                   .operand = true,
                   .by_panel = true,
                   .read = reads_normed,
                   .makes = {kGate, kUp},
                   .least_bits = 2,
                   .gradient_flops = product + gate},
                  {.shape = {gates, F}, .operand = true, .by_panel = true, .flops = gate, .least_bits = 8, .gradient_flops = gate},
                  {.shape = {N, F}, .operand = true, .by_panel = true, .flops = product, .least_bits = up_bits, .gradient_flops = product},
                  {.shape = {N, F},
                   .operand = true,
                   .by_panel = true,
                   .read = linears.reads_input(LinearMap::down),
                   .makes = {kBranch, kStream},
                   .place = true,
                   .least_bits = 2,
                   .gradient_flops = product},
                  {.shape = {Residual::norm_rows(model), N}},
                  {.shape = {Residual::mean_rows(model), N}},
                  {.shape = {branches, C}, .by_panel = true, .flops = 2 * branches * C * F},
                  end.stream(N, C, branches > 0 ? 0 : product),
                  end.inner(N, C),
                  end.activated(N)};
  tensors.result_flops = end.result_flops(N, C, branches > 0 ? 0 : product);
  // What the ends need, sums of the inner shifts per panel, what gradients of linear maps and of an adapter take.
  Residual::add_scratch(model, traits, shape, tensors);
  const auto gradients = linears.gradient_scratch(N, std::max(F, C));
  for (const TensorShape& one :
       ShortList<TensorShape>{{shift_panels, F}, {shift_panels, F}, gradients[0], gradients[1], end.backward_scratch(N)})
    tensors.backward_scratch.push_back(one);
  if (gates > 0) linears.declare_effective(tensors.effective, LinearMap::gate, C, F);
  linears.declare_effective(tensors.effective, LinearMap::up, C, F);
  linears.declare_effective(tensors.effective, LinearMap::down, F, C);
  return tensors;
}

std::span<const TensorSet> FeedForward::levels() {
  static constexpr std::array<TensorSet, 5> kLevels{
      {{},
       {kNormed},
       {kActivated},
       {kNormed, kActivated},
       {kNormed, kGate, kUp, kActivated, kRstd, kMean, kBranch, kStream, kInner, kInnerActivated}}};
  return kLevels;
}

void FeedForward::open_gate(Backend& backend, const FeedForwardSlices& w, View gate, ConstView h) const {
  backend.matmul({.y = gate, .x = h, .w = w.gate.weight, .bias = w.gate.bias, .add = {}});
  Residual::shift(backend, gate, w.residual.activation);
}

void FeedForward::raise(Backend& backend, const FeedForwardSlices& w, View up, ConstView h) const {
  backend.matmul({.y = up, .x = h, .w = w.up.weight, .bias = w.up.bias, .add = {}});
  if (!gated()) Residual::shift(backend, up, w.residual.activation);
}

void FeedForward::activate(Backend& backend, const FeedForwardSlices& w, View act, ConstView gate, ConstView up) const {
  if (gated()) backend.swiglu_forward({.y = act, .gate = gate, .up = up});
  else backend.gelu_forward({.y = act, .x = up, .kind = gelu()});
  Residual::shift(backend, act, w.residual.output);
}

void FeedForward::forward(Backend& backend, const FeedForwardSlices& w, const BlockShape& shape, const Saved& saved, View y, ConstView x,
                          Arena& arena) const {
  const ArenaScope scope(arena);
  const ForwardTensors t(backend, arena, tensors(model_, shape, backend.traits()), saved);
  const Residual residual(model_, shape.depth, shape.dropout.feed_forward(shape.block));
  const BranchEnds ends = w.ends();
  const EndTensors kept{{}, t.whole(kRstd), t.whole(kMean)};
  const BranchEnd end(model_);
  backend.panels(x.rows, [&](Rows r) {
    const View gate = t.rows(kGate, r), up = t.rows(kUp, r), act = t.rows(kActivated, r);
    const ConstView h = residual.enter(backend, ends, t.rows(kNormed, r), kept, x, r);
    raise(backend, w, up, h);
    if (gated()) open_gate(backend, w, gate, h);
    activate(backend, w, act, gate, up);
    const View z = end.result(t.rows(kStream, r), y[r]);
    residual.leave(backend, ends, z, t.rows(kBranch, r), kept, x, act, r);
    end.forward(backend, w.end, y[r], z, t.rows(kInner, r), t.rows(kInnerActivated, r));
  });
}

void FeedForward::end_backward(Backend& backend, const Residual& residual, const FeedForwardSlices& w, const FeedForwardGradients& dw,
                               const BackwardTensors& t, const EndTensors& kept, View d, ConstView x, ConstView act, bool accumulate,
                               View scratch) const {
  const BranchEnd end(model_);
  if (!end.present()) return;
  const BranchEnds ends = w.ends();
  const ConstView z = t.read(kStream, [&](View out, Rows r) { residual.leave_again(backend, ends, out, kept, x, act[r], r); });
  const ConstView inner = t.read(kInner, [&](View out, Rows r) { end.inward(backend, w.end, out, z[r]); });
  const ConstView activated = t.read(kInnerActivated, [&](View out, Rows r) { end.activate(backend, out, inner[r]); });
  end.backward(backend, w.end, dw.end, {z, inner, activated, scratch}, d, accumulate);
}

void FeedForward::backward(Backend& backend, const FeedForwardSlices& w, const FeedForwardGradients& dw, const BlockShape& shape,
                           const Saved& saved, View d, ConstView x, bool accumulate, Arena& arena) const {
  enum { kDActivation = Residual::kScratch, kDOutput, kLeft, kRight, kDInner };
  const ArenaScope scope(arena);
  const LayerTensors declared = tensors(model_, shape, backend.traits());
  const BackwardTensors t(backend, arena, declared, saved);
  const Residual residual(model_, shape.depth, shape.dropout.feed_forward(shape.block));
  const BranchEnds ends = w.ends();
  const BranchEndGradients dends = dw.ends();
  EndTensors kept{{}, t.take(kRstd), t.take(kMean)};
  ConstView h = t.read(kNormed, [&](View out, Rows r) { residual.enter(backend, ends, out, kept, x, r); });
  if (h.empty()) h = x;
  const View gate = t.read(kGate, [&](View out, Rows r) { open_gate(backend, w, out, h[r]); });
  const ConstView up = t.read(kUp, [&](View out, Rows r) { raise(backend, w, out, h[r]); });
  const View act = t.read(kActivated, [&](View out, Rows r) { activate(backend, w, out, gate[r], up[r]); });
  kept.branch = t.read(kBranch, [&](View out, Rows r) { residual.branch_again(backend, ends, out, x, act[r], r); });
  const PanelScratch panel(t.scratch(Residual::kPanel), backend.slots());
  if (t.dropped(kRstd)) residual.statistics_again(backend, ends, kept, panel);
  const View dactivation = t.scratch(kDActivation), doutput = t.scratch(kDOutput);
  const Linears linears(model_);
  const std::array<View, 2> scratch{t.scratch(kLeft), t.scratch(kRight)};
  end_backward(backend, residual, w, dw, t, kept, d, x, act, accumulate, t.scratch(kDInner));

  // d is overwritten below, so the weights that need the gradient at y come first.
  const Residual::LastGradient dlast = residual.leave_backward(backend, ends, dends, t, kept, d, accumulate);
  linears.gradients(backend, LinearMap::down, {w.down, dw.down, act, dlast.d, dlast.scale, accumulate, scratch});
  // After that nobody reads act, and gate only once more: the gradients that [N, F] would hold take their places.
  const View dgate = gate, dup = act;
  backend.panels(d.rows, [&](Rows r) {
    const View dh = panel.at(backend.slot(), r.count);
    backend.matmul_dx({.dx = dup[r], .dy = dlast.d[r], .w = w.down.weight, .add = {}, .scale = dlast.scale});
    Residual::sum_shift(backend, doutput, dup[r], r);
    if (gated()) {
      backend.swiglu_backward({.dgate = dgate[r], .dup = dup[r], .dy = dup[r], .gate = gate[r], .up = up[r]});
      backend.matmul_dx({.dx = dh, .dy = dgate[r], .w = w.gate.weight, .add = {}});
      backend.matmul_dx({.dx = dh, .dy = dup[r], .w = w.up.weight, .add = dh});
    } else {
      backend.gelu_backward({.dx = dup[r], .dy = dup[r], .x = up[r], .kind = gelu()});
      backend.matmul_dx({.dx = dh, .dy = dup[r], .w = w.up.weight, .add = {}});
    }
    Residual::sum_shift(backend, dactivation, gated() ? dgate[r] : dup[r], r);
    residual.enter_backward(backend, ends, t, kept, d, dh, x, r);
  });
  if (gated()) linears.gradients(backend, LinearMap::gate, {w.gate, dw.gate, h, dgate, 1, accumulate, scratch});
  linears.gradients(backend, LinearMap::up, {w.up, dw.up, h, dup, 1, accumulate, scratch});
  if (!dactivation.empty()) {
    Residual::sum_learning(backend, dw.residual.activation, dactivation);
    Residual::sum_learning(backend, dw.residual.output, doutput);
  }
  residual.sum_ends(backend, dends, t, accumulate);
}

}  // namespace elastiform
