#include "supernet/layers/residual.hpp"

#include "supernet/layers/normalize.hpp"
#include "supernet/residual_rules/residual_rule.hpp"

namespace elastiform {
namespace {

View panel_of(View partials, Rows r) { return partials.empty() ? partials : partials.row_range(r.panel, 1); }

}  // namespace

Residual::Residual(const ModelConfig& model, int depth, const DropoutPlace& dropout)
    : model_(model), form_(residual_form(model)), scale_(branch_scale(model, depth)), dropout_(dropout) {}

std::int64_t Residual::input_rows(const ModelConfig& model, std::int64_t N) {
  const ResidualForm& form = residual_form(model);
  return form.norm == NormPlace::before || form.shifts ? N : 0;
}
std::int64_t Residual::branch_rows(const ModelConfig& model, std::int64_t N) { return residual_form(model).fuses() ? 0 : N; }
std::int64_t Residual::norm_rows(const ModelConfig& model) { return residual_form(model).norm == NormPlace::none ? 0 : 1; }
std::int64_t Residual::mean_rows(const ModelConfig& model) { return model.norm == Norm::layer ? norm_rows(model) : 0; }

void Residual::add_scratch(const ModelConfig& model, const BackendTraits& traits, const BlockShape& shape, LayerTensors& tensors) {
  const ResidualForm& form = residual_form(model);
  const std::int64_t N = shape.rows(), C = shape.embed, panels = traits.panel_count(N);
  const bool gated = form.gate != Gate::none;
  // The order of Scratch.
  tensors.backward_scratch.push_back({form.norm != NormPlace::none || form.shifts ? panels : 0, C});
  tensors.backward_scratch.push_back({mean_rows(model) * panels, C});
  tensors.backward_scratch.push_back({gated || form.skip_gain ? panels : 0, C});
  tensors.backward_scratch.push_back({gated || shape.dropout.is_on() ? N : 0, C});
  tensors.backward_scratch.push_back(PanelScratch::shape(traits, N, C));
}

ConstView Residual::enter(Backend& backend, const BranchEnds& w, View h, const EndTensors& t, ConstView x, Rows r) const {
  if (form_.norm == NormPlace::before) normalize(backend, model_, w.norm, h, t.rstd, t.mean, x, r);
  else if (form_.shifts) backend.affine_forward({.y = h, .x = x[r], .gain = {}, .shift = w.residual.input, .add = {}});
  else return x[r];
  return h;
}

void Residual::shift(Backend& backend, View x, ConstView shift) {
  if (!shift.empty()) backend.affine_forward({.y = x, .x = x, .gain = {}, .shift = shift, .add = {}});
}

void Residual::branch_again(Backend& backend, const BranchEnds& w, View branch, ConstView x, ConstView last, Rows r) const {
  backend.matmul({.y = branch, .x = last, .w = w.out.weight, .bias = w.out.bias, .add = {}});
  drop(backend, branch, r);
  if (form_.norm == NormPlace::after)
    backend.affine_forward({.y = branch, .x = x[r], .gain = w.residual.skip, .shift = {}, .add = branch, .scale = model_.skip_scale});
}

void Residual::leave(Backend& backend, const BranchEnds& w, View y, View branch, const EndTensors& t, ConstView x, ConstView last,
                     Rows r) const {
  if (form_.fuses()) {
    const ConstView add = dropout_.is_on() ? ConstView{} : x[r];  // the stream is not dropped
    backend.matmul({.y = y, .x = last, .w = w.out.weight, .bias = w.out.bias, .add = add, .scale = scale_});
    if (dropout_.is_on()) dropout_.apply(backend, y, y, x[r], r.first);
    return;
  }
  branch_again(backend, w, branch, x, last, r);
  if (form_.norm == NormPlace::after) normalize_panel(backend, model_, w.norm, y, t.rstd, t.mean, branch, r);
  else backend.affine_forward({.y = y, .x = branch, .gain = w.residual.gate, .shift = {}, .add = x[r], .scale = scale_});
}

void Residual::leave_again(Backend& backend, const BranchEnds& w, View y, const EndTensors& t, ConstView x, ConstView last, Rows r) const {
  if (form_.fuses()) return leave(backend, w, y, {}, t, x, last, r);
  if (form_.norm == NormPlace::after) normalize(backend, model_, w.norm, y, t.rstd, t.mean, t.branch, r);
  else backend.affine_forward({.y = y, .x = t.branch[r], .gain = w.residual.gate, .shift = {}, .add = x[r], .scale = scale_});
}

void Residual::statistics_again(Backend& backend, const BranchEnds& w, const EndTensors& t, const PanelScratch& panel) const {
  if (form_.norm != NormPlace::after) return;
  backend.panels(t.branch.rows,
                 [&](Rows r) { normalize(backend, model_, w.norm, panel.at(backend.slot(), r.count), t.rstd, t.mean, t.branch, r); });
}

Residual::LastGradient Residual::leave_backward(Backend& backend, const BranchEnds& w, const BranchEndGradients& dw,
                                                const BackwardTensors& scratch, const EndTensors& t, View d, bool accumulate) const {
  const View dbranch = scratch.scratch(kDBranch);
  const auto dropped = [&](double scale) -> LastGradient {
    if (!dropout_.is_on()) return {d, scale};
    backend.panels(d.rows, [&](Rows r) { dropout_.apply(backend, dbranch[r], d[r], {}, r.first); });
    return {dbranch, scale};
  };
  if (form_.fuses()) return dropped(scale_);
  if (form_.norm == NormPlace::after) {
    backend.panels(d.rows, [&](Rows r) {
      normalize_backward(backend, model_,
                         {.d = d,
                          .dy = d[r],
                          .residual = {},
                          .x = t.branch,
                          .rstd = t.rstd,
                          .mean = t.mean,
                          .gain = w.norm.gain,
                          .dgain = scratch.scratch(kDGain),
                          .dbias = w.norm.bias.empty() ? View{} : scratch.scratch(kDBias)},
                         r);
    });
    sum_norm(backend, dw, scratch, accumulate);
    return dropped(1);
  }
  backend.panels(d.rows, [&](Rows r) {
    backend.affine_backward({.dx = dbranch[r],
                             .dgain = panel_of(scratch.scratch(kDGate), r),
                             .dshift = {},
                             .dy = d[r],
                             .x = t.branch[r],
                             .gain = w.residual.gate,
                             .add = {},
                             .scale = scale_});
    drop(backend, dbranch[r], r);
  });
  // Always added to: two branches may share a gate.
  sum_learning(backend, dw.residual.gate, scratch.scratch(kDGate));
  return {dbranch, 1};
}

void Residual::enter_backward(Backend& backend, const BranchEnds& w, const BackwardTensors& scratch, const EndTensors& t, View d,
                              ConstView dh, ConstView x, Rows r) const {
  switch (form_.norm) {
    case NormPlace::before:
      return normalize_backward(backend, model_,
                                {.d = d,
                                 .dy = dh,
                                 .residual = d,
                                 .x = x,
                                 .rstd = t.rstd,
                                 .mean = t.mean,
                                 .gain = w.norm.gain,
                                 .dgain = scratch.scratch(kDGain),
                                 .dbias = w.norm.bias.empty() ? View{} : scratch.scratch(kDBias)},
                                r);
    case NormPlace::after:
      return backend.affine_backward({.dx = d[r],
                                      .dgain = form_.skip_gain ? panel_of(scratch.scratch(kDGate), r) : View{},
                                      .dshift = {},
                                      .dy = d[r],
                                      .x = x[r],
                                      .gain = w.residual.skip,
                                      .add = dh,
                                      .scale = model_.skip_scale});
    case NormPlace::none:
      return backend.affine_backward({.dx = d[r],
                                      .dgain = {},
                                      .dshift = form_.shifts ? panel_of(scratch.scratch(kDGain), r) : View{},
                                      .dy = dh,
                                      .x = {},
                                      .gain = {},
                                      .add = d[r]});
  }
}

void Residual::sum_learning(Backend& backend, View sum, ConstView partials) {
  if (!sum.empty()) backend.sum_panels({.sum = sum, .partials = partials});
}

void Residual::sum_norm(Backend& backend, const BranchEndGradients& dw, const BackwardTensors& scratch, bool accumulate) const {
  sum_normalize(backend, dw.norm, scratch.scratch(kDGain), scratch.scratch(kDBias), accumulate);
}

void Residual::sum_shift(Backend& backend, View partials, ConstView dx, Rows r) {
  if (!partials.empty())
    backend.affine_backward({.dx = {}, .dgain = {}, .dshift = panel_of(partials, r), .dy = dx, .x = {}, .gain = {}, .add = {}});
}

void Residual::sum_ends(Backend& backend, const BranchEndGradients& dw, const BackwardTensors& scratch, bool accumulate) const {
  if (form_.norm == NormPlace::before) sum_norm(backend, dw, scratch, accumulate);
  if (form_.shifts) sum_learning(backend, dw.residual.input, scratch.scratch(kDGain));
  if (form_.skip_gain) sum_learning(backend, dw.residual.skip, scratch.scratch(kDGate));
}

}  // namespace elastiform
