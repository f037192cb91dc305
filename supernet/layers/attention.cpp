#include "supernet/layers/attention.hpp"

#include <array>
#include <cmath>

#include "supernet/layers/normalize.hpp"

namespace elastiform {

LayerTensors Attention::tensors(const ModelConfig& model, const BlockShape& shape, const BackendTraits& traits) {
  const std::int64_t N = shape.rows(), C = shape.embed, A = shape.heads * model.head_dim, G = shape.groups * model.head_dim;
  const std::int64_t inputs = Residual::input_rows(model, N), branches = Residual::branch_rows(model, N);
  const std::int64_t shifted = residual_form(model).shifts ? N : 0;
  LayerTensors tensors;
  // The order of Kept. A query meets (T + 1) / 2 keys on average, twice; the exponentials between take as long as the products.
  tensors.kept = {{.shape = {inputs, C}, .operand = true, .by_panel = true},
                  {.shape = {N, A}, .operand = true, .flops = 2 * N * C * A},
                  {.shape = {N, G}, .operand = true, .flops = 2 * N * C * G},
                  {.shape = {N, G}, .operand = true, .flops = 2 * N * C * G},
                  {.shape = {N, A}, .operand = true, .flops = 2 * N * A * (shape.tokens + 1), .slowness = 2},
                  {.shape = {Residual::norm_rows(model), N}},
                  {.shape = {Residual::mean_rows(model), N}},
                  {.shape = {shape.heads, N}},
                  {.shape = {shifted, A}, .operand = true, .by_panel = true},
                  {.shape = {branches, C}, .by_panel = true, .flops = 2 * branches * C * A}};
  tensors.result_flops = branches > 0 ? 0 : 2 * N * C * A;
  // What the ends need, d(mixed), dq, dk, dv, sums of the last shift per panel.
  Residual::add_scratch(model, traits, shape, tensors);
  const std::int64_t shift_panels = shifted > 0 ? traits.panel_count(N) : 0;
  for (const TensorShape& one : ShortList<TensorShape>{{N, A}, {N, A}, {N, G}, {N, G}, {shift_panels, A}})
    tensors.backward_scratch.push_back(one);
  return tensors;
}

std::span<const TensorSet> Attention::levels() {
  static constexpr std::array<TensorSet, 5> kLevels{{{},
                                                     {kNormed, kShifted},
                                                     {kNormed, kShifted, kMixed, kLogSumExp},
                                                     {kNormed, kShifted, kQuery, kKey, kValue},
                                                     {kNormed, kQuery, kKey, kValue, kMixed, kRstd, kMean, kLogSumExp, kShifted, kBranch}}};
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

void Attention::rotate(Backend& backend, View x, const BlockShape& shape, std::int64_t first_row, std::int64_t offset, bool inverse) const {
  if (cosine_.empty()) return;
  const bool of_rows = !shape.cosine.empty();
  backend.rope({.x = x,
                .cosine = of_rows ? shape.cosine : cosine_,
                .sine = of_rows ? shape.sine : sine_,
                .first_row = first_row,
                .period = of_rows ? shape.rows() : shape.tokens,
                .offset = offset,
                .inverse = inverse});
}

void Attention::project(Backend& backend, View y, ConstView h, const WeightSlice& w) const {
  backend.matmul({.y = y, .x = h, .w = w.weight, .bias = w.bias, .add = {}});
}

void Attention::forward(Backend& backend, const AttentionSlices& w, const BlockShape& shape, const Saved& saved, View y, ConstView x,
                        Arena& arena) const {
  const ArenaScope scope(arena);
  const ForwardTensors t(backend, arena, tensors(model_, shape, backend.traits()), saved);
  const View q = t.whole(kQuery), k = t.whole(kKey), v = t.whole(kValue), mixed = t.whole(kMixed);
  const Residual residual(model_, shape.depth, shape.dropout.attention(shape.block));
  const BranchEnds ends = w.ends();
  const EndTensors kept{{}, t.whole(kRstd), t.whole(kMean)};
  backend.panels(x.rows, [&](Rows r) {
    const ConstView h = residual.enter(backend, ends, t.rows(kNormed, r), kept, x, r);
    project(backend, q[r], h, w.query);
    project(backend, k[r], h, w.key);
    project(backend, v[r], h, w.value);
    rotate(backend, q[r], shape, r.first, 0, false);
    rotate(backend, k[r], shape, r.first, 0, false);
  });
  backend.attention_forward({.out = mixed, .lse = t.whole(kLogSumExp), .q = q, .k = k, .v = v, .shape = kernel_shape(shape, shape.tokens)});
  backend.panels(x.rows, [&](Rows r) {
    const ConstView last = shifted(backend, w, t.rows(kShifted, r), mixed[r]);
    residual.leave(backend, ends, y[r], t.rows(kBranch, r), kept, x, last, r);
  });
}

ConstView Attention::shifted(Backend& backend, const AttentionSlices& w, View to, ConstView mixed) const {
  if (w.residual.output.empty()) return mixed;
  backend.affine_forward({.y = to, .x = mixed, .gain = {}, .shift = w.residual.output, .add = {}});
  return to;
}

Attention::Operands Attention::recall(Backend& backend, const Residual& residual, const AttentionSlices& w, const BlockShape& shape,
                                      const BackwardTensors& t, ConstView x) const {
  Operands o;
  const BranchEnds ends = w.ends();
  o.ends.rstd = t.take(kRstd);
  o.ends.mean = t.take(kMean);
  o.h = t.read(kNormed, [&](View out, Rows r) { residual.enter(backend, ends, out, o.ends, x, r); });
  if (o.h.empty()) o.h = x;
  o.q = t.read(kQuery, [&](View out, Rows r) {
    project(backend, out, o.h[r], w.query);
    rotate(backend, out, shape, r.first, 0, false);
  });
  o.k = t.read(kKey, [&](View out, Rows r) {
    project(backend, out, o.h[r], w.key);
    rotate(backend, out, shape, r.first, 0, false);
  });
  o.v = t.read(kValue, [&](View out, Rows r) { project(backend, out, o.h[r], w.value); });
  o.mixed = t.take(kMixed);
  o.lse = t.take(kLogSumExp);
  if (t.dropped(kMixed))
    backend.attention_forward({.out = o.mixed, .lse = o.lse, .q = o.q, .k = o.k, .v = o.v, .shape = kernel_shape(shape, shape.tokens)});
  o.last = t.read(kShifted, [&](View out, Rows r) { shifted(backend, w, out, o.mixed[r]); });
  if (o.last.empty()) o.last = o.mixed;
  o.ends.branch = t.read(kBranch, [&](View out, Rows r) { residual.branch_again(backend, ends, out, x, o.last[r], r); });
  if (t.dropped(kRstd)) residual.statistics_again(backend, ends, o.ends, PanelScratch(t.scratch(Residual::kPanel), backend.slots()));
  return o;
}

void Attention::backward(Backend& backend, const AttentionSlices& w, const AttentionGradients& dw, const BlockShape& shape,
                         const Saved& saved, View d, ConstView x, bool accumulate, Arena& arena) const {
  enum { kDMixed = Residual::kScratch, kDQuery, kDKey, kDValue, kDShift };
  const ArenaScope scope(arena);
  const LayerTensors declared = tensors(model_, shape, backend.traits());
  const BackwardTensors t(backend, arena, declared, saved);
  const Residual residual(model_, shape.depth, shape.dropout.attention(shape.block));
  const BranchEnds ends = w.ends();
  const BranchEndGradients dends = dw.ends();
  const Operands o = recall(backend, residual, w, shape, t, x);
  const View dmixed = t.scratch(kDMixed), dq = t.scratch(kDQuery), dk = t.scratch(kDKey), dv = t.scratch(kDValue);
  const View dshift = t.scratch(kDShift);
  const PanelScratch panel(t.scratch(Residual::kPanel), backend.slots());

  // d is overwritten below, so the weights that need the gradient at y come first.
  const Residual::LastGradient dlast = residual.leave_backward(backend, ends, dends, t, o.ends, d, accumulate);
  backend.matmul_dw(
      {.dw = dw.out.weight, .dbias = dw.out.bias, .x = o.last, .dy = dlast.d, .scale = dlast.scale, .accumulate = accumulate});
  backend.panels(d.rows, [&](Rows r) {
    backend.matmul_dx({.dx = dmixed[r], .dy = dlast.d[r], .w = w.out.weight, .add = {}, .scale = dlast.scale});
    Residual::sum_shift(backend, dshift, dmixed[r], r);
  });
  if (!dshift.empty()) backend.sum_panels({.sum = dw.residual.output, .partials = dshift});
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
    rotate(backend, dq[r], shape, r.first, 0, true);
    rotate(backend, dk[r], shape, r.first, 0, true);
    backend.matmul_dx({.dx = dh, .dy = dq[r], .w = w.query.weight, .add = {}});
    backend.matmul_dx({.dx = dh, .dy = dk[r], .w = w.key.weight, .add = dh});
    backend.matmul_dx({.dx = dh, .dy = dv[r], .w = w.value.weight, .add = dh});
    residual.enter_backward(backend, ends, t, o.ends, d, dh, x, r);
  });
  backend.matmul_dw({.dw = dw.query.weight, .dbias = dw.query.bias, .x = o.h, .dy = dq, .accumulate = accumulate});
  backend.matmul_dw({.dw = dw.key.weight, .dbias = dw.key.bias, .x = o.h, .dy = dk, .accumulate = accumulate});
  backend.matmul_dw({.dw = dw.value.weight, .dbias = dw.value.bias, .x = o.h, .dy = dv, .accumulate = accumulate});
  residual.sum_ends(backend, dends, t, accumulate);
}

ShortList<TensorShape> Attention::decode_scratch(const ModelConfig& model, const BlockShape& shape) {
  const std::int64_t N = shape.rows(), A = shape.heads * model.head_dim;
  // normed, query, mixed, branch
  return {{Residual::input_rows(model, N), shape.embed}, {N, A}, {N, A}, {Residual::branch_rows(model, N), shape.embed}};
}

void Attention::decode(Backend& backend, const AttentionSlices& w, const BlockShape& shape, const BlockCache& cache, View y, ConstView x,
                       Arena& arena) const {
  enum { kH, kQ, kM, kB };
  const ArenaScope scope(arena);
  const Saved scratch(arena, decode_scratch(model_, shape), backend.dtype());
  const View q = scratch.write(kQ), mixed = scratch.write(kM);
  const Residual residual(model_, shape.depth);
  const BranchEnds ends = w.ends();
  const std::int64_t seen = cache.tokens, total = seen + x.rows;
  backend.panels(x.rows, [&](Rows r) {
    const View k = cache.keys.row_range(seen + r.first, r.count), v = cache.values.row_range(seen + r.first, r.count);
    const ConstView h = residual.enter(backend, ends, scratch.write(kH)[r], {}, x, r);
    project(backend, q[r], h, w.query);
    project(backend, k, h, w.key);
    project(backend, v, h, w.value);
    rotate(backend, q[r], shape, r.first, seen, false);
    rotate(backend, k, shape, r.first, seen, false);
  });
  backend.attention_forward({.out = mixed,
                             .lse = {},
                             .q = q,
                             .k = cache.keys.row_range(0, total),
                             .v = cache.values.row_range(0, total),
                             .shape = kernel_shape(shape, total)});
  backend.panels(x.rows, [&](Rows r) {
    Residual::shift(backend, mixed[r], w.residual.output);
    residual.leave(backend, ends, y[r], scratch.write(kB)[r], {}, x, mixed[r], r);
  });
}

}  // namespace elastiform
