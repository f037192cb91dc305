#include "supernet/layers/head.hpp"

#include <algorithm>

#include "supernet/layers/normalize.hpp"

namespace elastiform {
namespace {

/// `count` elements of a list of the batch, or none of an empty one.
template <class T>
std::span<const T> part_of(const std::vector<T>& list, std::int64_t first, std::int64_t count) {
  return list.empty() ? std::span<const T>() : std::span(list).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
}

constexpr std::int64_t kFewPanels = 4;
// What one worker computes at a time where they share the vocabulary. Sizes change no bit of a product.
constexpr std::int64_t kTokens = 1024, kColumns = 192, kRows = 16;

std::int64_t chunk_panels(const ModelConfig& model, std::int64_t elements) {
  return std::max<std::int64_t>(1, elements / model.vocabulary / kPanelRows);
}
// Of the logits that stand in memory at a time: in the caches of cores; enough to fill a device.
constexpr std::int64_t kElements = 1 << 20, kElementsOfDevice = 1 << 27;

/// body(first, count) for blocks of `size` of `all`, on all workers.
template <class Body>
void for_blocks(Backend& backend, std::int64_t all, std::int64_t size, const Body& body) {
  if (backend.traits().takes_all_rows()) return body(0, all);
  backend.for_each((all + size - 1) / size, [&](std::int64_t i) { body(i * size, std::min(size, all - i * size)); });
}

void multiply_turned(Backend& backend, View y, ConstView x, ConstView table, ConstView bias) {
  backend.matmul({.y = y, .x = x, .w = table, .bias = bias, .add = {}, .scale = 1, .transposed = true});
}

/// Logits of the rows of x, by blocks of the vocabulary.
void share_logits(Backend& backend, View logits, ConstView x, const HeadSlices& w) {
  for_blocks(backend, w.table.rows, kTokens, [&](std::int64_t token, std::int64_t tokens) {
    multiply_turned(backend, logits.column_range(token, tokens), x, w.table.row_range(token, tokens),
                    w.bias.empty() ? w.bias : w.bias.column_range(token, tokens));
  });
}

/// FitNets' hint (arXiv 1412.6550) where both have their final states: the mean squared distance over the channels that both have. hidden
/// becomes the difference; d, if there is one, gets weight times the gradient added.
double follow(Backend& backend, View d, View hidden, ConstView teacher, double weight) {
  const std::int64_t channels = std::min(hidden.columns, teacher.columns);
  const View difference = hidden.column_range(0, channels);
  const double elements = static_cast<double>(difference.rows * channels);
  backend.panels(difference.rows, [&](Rows r) {
    backend.add(difference[r], teacher.column_range(0, channels)[r], -1);
    if (!d.empty()) backend.add(d.column_range(0, channels)[r], difference[r], 2 * weight / elements);
  });
  return backend.sum_squares(difference) / elements;
}

/// Rows of a chunk as rows of the whole batch.
Rows shifted(Rows r, std::int64_t first) { return {r.first + first, r.count, r.panel}; }

}  // namespace

std::int64_t Head::chunk_rows(const ModelConfig& model, std::int64_t rows, const BackendTraits& traits) {
  return std::min(rows, chunk_panels(model, traits.takes_all_rows() ? kElementsOfDevice : kElements) * kPanelRows);
}
bool Head::shares_vocabulary(const ModelConfig& model) { return chunk_panels(model, kElements) < kFewPanels; }

HeadTensors Head::tensors(const ModelConfig& model, const BlockShape& shape, const BackendTraits& traits, bool with_teacher) {
  const std::int64_t N = shape.rows(), C = shape.embed, means = model.norm == Norm::layer ? 1 : 0;
  const std::int64_t panels = traits.panel_count(N), chunk = chunk_rows(model, N, traits);
  HeadTensors tensors;
  // The order of Kept.
  tensors.saved = {{N, C}, {1, N}, {means, N}, {1, N}, {with_teacher ? 1 : 0, N}};
  tensors.forward_scratch = {{chunk, model.vocabulary}};
  TensorShape taught{chunk, model.vocabulary};
  if (!shares_vocabulary(model)) taught = PanelScratch::shape(traits, chunk, model.vocabulary);
  if (!with_teacher) taught.rows = 0;
  // logits of a chunk, teacher logits of it or of a panel, sums of the norm's gain and bias per panel.
  tensors.backward_scratch = {{chunk, model.vocabulary}, taught, {panels, C}, {means * panels, C}};
  return tensors;
}

void Head::normalize(Backend& backend, const HeadSlices& w, const Saved& saved, ConstView x) const {
  const View h = saved.write(kHidden), rstd = saved.write(kRstd), mean = saved.write(kMean);
  const bool norm = residual_form(model_).final_norm();
  backend.panels(x.rows, [&](Rows r) {
    if (norm) elastiform::normalize(backend, model_, w.norm, h[r], rstd, mean, x, r);
    else backend.copy(h[r], x[r]);
  });
}

LossReport Head::forward_backward(Backend& backend, const HeadSlices& w, const HeadGradients& dw, const HeadSlices& teacher_head,
                                  const BlockShape& shape, const Saved& saved, View d, ConstView x, const Batch& batch,
                                  const LossOptions& options, const Teacher& teacher, Arena& arena) const {
  enum { kLogits, kTeacherLogits, kDGain, kDBias };
  const bool taught = !teacher.hidden.empty(), forms_gradients = !options.forward_only;
  normalize(backend, w, saved, x);
  const ConstView hidden = saved.read(kHidden), rstd = saved.read(kRstd), mean = saved.read(kMean);
  const View losses = saved.write(kLosses), teacher_losses = saved.write(kTeacherLosses);

  LossReport report;
  report.tokens = std::count_if(batch.targets.begin(), batch.targets.end(), [](std::int32_t t) { return t != kIgnoredTarget; });
  const double per_token = report.tokens == 0 ? 0 : options.share / static_cast<double>(report.tokens);

  const ArenaScope scope(arena);
  const Saved scratch(arena, tensors(model_, shape, backend.traits(), taught).backward_scratch, backend.dtype());
  const View chunk_logits = scratch.write(kLogits), dgain = scratch.write(kDGain);
  const View dbias = w.norm.bias.empty() ? View{} : scratch.write(kDBias);
  const std::int64_t chunk = chunk_rows(model_, x.rows, backend.traits());
  for (std::int64_t first = 0; first < x.rows; first += chunk) {
    const std::int64_t count = std::min(chunk, x.rows - first);
    const View logits = chunk_logits.row_range(0, count);
    const auto loss = [&](Rows r, ConstView taught_by) {
      const Rows whole = shifted(r, first);
      backend.softmax_loss({.losses = losses.column_range(whole.first, whole.count),
                            .teacher_losses = taught ? teacher_losses.column_range(whole.first, whole.count) : View{},
                            .correct = {},
                            .dlogits = forms_gradients ? logits[r] : View{},
                            .logits = logits[r],
                            .teacher = taught_by,
                            .targets = part_of(batch.targets, whole.first, whole.count),
                            .label_weight = options.label_weight,
                            .teacher_weight = taught ? options.teacher_weight : 0,
                            .temperature = options.temperature,
                            .label_smoothing = options.label_smoothing,
                            .gradient_scale = per_token,
                            .second_targets = part_of(batch.images.mixed_with, whole.first, whole.count),
                            .second_shares = part_of(batch.images.mixed_share, whole.first, whole.count)});
    };
    if (shares_vocabulary(model_)) {
      const View taught_by = taught ? scratch.write(kTeacherLogits).row_range(0, count) : View{};
      share_logits(backend, logits, hidden.row_range(first, count), w);
      if (taught) share_logits(backend, taught_by, teacher.hidden.row_range(first, count), teacher_head);
      for_blocks(backend, count, kRows, [&](std::int64_t row, std::int64_t rows) {
        loss({.first = row, .count = rows, .panel = 0}, taught ? taught_by.row_range(row, rows) : View{});
      });
      if (forms_gradients)
        for_blocks(backend, shape.embed, kColumns, [&](std::int64_t column, std::int64_t columns) {
          backend.matmul_dx({.dx = d.row_range(first, count).column_range(column, columns),
                             .dy = logits,
                             .w = w.table.column_range(column, columns),
                             .add = {},
                             .scale = 1,
                             .transposed = true});
        });
    } else {
      backend.panels(count, [&](Rows r) {
        const Rows whole = shifted(r, first);
        multiply_turned(backend, logits[r], hidden[whole], w.table, w.bias);
        View taught_by;
        if (taught) {
          taught_by = PanelScratch(scratch.write(kTeacherLogits), backend.slots()).at(backend.slot(), r.count);
          multiply_turned(backend, taught_by, teacher.hidden[whole], teacher_head.table, teacher_head.bias);
        }
        loss(r, taught_by);
        if (forms_gradients) backend.matmul_dx({.dx = d[whole], .dy = logits[r], .w = w.table, .add = {}, .scale = 1, .transposed = true});
      });
    }
    if (!forms_gradients || (dw.table.empty() && dw.bias.empty())) continue;  // or frozen
    backend.matmul_dw({.dw = dw.table,
                       .dbias = dw.bias,
                       .x = hidden.row_range(first, count),
                       .dy = logits,
                       .scale = 1,
                       .transposed = true,
                       .accumulate = first > 0 || options.accumulate});
  }
  if (taught && options.hidden_weight > 0)
    report.hidden_loss =
        follow(backend, forms_gradients ? d : View{}, saved.write(kHidden), teacher.hidden, options.hidden_weight * options.share);
  if (forms_gradients && residual_form(model_).final_norm()) {
    backend.panels(x.rows, [&](Rows r) {
      normalize_backward(
          backend, model_,
          {.d = d, .dy = d[r], .residual = {}, .x = x, .rstd = rstd, .mean = mean, .gain = w.norm.gain, .dgain = dgain, .dbias = dbias}, r);
    });
    sum_normalize(backend, dw.norm, dgain, dbias, options.accumulate);
  }
  if (report.tokens > 0) {
    report.label_loss = backend.sum(losses) / static_cast<double>(report.tokens);
    if (taught) report.teacher_loss = backend.sum(teacher_losses) / static_cast<double>(report.tokens);
  }
  return report;
}

void Head::score(Backend& backend, const HeadSlices& w, const Saved& saved, ConstView x, const Batch& batch, View losses, View correct,
                 Arena& arena) const {
  normalize(backend, w, saved, x);
  const ConstView hidden = saved.read(kHidden);
  const std::int64_t chunk = chunk_rows(model_, x.rows, backend.traits());
  const ArenaScope scope(arena);
  const View chunk_logits = arena.matrix(chunk, model_.vocabulary, backend.dtype());
  for (std::int64_t first = 0; first < x.rows; first += chunk) {
    const std::int64_t count = std::min(chunk, x.rows - first);
    const View logits = chunk_logits.row_range(0, count);
    const auto loss = [&](Rows r) {
      const Rows whole = shifted(r, first);
      backend.softmax_loss({.losses = losses.column_range(whole.first, whole.count),
                            .teacher_losses = {},
                            .correct = correct.empty() ? correct : correct.column_range(whole.first, whole.count),
                            .dlogits = {},
                            .logits = logits[r],
                            .teacher = {},
                            .targets = part_of(batch.targets, whole.first, whole.count)});
    };
    if (shares_vocabulary(model_)) {
      share_logits(backend, logits, hidden.row_range(first, count), w);
      for_blocks(backend, count, kRows, [&](std::int64_t row, std::int64_t rows) { loss({.first = row, .count = rows, .panel = 0}); });
    } else {
      backend.panels(count, [&](Rows r) {
        multiply_turned(backend, logits[r], hidden[shifted(r, first)], w.table, w.bias);
        loss(r);
      });
    }
  }
}

void Head::logits(Backend& backend, const HeadSlices& w, const Saved& saved, ConstView x, View logits) const {
  normalize(backend, w, saved, x);
  const ConstView hidden = saved.read(kHidden);
  if (shares_vocabulary(model_)) return share_logits(backend, logits, hidden, w);
  backend.panels(x.rows, [&](Rows r) { multiply_turned(backend, logits[r], hidden[r], w.table, w.bias); });
}

}  // namespace elastiform
