#include "supernet/layers/feed_forward.hpp"

#include "supernet/layers/normalize.hpp"

namespace elastiform {

LayerTensors FeedForward::tensors(const ModelConfig& model, const BlockShape& shape, int slots) {
  const std::int64_t N = shape.rows(), C = shape.embed, F = shape.ffn;
  const std::int64_t gates = model.ffn == FeedForwardKind::swiglu ? N : 0, means = model.norm == Norm::layer ? 1 : 0;
  const std::int64_t panels = Backend::panel_count(N);
  LayerTensors tensors;
  // The order of Kept.
  tensors.saved = {{N, C}, {gates, F}, {N, F}, {N, F}, {1, N}, {means, N}, {N, C}};
  // dgate, dup, sums of the norm's gain and bias per panel, d(normed) of a panel.
  tensors.backward_scratch = {{gates, F}, {N, F}, {panels, C}, {means * panels, C}, PanelScratch::shape(slots, C)};
  return tensors;
}

void FeedForward::forward(Backend& backend, const FeedForwardSlices& w, const Saved& saved, View y, ConstView x) const {
  const View h = saved.write(kNormed), gate = saved.write(kGate), up = saved.write(kUp), act = saved.write(kActivated);
  const View rstd = saved.write(kRstd), mean = saved.write(kMean);
  backend.panels(x.rows, [&](Rows r) {
    normalize(backend, model_, w.norm, h, rstd, mean, x, r);
    backend.matmul({.y = up[r], .x = h[r], .w = w.up.weight, .bias = w.up.bias, .add = {}});
    if (gated()) {
      backend.matmul({.y = gate[r], .x = h[r], .w = w.gate.weight, .bias = w.gate.bias, .add = {}});
      backend.swiglu_forward({.y = act[r], .gate = gate[r], .up = up[r]});
    } else {
      backend.gelu_forward({.y = act[r], .x = up[r], .kind = gelu()});
    }
    backend.matmul({.y = y[r], .x = act[r], .w = w.down.weight, .bias = w.down.bias, .add = x[r], .scale = model_.branch_scale});
  });
}

void FeedForward::backward(Backend& backend, const FeedForwardSlices& w, const FeedForwardGradients& dw, const BlockShape& shape,
                           const Saved& saved, View d, ConstView x, Arena& arena) const {
  enum { kDGate, kDUp, kDGain, kDBias, kPanel };
  const ArenaScope scope(arena);
  const Saved scratch(arena, tensors(model_, shape, backend.slots()).backward_scratch, backend.dtype());
  const ConstView h = saved.read(kNormed), gate = saved.read(kGate), up = saved.read(kUp), act = saved.read(kActivated);
  const ConstView rstd = saved.read(kRstd), mean = saved.read(kMean);
  const View dgate = scratch.write(kDGate), dup = scratch.write(kDUp), dgain = scratch.write(kDGain);
  const View dbias = w.norm.bias.empty() ? View{} : scratch.write(kDBias);
  const PanelScratch panel = scratch.write(kPanel);

  // d is overwritten below, so the weights that need the gradient at y come first.
  backend.matmul_dw({.dw = dw.down.weight, .dbias = dw.down.bias, .x = act, .dy = d, .scale = model_.branch_scale});
  backend.panels(d.rows, [&](Rows r) {
    const View dh = panel.at(backend.slot(), r.count);
    backend.matmul_dx({.dx = dup[r], .dy = d[r], .w = w.down.weight, .add = {}, .scale = model_.branch_scale});
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
  if (gated()) backend.matmul_dw({.dw = dw.gate.weight, .dbias = dw.gate.bias, .x = h, .dy = dgate});
  backend.matmul_dw({.dw = dw.up.weight, .dbias = dw.up.bias, .x = h, .dy = dup});
  backend.sum_panels({.sum = dw.norm.gain, .partials = dgain});
  if (!dbias.empty()) backend.sum_panels({.sum = dw.norm.bias, .partials = dbias});
}

}  // namespace elastiform
