#include "supernet/layers/attention.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "supernet/layers/normalize.hpp"
#include "supernet/parametrizations/parametrization.hpp"

namespace elastiform {

LayerTensors Attention::tensors(const ModelConfig& model, const BlockShape& shape, const BackendTraits& traits) {
  const std::int64_t N = shape.rows(), C = shape.embed, A = shape.heads * model.head_dim, G = shape.groups * model.head_dim;
  const std::int64_t inputs = Residual::input_rows(model, N), branches = Residual::branch_rows(model, N);
  const std::int64_t shifted = residual_form(model).shifts ? N : 0;
  const Linears linears(model);
  const BranchEnd end(model);
  const bool reads_normed =
      linears.reads_input(LinearMap::query) || linears.reads_input(LinearMap::key) || linears.reads_input(LinearMap::value);
  LayerTensors tensors;
  // The order of Kept. A query meets its keys twice; the exponentials between take as long as the products.
  // Weights of keys are exp of queries and keys; gradients are linear in all the rest but what norms, gates and adapters read again.
  const std::int64_t product = branches > 0 ? 0 : 2 * N * C * A;  // that makes what the branch leaves
  const std::int64_t mixing = 2 * N * A * model.keys_met_twice(shape.tokens);
  tensors.kept = {{.shape = {inputs, C},
                   .operand = true,
                   .by_panel = true,
                   .read = reads_normed,
                   .makes = {kQuery, kKey, kValue},
                   .least_bits = 2,
                   .gradient_flops = 2 * N * C * (A + 2 * G)},
                  {.shape = {N, A}, .operand = true, .flops = 2 * N * C * A, .least_bits = 8, .gradient_flops = mixing},
                  {.shape = {N, G}, .operand = true, .flops = 2 * N * C * G, .least_bits = 8, .gradient_flops = mixing},
                  {.shape = {N, G}, .operand = true, .flops = 2 * N * C * G, .least_bits = 2, .gradient_flops = mixing},
                  {.shape = {N, A}, .operand = true, .flops = mixing, .slowness = 2, .least_bits = 2, .gradient_flops = 2 * N * C * A},
                  {.shape = {Residual::norm_rows(model), N}},
                  {.shape = {Residual::mean_rows(model), N}},
                  {.shape = {shape.heads, N}},
                  {.shape = {shifted, A},
                   .operand = true,
                   .by_panel = true,
                   .read = linears.reads_input(LinearMap::out),
                   .makes = {kBranch, kStream},
                   .least_bits = 2,
                   .gradient_flops = 2 * shifted * C * A},
                  {.shape = {branches, C}, .by_panel = true, .flops = 2 * branches * C * A},
                  end.stream(N, C, product),
                  end.inner(N, C),
                  end.activated(N)};
  tensors.result_flops = end.result_flops(N, C, product);
  // What the ends need, d(mixed), dq, dk, dv, sums of the last shift per panel, what gradients of linear maps and of an adapter take.
  Residual::add_scratch(model, traits, shape, tensors);
  const std::int64_t shift_panels = shifted > 0 ? traits.panel_count(N) : 0;
  const auto gradients = linears.gradient_scratch(N, std::max(A, C));
  for (const TensorShape& one :
       ShortList<TensorShape>{{N, A}, {N, A}, {N, G}, {N, G}, {shift_panels, A}, gradients[0], gradients[1], end.backward_scratch(N)})
    tensors.backward_scratch.push_back(one);
  linears.declare_effective(tensors.effective, LinearMap::query, C, A);
  linears.declare_effective(tensors.effective, LinearMap::key, C, G);
  linears.declare_effective(tensors.effective, LinearMap::value, C, G);
  linears.declare_effective(tensors.effective, LinearMap::out, A, C);
  return tensors;
}

std::span<const TensorSet> Attention::levels() {
  static constexpr std::array<TensorSet, 5> kLevels{
      {{},
       {kNormed, kShifted},
       {kNormed, kShifted, kMixed, kLogSumExp},
       {kNormed, kShifted, kQuery, kKey, kValue},
       {kNormed, kQuery, kKey, kValue, kMixed, kRstd, kMean, kLogSumExp, kShifted, kBranch, kStream, kInner, kInnerActivated}}};
  return kLevels;
}

AttentionShape Attention::kernel_shape(const BlockShape& shape, std::int64_t key_tokens) const {
  return {.batch = shape.batch,
          .query_tokens = shape.tokens,
          .key_tokens = key_tokens,
          .heads = shape.heads,
          .groups = shape.groups,
          .head_dim = model_.head_dim,
          .scale = 1 / std::sqrt(static_cast<double>(model_.head_dim)),
          .causal = model_.causal};
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
  put_prefix(backend, shape, k, w.prefix_key);
  put_prefix(backend, shape, v, w.prefix_value);
  backend.attention_forward({.out = mixed, .lse = t.whole(kLogSumExp), .q = q, .k = k, .v = v, .shape = kernel_shape(shape, shape.tokens)});
  const BranchEnd end(model_);
  backend.panels(x.rows, [&](Rows r) {
    const ConstView last = shifted(backend, w, t.rows(kShifted, r), mixed[r]);
    const View z = end.result(t.rows(kStream, r), y[r]);
    residual.leave(backend, ends, z, t.rows(kBranch, r), kept, x, last, r);
    end.forward(backend, w.end, y[r], z, t.rows(kInner, r), t.rows(kInnerActivated, r));
  });
}

void Attention::put_prefix(Backend& backend, const BlockShape& shape, View x, ConstView prefix) {
  if (prefix.empty()) return;
  backend.for_each(shape.batch, [&](std::int64_t i) {  // x is an operand, and may be bf16
    backend.affine_forward({.y = x.row_range(i * shape.tokens, prefix.rows), .x = prefix, .gain = {}, .shift = {}, .add = {}});
  });
}

void Attention::take_prefix(Backend& backend, const BlockShape& shape, View dprefix, View dx) {
  if (dprefix.empty()) return;
  for (std::int64_t i = 0; i < shape.batch; ++i) {
    const View rows = dx.row_range(i * shape.tokens, dprefix.rows);
    backend.add(dprefix, rows);
    backend.zero(rows);
  }
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
  const View k = t.read(kKey, [&](View out, Rows r) {
    project(backend, out, o.h[r], w.key);
    rotate(backend, out, shape, r.first, 0, false);
  });
  const View v = t.read(kValue, [&](View out, Rows r) { project(backend, out, o.h[r], w.value); });
  put_prefix(backend, shape, k, w.prefix_key);
  put_prefix(backend, shape, v, w.prefix_value);
  o.k = k, o.v = v;
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

void Attention::end_backward(Backend& backend, const Residual& residual, const AttentionSlices& w, const AttentionGradients& dw,
                             const BackwardTensors& t, const Operands& o, View d, ConstView x, bool accumulate, View scratch) const {
  const BranchEnd end(model_);
  if (!end.present()) return;
  const BranchEnds ends = w.ends();
  const ConstView z = t.read(kStream, [&](View out, Rows r) { residual.leave_again(backend, ends, out, o.ends, x, o.last[r], r); });
  const ConstView inner = t.read(kInner, [&](View out, Rows r) { end.inward(backend, w.end, out, z[r]); });
  const ConstView activated = t.read(kInnerActivated, [&](View out, Rows r) { end.activate(backend, out, inner[r]); });
  end.backward(backend, w.end, dw.end, {z, inner, activated, scratch}, d, accumulate);
}

void Attention::backward(Backend& backend, const AttentionSlices& w, const AttentionGradients& dw, const BlockShape& shape,
                         const Saved& saved, View d, ConstView x, bool accumulate, Arena& arena) const {
  enum { kDMixed = Residual::kScratch, kDQuery, kDKey, kDValue, kDShift, kLeft, kRight, kDInner };
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
  const Linears linears(model_);
  const std::array<View, 2> scratch{t.scratch(kLeft), t.scratch(kRight)};
  end_backward(backend, residual, w, dw, t, o, d, x, accumulate, t.scratch(kDInner));

  // d is overwritten below, so the weights that need the gradient at y come first.
  const Residual::LastGradient dlast = residual.leave_backward(backend, ends, dends, t, o.ends, d, accumulate);
  linears.gradients(backend, LinearMap::out, {w.out, dw.out, o.last, dlast.d, dlast.scale, accumulate, scratch});
  backend.panels(d.rows, [&](Rows r) {
    backend.matmul_dx({.dx = dmixed[r], .dy = dlast.d[r], .w = w.out.weight, .add = {}, .scale = dlast.scale});
    Residual::sum_shift(backend, dshift, dmixed[r], r);
  });
  Residual::sum_learning(backend, dw.residual.output, dshift);
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
  take_prefix(backend, shape, dw.prefix_key, dk);
  take_prefix(backend, shape, dw.prefix_value, dv);
  backend.panels(d.rows, [&](Rows r) {
    const View dh = panel.at(backend.slot(), r.count);
    rotate(backend, dq[r], shape, r.first, 0, true);
    rotate(backend, dk[r], shape, r.first, 0, true);
    backend.matmul_dx({.dx = dh, .dy = dq[r], .w = w.query.weight, .add = {}});
    backend.matmul_dx({.dx = dh, .dy = dk[r], .w = w.key.weight, .add = dh});
    backend.matmul_dx({.dx = dh, .dy = dv[r], .w = w.value.weight, .add = dh});
    residual.enter_backward(backend, ends, t, o.ends, d, dh, x, r);
  });
  linears.gradients(backend, LinearMap::query, {w.query, dw.query, o.h, dq, 1, accumulate, scratch});
  linears.gradients(backend, LinearMap::key, {w.key, dw.key, o.h, dk, 1, accumulate, scratch});
  linears.gradients(backend, LinearMap::value, {w.value, dw.value, o.h, dv, 1, accumulate, scratch});
  residual.sum_ends(backend, dends, t, accumulate);
}

ShortList<TensorShape> Attention::decode_scratch(const ModelConfig& model, const BlockShape& shape) {
  const std::int64_t N = shape.rows(), A = shape.heads * model.head_dim;
  const BranchEnd end(model);
  // normed, query, mixed, branch, what an adapter takes
  return {{Residual::input_rows(model, N), shape.embed},
          {N, A},
          {N, A},
          {Residual::branch_rows(model, N), shape.embed},
          end.stream(N, shape.embed, 0).shape,
          end.inner(N, shape.embed).shape,
          end.activated(N).shape};
}

void Attention::decode(Backend& backend, const AttentionSlices& w, const BlockShape& shape, const BlockCache& cache, View y, ConstView x,
                       Arena& arena) const {
  enum { kH, kQ, kM, kB, kZ, kU, kG };
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
  const BranchEnd end(model_);
  const View inner = scratch.write(kU), activated = scratch.write(kG);
  backend.panels(x.rows, [&](Rows r) {
    Residual::shift(backend, mixed[r], w.residual.output);
    const View z = end.result(scratch.write(kZ)[r], y[r]);
    residual.leave(backend, ends, z, scratch.write(kB)[r], {}, x, mixed[r], r);
    end.forward(backend, w.end, y[r], z, inner[r], activated[r]);
  });
}

}  // namespace elastiform
