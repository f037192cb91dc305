#include "supernet/layers/attention.hpp"

#include <cmath>

#include "supernet/layers/normalize.hpp"

namespace elastiform {

LayerTensors Attention::tensors(const ModelConfig& model, const BlockShape& shape, int slots) {
  const std::int64_t N = shape.rows(), C = shape.embed, A = shape.heads * model.head_dim, G = shape.groups * model.head_dim;
  const std::int64_t means = model.norm == Norm::layer ? 1 : 0;
  const std::int64_t panels = Backend::panel_count(N);
  LayerTensors tensors;
  // The order of Kept.
  tensors.saved = {{N, C}, {N, A}, {N, G}, {N, G}, {N, A}, {1, N}, {means, N}, {shape.heads, N}, {N, C}};
  // d(mixed), dq, dk, dv, sums of the norm's gain and bias per panel, d(normed) of a panel.
  tensors.backward_scratch = {{N, A}, {N, A}, {N, G}, {N, G}, {panels, C}, {means * panels, C}, PanelScratch::shape(slots, C)};
  return tensors;
}

AttentionShape Attention::kernel_shape(const BlockShape& shape, std::int64_t key_tokens) const {
  return {.batch = shape.batch,
          .query_tokens = shape.tokens,
          .key_tokens = key_tokens,
          .heads = shape.heads,
          .groups = shape.groups,
          .head_dim = model_.head_dim,
          .scale = 1 / std::sqrt(static_cast<double>(model_.head_dim))};
}

void Attention::rotate(Backend& backend, View x, std::int64_t first_row, std::int64_t period, std::int64_t offset, bool inverse) const {
  if (cosine_.empty()) return;
  backend.rope({.x = x, .cosine = cosine_, .sine = sine_, .first_row = first_row, .period = period, .offset = offset, .inverse = inverse});
}

void Attention::forward(Backend& backend, const AttentionSlices& w, const BlockShape& shape, const Saved& saved, View y,
                        ConstView x) const {
  const View h = saved.write(kNormed), q = saved.write(kQuery), k = saved.write(kKey), v = saved.write(kValue), mixed = saved.write(kMixed);
  const View rstd = saved.write(kRstd), mean = saved.write(kMean);
  backend.panels(x.rows, [&](Rows r) {
    normalize(backend, model_, w.norm, h, rstd, mean, x, r);
    backend.matmul({.y = q[r], .x = h[r], .w = w.query.weight, .bias = w.query.bias, .add = {}});
    backend.matmul({.y = k[r], .x = h[r], .w = w.key.weight, .bias = w.key.bias, .add = {}});
    backend.matmul({.y = v[r], .x = h[r], .w = w.value.weight, .bias = w.value.bias, .add = {}});
    rotate(backend, q[r], r.first, shape.tokens, 0, false);
    rotate(backend, k[r], r.first, shape.tokens, 0, false);
  });
  backend.attention_forward(
      {.out = mixed, .lse = saved.write(kLogSumExp), .q = q, .k = k, .v = v, .shape = kernel_shape(shape, shape.tokens)});
  backend.panels(x.rows, [&](Rows r) {
    backend.matmul({.y = y[r], .x = mixed[r], .w = w.out.weight, .bias = w.out.bias, .add = x[r], .scale = model_.branch_scale});
  });
}

void Attention::backward(Backend& backend, const AttentionSlices& w, const AttentionGradients& dw, const BlockShape& shape,
                         const Saved& saved, View d, ConstView x, Arena& arena) const {
  enum { kDMixed, kDQuery, kDKey, kDValue, kDGain, kDBias, kPanel };
  const ArenaScope scope(arena);
  const Saved scratch(arena, tensors(model_, shape, backend.slots()).backward_scratch, backend.dtype());
  const ConstView h = saved.read(kNormed), q = saved.read(kQuery), k = saved.read(kKey), v = saved.read(kValue), mixed = saved.read(kMixed);
  const ConstView rstd = saved.read(kRstd), mean = saved.read(kMean);
  const View dmixed = scratch.write(kDMixed), dq = scratch.write(kDQuery), dk = scratch.write(kDKey), dv = scratch.write(kDValue);
  const View dgain = scratch.write(kDGain), dbias = w.norm.bias.empty() ? View{} : scratch.write(kDBias);
  const PanelScratch panel = scratch.write(kPanel);

  // d is overwritten below, so the weights that need the gradient at y come first.
  backend.matmul_dw({.dw = dw.out.weight, .dbias = dw.out.bias, .x = mixed, .dy = d, .scale = model_.branch_scale});
  backend.panels(d.rows, [&](Rows r) {
    backend.matmul_dx({.dx = dmixed[r], .dy = d[r], .w = w.out.weight, .add = {}, .scale = model_.branch_scale});
  });
  backend.attention_backward({.dq = dq,
                              .dk = dk,
                              .dv = dv,
                              .dout = dmixed,
                              .out = mixed,
                              .lse = saved.read(kLogSumExp),
                              .q = q,
                              .k = k,
                              .v = v,
                              .shape = kernel_shape(shape, shape.tokens)});
  backend.panels(d.rows, [&](Rows r) {
    const View dh = panel.at(backend.slot(), r.count);
    rotate(backend, dq[r], r.first, shape.tokens, 0, true);
    rotate(backend, dk[r], r.first, shape.tokens, 0, true);
    backend.matmul_dx({.dx = dh, .dy = dq[r], .w = w.query.weight, .add = {}});
    backend.matmul_dx({.dx = dh, .dy = dk[r], .w = w.key.weight, .add = dh});
    backend.matmul_dx({.dx = dh, .dy = dv[r], .w = w.value.weight, .add = dh});
    normalize_backward(
        backend, model_,
        {.d = d, .dy = dh, .residual = d, .x = x, .rstd = rstd, .mean = mean, .gain = w.norm.gain, .dgain = dgain, .dbias = dbias}, r);
  });
  backend.matmul_dw({.dw = dw.query.weight, .dbias = dw.query.bias, .x = h, .dy = dq});
  backend.matmul_dw({.dw = dw.key.weight, .dbias = dw.key.bias, .x = h, .dy = dk});
  backend.matmul_dw({.dw = dw.value.weight, .dbias = dw.value.bias, .x = h, .dy = dv});
  backend.sum_panels({.sum = dw.norm.gain, .partials = dgain});
  if (!dbias.empty()) backend.sum_panels({.sum = dw.norm.bias, .partials = dbias});
}

std::vector<TensorShape> Attention::decode_scratch(const ModelConfig& model, const BlockShape& shape) {
  const std::int64_t N = shape.rows(), A = shape.heads * model.head_dim;
  return {{N, shape.embed}, {N, A}, {N, A}};  // normed, query, mixed
}

void Attention::decode(Backend& backend, const AttentionSlices& w, const BlockShape& shape, const BlockCache& cache, View y, ConstView x,
                       Arena& arena) const {
  enum { kH, kQ, kM };
  const ArenaScope scope(arena);
  const Saved scratch(arena, decode_scratch(model_, shape), backend.dtype());
  const View h = scratch.write(kH), q = scratch.write(kQ), mixed = scratch.write(kM);
  const std::int64_t seen = cache.tokens, total = seen + x.rows;
  backend.panels(x.rows, [&](Rows r) {
    const View k = cache.keys.row_range(seen + r.first, r.count), v = cache.values.row_range(seen + r.first, r.count);
    normalize(backend, model_, w.norm, h, {}, {}, x, r);
    backend.matmul({.y = q[r], .x = h[r], .w = w.query.weight, .bias = w.query.bias, .add = {}});
    backend.matmul({.y = k, .x = h[r], .w = w.key.weight, .bias = w.key.bias, .add = {}});
    backend.matmul({.y = v, .x = h[r], .w = w.value.weight, .bias = w.value.bias, .add = {}});
    rotate(backend, q[r], r.first, x.rows, seen, false);
    rotate(backend, k, r.first, x.rows, seen, false);
  });
  backend.attention_forward({.out = mixed,
                             .lse = {},
                             .q = q,
                             .k = cache.keys.row_range(0, total),
                             .v = cache.values.row_range(0, total),
                             .shape = kernel_shape(shape, total)});
  backend.panels(x.rows, [&](Rows r) {
    backend.matmul({.y = y[r], .x = mixed[r], .w = w.out.weight, .bias = w.out.bias, .add = x[r], .scale = model_.branch_scale});
  });
}

}  // namespace elastiform
