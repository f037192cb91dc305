#include "supernet/layers/feed_forward.hpp"

#include <array>

#include "supernet/layers/normalize.hpp"
#include "supernet/layers/residual.hpp"

namespace elastiform {

LayerTensors FeedForward::tensors(const ModelConfig& model, const BlockShape& shape, const BackendTraits& traits) {
  const std::int64_t N = shape.rows(), C = shape.embed, F = shape.ffn;
  const std::int64_t gates = model.ffn == FeedForwardKind::swiglu ? N : 0, means = model.norm == Norm::layer ? 1 : 0;
  const std::int64_t panels = traits.panel_count(N), product = 2 * N * C * F;
  LayerTensors tensors;
  // The order of Kept.
  tensors.kept = {{.shape = {N, C}, .operand = true, .by_panel = true},
                  {.shape = {gates, F}, .operand = true, .by_panel = true, .flops = 2 * gates * C * F},
                  {.shape = {N, F}, .operand = true, .by_panel = true, .flops = product},
                  {.shape = {N, F}, .operand = true, .by_panel = true},
                  {.shape = {1, N}},
                  {.shape = {means, N}}};
  tensors.result_flops = product;
  // Sums of the norm's gain and bias per panel, d(normed) of a panel, d(result).
  tensors.backward_scratch = {{panels, C}, {means * panels, C}, PanelScratch::shape(traits, N, C), branch_gradient_shape(shape)};
  return tensors;
}

std::span<const TensorSet> FeedForward::levels() {
  static constexpr std::array<TensorSet, 5> kLevels{
      {{}, {kNormed}, {kActivated}, {kNormed, kActivated}, {kNormed, kGate, kUp, kActivated, kRstd, kMean}}};
  return kLevels;
}

void FeedForward::activate(Backend& backend, View act, ConstView gate, ConstView up) const {
  if (gated()) backend.swiglu_forward({.y = act, .gate = gate, .up = up});
  else backend.gelu_forward({.y = act, .x = up, .kind = gelu()});
}

void FeedForward::forward(Backend& backend, const FeedForwardSlices& w, const BlockShape& shape, const Saved& saved, View y, ConstView x,
                          Arena& arena) const {
  const ArenaScope scope(arena);
  const ForwardTensors t(backend, arena, tensors(model_, shape, backend.traits()), saved);
  const View rstd = t.whole(kRstd), mean = t.whole(kMean);
  const DropoutPlace dropout = shape.dropout.feed_forward(shape.block);
  backend.panels(x.rows, [&](Rows r) {
    const View h = t.rows(kNormed, r), gate = t.rows(kGate, r), up = t.rows(kUp, r), act = t.rows(kActivated, r);
    normalize(backend, model_, w.norm, h, rstd, mean, x, r);
    backend.matmul({.y = up, .x = h, .w = w.up.weight, .bias = w.up.bias, .add = {}});
    if (gated()) backend.matmul({.y = gate, .x = h, .w = w.gate.weight, .bias = w.gate.bias, .add = {}});
    activate(backend, act, gate, up);
    join(backend, dropout, {.y = y[r], .x = act, .w = w.down.weight, .bias = w.down.bias, .add = x[r], .scale = model_.branch_scale}, r);
  });
}

void FeedForward::backward(Backend& backend, const FeedForwardSlices& w, const FeedForwardGradients& dw, const BlockShape& shape,
                           const Saved& saved, View d, ConstView x, bool accumulate, Arena& arena) const {
  enum { kDGain, kDBias, kPanel, kDResult };
  const ArenaScope scope(arena);
  const LayerTensors declared = tensors(model_, shape, backend.traits());
  const BackwardTensors t(backend, arena, declared, saved);
  const View rstd = t.take(kRstd), mean = t.take(kMean);
  const ConstView h = t.read(kNormed, [&](View out, Rows r) { normalize(backend, model_, w.norm, out, rstd, mean, x, r); });
  const View gate =
      t.read(kGate, [&](View out, Rows r) { backend.matmul({.y = out, .x = h[r], .w = w.gate.weight, .bias = w.gate.bias, .add = {}}); });
  const ConstView up =
      t.read(kUp, [&](View out, Rows r) { backend.matmul({.y = out, .x = h[r], .w = w.up.weight, .bias = w.up.bias, .add = {}}); });
  const View act = t.read(kActivated, [&](View out, Rows r) { activate(backend, out, gate[r], up[r]); });
  const View dgain = t.scratch(kDGain), dbias = w.norm.bias.empty() ? View{} : t.scratch(kDBias);
  const PanelScratch panel(t.scratch(kPanel), backend.slots());

  const ConstView dresult = branch_gradient(backend, shape.dropout.feed_forward(shape.block), d, t.scratch(kDResult));
  // d is overwritten below, so the weights that need the gradient at y come first.
  backend.matmul_dw(
      {.dw = dw.down.weight, .dbias = dw.down.bias, .x = act, .dy = dresult, .scale = model_.branch_scale, .accumulate = accumulate});
  // After that nobody reads act, and gate only once more: the gradients that [N, F] would hold take their places.
  const View dgate = gate, dup = act;
  backend.panels(d.rows, [&](Rows r) {
    const View dh = panel.at(backend.slot(), r.count);
    backend.matmul_dx({.dx = dup[r], .dy = dresult[r], .w = w.down.weight, .add = {}, .scale = model_.branch_scale});
    if (gated()) {
      backend.swiglu_backward({.dgate = dgate[r], .dup = dup[r], .dy = dup[r], .gate = gate[r], .up = up[r]});
      backend.matmul_dx({.dx = dh, .dy = dgate[r], .w = w.gate.weight, .add = {}});
      backend.matmul_dx({.dx = dh, .dy = dup[r], .w = w.up.weight, .add = dh});
    } else {
      backend.gelu_backward({.dx = dup[r], .dy = dup[r], .x = up[r], .kind = gelu()});
      backend.matmul_dx({.dx = dh, .dy = dup[r], .w = w.up.weight, .add = {}});
    }
    normalize_backward(
        backend, model_,
        {.d = d, .dy = dh, .residual = d, .x = x, .rstd = rstd, .mean = mean, .gain = w.norm.gain, .dgain = dgain, .dbias = dbias}, r);
  });
  if (gated()) backend.matmul_dw({.dw = dw.gate.weight, .dbias = dw.gate.bias, .x = h, .dy = dgate, .accumulate = accumulate});
  backend.matmul_dw({.dw = dw.up.weight, .dbias = dw.up.bias, .x = h, .dy = dup, .accumulate = accumulate});
  backend.sum_panels({.sum = dw.norm.gain, .partials = dgain, .accumulate = accumulate});
  if (!dbias.empty()) backend.sum_panels({.sum = dw.norm.bias, .partials = dbias, .accumulate = accumulate});
}

}  // namespace elastiform
