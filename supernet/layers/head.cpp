#include "supernet/layers/head.hpp"

#include <algorithm>

#include "supernet/layers/normalize.hpp"

namespace elastiform {
namespace {

std::span<const std::int32_t> targets_of(const Batch& batch, std::int64_t first, std::int64_t count) {
  return std::span(batch.targets).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
}

/// Rows of a chunk as rows of the whole batch.
Rows shifted(Rows r, std::int64_t first) { return {r.first + first, r.count, r.panel}; }

double sum_of(ConstView row) {
  double sum = 0;  // one thread, ascending: the order never changes
  dispatch(row.dtype, [&]<class T>() {
    const T* values = row.row<T>(0);
    for (std::int64_t i = 0; i < row.columns; ++i) sum += static_cast<double>(values[i]);
  });
  return sum;
}

}  // namespace

std::int64_t Head::chunk_rows(const ModelConfig& model, std::int64_t rows) {
  constexpr std::int64_t kElements = 1 << 20;
  const std::int64_t panels = std::max<std::int64_t>(1, kElements / model.vocabulary / kPanelRows);
  return std::min(rows, panels * kPanelRows);
}

HeadTensors Head::tensors(const ModelConfig& model, const BlockShape& shape, int slots, bool with_teacher) {
  const std::int64_t N = shape.rows(), C = shape.embed, means = model.norm == Norm::layer ? 1 : 0;
  const std::int64_t panels = Backend::panel_count(N), chunk = chunk_rows(model, N);
  HeadTensors tensors;
  // The order of Kept.
  tensors.saved = {{N, C}, {1, N}, {means, N}, {1, N}, {with_teacher ? 1 : 0, N}};
  tensors.forward_scratch = {{chunk, model.vocabulary}};
  // logits of a chunk, teacher logits of a panel, sums of the norm's gain and bias per panel.
  tensors.backward_scratch = {
      {chunk, model.vocabulary}, PanelScratch::shape(with_teacher ? slots : 0, model.vocabulary), {panels, C}, {means * panels, C}};
  return tensors;
}

void Head::normalize(Backend& backend, const HeadSlices& w, const Saved& saved, ConstView x) const {
  const View h = saved.write(kHidden), rstd = saved.write(kRstd), mean = saved.write(kMean);
  backend.panels(x.rows, [&](Rows r) { elastiform::normalize(backend, model_, w.norm, h[r], rstd, mean, x, r); });
}

LossReport Head::forward_backward(Backend& backend, const HeadSlices& w, const HeadGradients& dw, ConstView teacher_table,
                                  const BlockShape& shape, const Saved& saved, View d, ConstView x, const Batch& batch,
                                  const LossOptions& options, const Teacher& teacher, Arena& arena) const {
  enum { kLogits, kTeacherLogits, kDGain, kDBias };
  const bool taught = !teacher.hidden.empty();
  normalize(backend, w, saved, x);
  const ConstView hidden = saved.read(kHidden), rstd = saved.read(kRstd), mean = saved.read(kMean);
  const View losses = saved.write(kLosses), teacher_losses = saved.write(kTeacherLosses);

  LossReport report;
  report.tokens = std::count_if(batch.targets.begin(), batch.targets.end(), [](std::int32_t t) { return t != kIgnoredTarget; });
  const double per_token = report.tokens == 0 ? 0 : options.share / static_cast<double>(report.tokens);

  const ArenaScope scope(arena);
  const Saved scratch(arena, tensors(model_, shape, backend.slots(), taught).backward_scratch, backend.dtype());
  const View chunk_logits = scratch.write(kLogits), dgain = scratch.write(kDGain);
  const View dbias = w.norm.bias.empty() ? View{} : scratch.write(kDBias);
  const std::int64_t chunk = chunk_rows(model_, x.rows);
  for (std::int64_t first = 0; first < x.rows; first += chunk) {
    const std::int64_t count = std::min(chunk, x.rows - first);
    const View logits = chunk_logits.row_range(0, count);
    backend.panels(count, [&](Rows r) {
      const Rows whole = shifted(r, first);
      backend.matmul({.y = logits[r], .x = hidden[whole], .w = w.table, .bias = {}, .add = {}, .scale = 1, .transposed = true});
      View taught_by;
      if (taught) {
        taught_by = PanelScratch(scratch.write(kTeacherLogits)).at(backend.slot(), r.count);
        backend.matmul(
            {.y = taught_by, .x = teacher.hidden[whole], .w = teacher_table, .bias = {}, .add = {}, .scale = 1, .transposed = true});
      }
      backend.softmax_loss({.losses = losses.column_range(whole.first, whole.count),
                            .teacher_losses = taught ? teacher_losses.column_range(whole.first, whole.count) : View{},
                            .correct = {},
                            .dlogits = logits[r],
                            .logits = logits[r],
                            .teacher = taught_by,
                            .targets = targets_of(batch, whole.first, whole.count),
                            .label_weight = options.label_weight,
                            .teacher_weight = taught ? options.teacher_weight : 0,
                            .temperature = options.temperature,
                            .label_smoothing = 0,
                            .gradient_scale = per_token});
      backend.matmul_dx({.dx = d[whole], .dy = logits[r], .w = w.table, .add = {}, .scale = 1, .transposed = true});
    });
    backend.matmul_dw({.dw = dw.table,
                       .dbias = {},
                       .x = hidden.row_range(first, count),
                       .dy = logits,
                       .scale = 1,
                       .transposed = true,
                       .accumulate = first > 0 || options.accumulate});
  }
  backend.panels(x.rows, [&](Rows r) {
    normalize_backward(
        backend, model_,
        {.d = d, .dy = d[r], .residual = {}, .x = x, .rstd = rstd, .mean = mean, .gain = w.norm.gain, .dgain = dgain, .dbias = dbias}, r);
  });
  backend.sum_panels({.sum = dw.norm.gain, .partials = dgain, .accumulate = options.accumulate});
  if (!dbias.empty()) backend.sum_panels({.sum = dw.norm.bias, .partials = dbias, .accumulate = options.accumulate});
  if (report.tokens > 0) {
    report.label_loss = sum_of(losses) / static_cast<double>(report.tokens);
    if (taught) report.teacher_loss = sum_of(teacher_losses) / static_cast<double>(report.tokens);
  }
  return report;
}

void Head::score(Backend& backend, const HeadSlices& w, const Saved& saved, ConstView x, const Batch& batch, View losses, View correct,
                 Arena& arena) const {
  normalize(backend, w, saved, x);
  const ConstView hidden = saved.read(kHidden);
  const std::int64_t chunk = chunk_rows(model_, x.rows);
  const ArenaScope scope(arena);
  const View chunk_logits = arena.matrix(chunk, model_.vocabulary, backend.dtype());
  for (std::int64_t first = 0; first < x.rows; first += chunk) {
    const std::int64_t count = std::min(chunk, x.rows - first);
    const View logits = chunk_logits.row_range(0, count);
    backend.panels(count, [&](Rows r) {
      const Rows whole = shifted(r, first);
      backend.matmul({.y = logits[r], .x = hidden[whole], .w = w.table, .bias = {}, .add = {}, .scale = 1, .transposed = true});
      backend.softmax_loss({.losses = losses.column_range(whole.first, whole.count),
                            .teacher_losses = {},
                            .correct = correct.empty() ? correct : correct.column_range(whole.first, whole.count),
                            .dlogits = {},
                            .logits = logits[r],
                            .teacher = {},
                            .targets = targets_of(batch, whole.first, whole.count)});
    });
  }
}

void Head::logits(Backend& backend, const HeadSlices& w, const Saved& saved, ConstView x, View logits) const {
  normalize(backend, w, saved, x);
  const ConstView hidden = saved.read(kHidden);
  backend.panels(x.rows, [&](Rows r) {
    backend.matmul({.y = logits[r], .x = hidden[r], .w = w.table, .bias = {}, .add = {}, .scale = 1, .transposed = true});
  });
}

}  // namespace elastiform
