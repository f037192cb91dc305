#include "supernet/layers/masked_ends.hpp"

#include "supernet/layers/normalize.hpp"
#include "supernet/layers/patch_embedding.hpp"

namespace elastiform {
namespace {

/// Rows of means that a norm keeps.
std::int64_t means(const ModelConfig& model) { return model.norm == Norm::layer ? 1 : 0; }

bool has_norm(const ModelConfig& model) { return residual_form(model).final_norm(); }

}  // namespace

ShortList<TensorShape> MaskedEnds::kept(const ModelConfig& network, const MaskedShape& s) {
  return {{s.seen, s.embed}, {1, s.seen}, {means(network), s.seen}};
}

std::int64_t MaskedEnds::enter_bytes(const MaskedShape& s, DType dtype) { return TensorShape{1 + s.seen, s.width}.bytes(dtype); }

std::int64_t MaskedEnds::loss_bytes(const MaskedShape& s, const BackendTraits& traits) {
  const std::int64_t panels = traits.panel_count(s.masked);
  return bytes_of_all(ShortList<TensorShape>{{s.masked, s.width},
                                             {s.masked, s.width},
                                             {1, s.masked},
                                             {1, s.masked},
                                             {s.masked, s.values},
                                             {s.masked, s.values},
                                             {s.masked, s.width},
                                             {panels, s.width},
                                             {panels, s.width}},
                      traits.dtype);
}

std::int64_t MaskedEnds::leave_bytes(const ModelConfig& network, const MaskedShape& s, const BackendTraits& traits) {
  const std::int64_t panels = traits.panel_count(s.seen);
  return bytes_of_all(ShortList<TensorShape>{{1 + s.seen, s.width}, {panels, s.embed}, {means(network) * panels, s.embed}}, traits.dtype);
}

void MaskedEnds::enter(Backend& backend, const MaskedSlices& w, const Saved& saved, ConstView x, const Batch& batch, View stream,
                       Arena& arena) const {
  const ArenaScope scope(arena);
  const View lookup = arena.matrix(1 + x.rows, stream.columns, backend.dtype());
  const View normed = saved.write(kNormed), rstd = saved.write(kRstd), mean = saved.write(kMean);
  backend.copy(lookup.row_range(0, 1), w.mask);
  const View seen = lookup.row_range(1, x.rows);
  backend.panels(x.rows, [&](Rows r) {
    if (has_norm(network_)) normalize(backend, network_, w.encoder_norm, normed[r], rstd, mean, x, r);
    else backend.copy(normed[r], x[r]);
    backend.matmul({.y = seen[r], .x = normed[r], .w = w.hidden.weight, .bias = w.hidden.bias, .add = {}});
  });
  const std::vector<std::int32_t>& rows = batch.images.masked.lookup;
  backend.embedding_forward(
      {.y = stream, .table = lookup, .positions = w.positions, .tokens = rows, .period = stream.rows / batch.sequences});
}

LossReport MaskedEnds::loss(Backend& backend, const MaskedSlices& w, const MaskedGradients& dw, ConstView x, View d, const Batch& batch,
                            const LossOptions& options, Arena& arena) const {
  const ArenaScope scope(arena);
  const MaskedPatches& masked = batch.images.masked;
  const std::int64_t rows = static_cast<std::int64_t>(masked.rows.size()), width = x.columns, values = w.values.weight.rows;
  const DType dtype = backend.dtype();
  const View read = arena.matrix(rows, width, dtype), normed = arena.matrix(rows, width, dtype);
  const View rstd = arena.matrix(1, rows, dtype), mean = arena.matrix(1, rows, dtype);
  const View difference = arena.matrix(rows, values, dtype);
  const View wanted = patch_values_of(backend, masked.values, rows, values, arena);
  backend.embedding_forward({.y = read, .table = x, .positions = {}, .tokens = masked.rows});
  const auto predict = [&](Rows r) {
    normalize(backend, decoder_, w.norm, normed[r], rstd, mean, read, r);
    backend.matmul(
        {.y = difference[r], .x = normed[r], .w = w.values.weight, .bias = w.values.bias, .add = {}, .scale = 1, .transposed = true});
    backend.add(difference[r], wanted[r], -1);
  };
  backend.panels(rows, predict);
  const auto count = static_cast<double>(rows * values);
  LossReport report;
  report.tokens = rows;
  report.label_loss = backend.sum_squares(difference) / count;
  if (options.forward_only) return report;

  const double gradient = 2 * options.share / count;
  const View dread = arena.matrix(rows, width, dtype), dgain = arena.matrix(backend.traits().panel_count(rows), width, dtype);
  const View dbias = arena.matrix(dgain.rows, width, dtype);
  backend.matmul_dw({.dw = dw.values.weight,
                     .dbias = dw.values.bias,
                     .x = normed,
                     .dy = difference,
                     .scale = gradient,
                     .transposed = true,
                     .accumulate = options.accumulate});
  backend.panels(rows, [&](Rows r) {
    backend.matmul_dx({.dx = dread[r], .dy = difference[r], .w = w.values.weight, .add = {}, .scale = gradient, .transposed = true});
    normalize_backward(backend, decoder_,
                       {.d = dread,
                        .dy = dread[r],
                        .residual = {},
                        .x = read,
                        .rstd = rstd,
                        .mean = mean,
                        .gain = w.norm.gain,
                        .dgain = dgain,
                        .dbias = dbias},
                       r);
  });
  sum_normalize(backend, dw.norm, dgain, dbias, options.accumulate);
  backend.zero(d);
  backend.scatter_rows({.y = d, .x = dread, .rows = masked.rows});
  return report;
}

void MaskedEnds::leave(Backend& backend, const MaskedSlices& w, const MaskedGradients& dw, const Saved& saved, ConstView x,
                       ConstView dstream, View d, const Batch& batch, bool accumulate, Arena& arena) const {
  const ArenaScope scope(arena);
  const DType dtype = backend.dtype();
  const View dlookup = arena.matrix(1 + x.rows, dstream.columns, dtype), dseen = dlookup.row_range(1, x.rows);
  const std::int64_t panels = backend.traits().panel_count(x.rows);
  const View dgain = arena.matrix(panels, d.columns, dtype);
  const View means_of_bias = means(network_) > 0 ? arena.matrix(panels, d.columns, dtype) : View{};
  const View dbias = w.encoder_norm.bias.empty() ? View{} : means_of_bias;
  backend.zero(dlookup);
  backend.embedding_backward({.dtable = dlookup,
                              .dpositions = dw.positions,
                              .dy = dstream,
                              .tokens = batch.images.masked.lookup,
                              .period = dstream.rows / batch.sequences});
  backend.sum_panels({.sum = dw.mask, .partials = dlookup.row_range(0, 1), .accumulate = true});
  backend.matmul_dw({.dw = dw.hidden.weight, .dbias = dw.hidden.bias, .x = saved.read(kNormed), .dy = dseen, .accumulate = accumulate});
  backend.panels(x.rows, [&](Rows r) {
    backend.matmul_dx({.dx = d[r], .dy = dseen[r], .w = w.hidden.weight, .add = {}});
    if (!has_norm(network_)) return;
    normalize_backward(backend, network_,
                       {.d = d,
                        .dy = d[r],
                        .residual = {},
                        .x = x,
                        .rstd = saved.read(kRstd),
                        .mean = saved.read(kMean),
                        .gain = w.encoder_norm.gain,
                        .dgain = dgain,
                        .dbias = dbias},
                       r);
  });
  if (has_norm(network_)) sum_normalize(backend, dw.encoder_norm, dgain, dbias, accumulate);
}

}  // namespace elastiform
