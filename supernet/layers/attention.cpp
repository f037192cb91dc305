#include "supernet/layers/attention.hpp"

#include <array>
#include <cmath>

#include "supernet/layers/normalize.hpp"
#include "supernet/layers/residual.hpp"

namespace elastiform {

LayerTensors Attention::tensors(const ModelConfig& model, const BlockShape& shape, const BackendTraits& traits) {
  const std::int64_t N = shape.rows(), C = shape.embed, A = shape.heads * model.head_dim, G = shape.groups * model.head_dim;
  const std::int64_t means = model.norm == Norm::layer ? 1 : 0;
  const std::int64_t panels = traits.panel_count(N);
  LayerTensors tensors;
  // The order of Kept. A query meets (T + 1) / 2 keys on average, twice; the exponentials between take as long as the products.
  tensors.kept = {{.shape = {N, C}, .operand = true, .by_panel = true},
                  {.shape = {N, A}, .operand = true, .flops = 2 * N * C * A},
                  {.shape = {N, G}, .operand = true, .flops = 2 * N * C * G},
                  {.shape = {N, G}, .operand = true, .flops = 2 * N * C * G},
                  {.shape = {N, A}, .operand = true, .flops = 2 * N * A * (shape.tokens + 1), .slowness = 2},
                  {.shape = {1, N}},
                  {.shape = {means, N}},
                  {.shape = {shape.heads, N}}};
  tensors.result_flops = 2 * N * C * A;
  // d(mixed), dq, dk, dv, sums of the norm's gain and bias per panel, d(normed) of a panel, d(result).
  tensors.backward_scratch = {
      {N, A}, {N, A}, {N, G}, {N, G}, {panels, C}, {means * panels, C}, PanelScratch::shape(traits, N, C), branch_gradient_shape(shape)};
  return tensors;
}

std::span<const TensorSet> Attention::levels() {
  static constexpr std::array<TensorSet, 5> kLevels{{{},
                                                     {kNormed},
                                                     {kNormed, kMixed, kLogSumExp},
                                                     {kNormed, kQuery, kKey, kValue},
                                                     {kNormed, kQuery, kKey, kValue, kMixed, kRstd, kMean, kLogSumExp}}};
  return kLevels;
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

void Attention::project(Backend& backend, View y, ConstView h, const WeightSlice& w) const {
  backend.matmul({.y = y, .x = h, .w = w.weight, .bias = w.bias, .add = {}});
}

void Attention::forward(Backend& backend, const AttentionSlices& w, const BlockShape& shape, const Saved& saved, View y, ConstView x,
                        Arena& arena) const {
  const ArenaScope scope(arena);
  const ForwardTensors t(backend, arena, tensors(model_, shape, backend.traits()), saved);
  const View q = t.whole(kQuery), k = t.whole(kKey), v = t.whole(kValue), mixed = t.whole(kMixed);
  backend.panels(x.rows, [&](Rows r) {
    const View h = t.rows(kNormed, r);
    normalize(backend, model_, w.norm, h, t.whole(kRstd), t.whole(kMean), x, r);
    project(backend, q[r], h, w.query);
    project(backend, k[r], h, w.key);
    project(backend, v[r], h, w.value);
    rotate(backend, q[r], r.first, shape.tokens, 0, false);
    rotate(backend, k[r], r.first, shape.tokens, 0, false);
  });
  backend.attention_forward({.out = mixed, .lse = t.whole(kLogSumExp), .q = q, .k = k, .v = v, .shape = kernel_shape(shape, shape.tokens)});
  const DropoutPlace dropout = shape.dropout.attention(shape.block);
  backend.panels(x.rows, [&](Rows r) {
    join(backend, dropout, {.y = y[r], .x = mixed[r], .w = w.out.weight, .bias = w.out.bias, .add = x[r], .scale = model_.branch_scale}, r);
  });
}

Attention::Operands Attention::recall(Backend& backend, const AttentionSlices& w, const BlockShape& shape, const BackwardTensors& t,
                                      ConstView x) const {
  Operands o;
  o.rstd = t.take(kRstd);
  o.mean = t.take(kMean);
  o.h = t.read(kNormed, [&](View out, Rows r) { normalize(backend, model_, w.norm, out, o.rstd, o.mean, x, r); });
  o.q = t.read(kQuery, [&](View out, Rows r) {
    project(backend, out, o.h[r], w.query);
    rotate(backend, out, r.first, shape.tokens, 0, false);
  });
  o.k = t.read(kKey, [&](View out, Rows r) {
    project(backend, out, o.h[r], w.key);
    rotate(backend, out, r.first, shape.tokens, 0, false);
  });
  o.v = t.read(kValue, [&](View out, Rows r) { project(backend, out, o.h[r], w.value); });
  o.mixed = t.take(kMixed);
  o.lse = t.take(kLogSumExp);
  if (t.dropped(kMixed))
    backend.attention_forward({.out = o.mixed, .lse = o.lse, .q = o.q, .k = o.k, .v = o.v, .shape = kernel_shape(shape, shape.tokens)});
  return o;
}

void Attention::backward(Backend& backend, const AttentionSlices& w, const AttentionGradients& dw, const BlockShape& shape,
                         const Saved& saved, View d, ConstView x, bool accumulate, Arena& arena) const {
  enum { kDMixed, kDQuery, kDKey, kDValue, kDGain, kDBias, kPanel, kDResult };
  const ArenaScope scope(arena);
  const LayerTensors declared = tensors(model_, shape, backend.traits());
  const BackwardTensors t(backend, arena, declared, saved);
  const Operands o = recall(backend, w, shape, t, x);
  const View dmixed = t.scratch(kDMixed), dq = t.scratch(kDQuery), dk = t.scratch(kDKey), dv = t.scratch(kDValue);
  const View dgain = t.scratch(kDGain), dbias = w.norm.bias.empty() ? View{} : t.scratch(kDBias);
  const PanelScratch panel(t.scratch(kPanel), backend.slots());

  const ConstView dresult = branch_gradient(backend, shape.dropout.attention(shape.block), d, t.scratch(kDResult));
  // d is overwritten below, so the weights that need the gradient at y come first.
  backend.matmul_dw(
      {.dw = dw.out.weight, .dbias = dw.out.bias, .x = o.mixed, .dy = dresult, .scale = model_.branch_scale, .accumulate = accumulate});
  backend.panels(d.rows, [&](Rows r) {
    backend.matmul_dx({.dx = dmixed[r], .dy = dresult[r], .w = w.out.weight, .add = {}, .scale = model_.branch_scale});
  });
  backend.attention_backward({.dq = dq,
                              .dk = dk,
                              .dv = dv,
                              .dout = dmixed,
                              .out = o.mixed,
                              .lse = o.lse,
                              .q = o.q,
                              .k = o.k,
                              .v = o.v,
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
        {.d = d, .dy = dh, .residual = d, .x = x, .rstd = o.rstd, .mean = o.mean, .gain = w.norm.gain, .dgain = dgain, .dbias = dbias}, r);
  });
  backend.matmul_dw({.dw = dw.query.weight, .dbias = dw.query.bias, .x = o.h, .dy = dq, .accumulate = accumulate});
  backend.matmul_dw({.dw = dw.key.weight, .dbias = dw.key.bias, .x = o.h, .dy = dk, .accumulate = accumulate});
  backend.matmul_dw({.dw = dw.value.weight, .dbias = dw.value.bias, .x = o.h, .dy = dv, .accumulate = accumulate});
  backend.sum_panels({.sum = dw.norm.gain, .partials = dgain, .accumulate = accumulate});
  if (!dbias.empty()) backend.sum_panels({.sum = dw.norm.bias, .partials = dbias, .accumulate = accumulate});
}

ShortList<TensorShape> Attention::decode_scratch(const ModelConfig& model, const BlockShape& shape) {
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
    normalize(backend, model_, w.norm, h[r], {}, {}, x, r);
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
