#include "supernet/layers/patch_embedding.hpp"

#include <stdexcept>

namespace elastiform {

View patch_values_of(Backend& backend, const std::vector<float>& values, std::int64_t rows, std::int64_t columns, Arena& arena) {
  if (static_cast<std::int64_t>(values.size()) != rows * columns) throw std::logic_error("PatchEmbedding: the batch has other images");
  const View x = arena.matrix(rows, columns, backend.dtype());
  if (x.dtype == DType::float32) {
    backend.copy(x, view_of(values.data(), rows, columns, columns));
    return x;
  }
  for (std::int64_t row = 0; row < rows; ++row)  // the reference backend's, in the host's memory
    for (std::int64_t column = 0; column < columns; ++column)
      x.row<double>(row)[column] = static_cast<double>(values[static_cast<std::size_t>(row * columns + column)]);
  return x;
}

std::int64_t PatchEmbedding::arena_bytes(const ModelConfig& model, DType dtype, std::int64_t images, std::int64_t embed,
                                         std::int64_t masked) {
  if (!model.classifies()) return 0;
  const std::int64_t patches = images * (model.image.patches() - masked), first = model.tokens_before_patches();
  const std::int64_t placed = masked > 0 ? images * first + patches : 0;
  return TensorShape{patches, model.image.patch_values()}.bytes(dtype) + TensorShape{first + patches, embed}.bytes(dtype) +
         TensorShape{placed, embed}.bytes(dtype);
}

View PatchEmbedding::patches(Backend& backend, const Batch& batch, Arena& arena) const {
  const std::int64_t patches = model_.image.patches() - batch.images.masked.count;
  return patch_values_of(backend, batch.images.patches, batch.sequences * patches, model_.image.patch_values(), arena);
}

void PatchEmbedding::forward(Backend& backend, const PatchSlices& w, const Batch& batch, View x, Arena& arena) const {
  const ArenaScope scope(arena);
  const ConstView pixels = patches(backend, batch, arena);
  const View lookup = arena.matrix(first_patch() + pixels.rows, x.columns, backend.dtype());
  if (!w.class_token.empty()) backend.copy(lookup.row_range(0, 1), w.class_token);
  if (!w.distillation_token.empty()) backend.copy(lookup.row_range(1, 1), w.distillation_token);
  const View embedded = lookup.row_range(first_patch(), pixels.rows);
  backend.panels(pixels.rows,
                 [&](Rows r) { backend.matmul({.y = embedded[r], .x = pixels[r], .w = w.patch.weight, .bias = w.patch.bias, .add = {}}); });
  ConstView positions = w.positions;
  std::int64_t period = batch.tokens;
  if (batch.images.masked.count > 0) {  // a row for every row of x, of the token's own place
    const View placed = arena.matrix(x.rows, x.columns, backend.dtype());
    backend.embedding_forward({.y = placed, .table = positions, .positions = {}, .tokens = batch.images.masked.positions});
    positions = placed, period = x.rows;
  }
  backend.embedding_forward({.y = x, .table = lookup, .positions = positions, .tokens = batch.inputs, .period = period});
}

void PatchEmbedding::backward(Backend& backend, const PatchGradients& dw, const Batch& batch, ConstView d, bool accumulate,
                              Arena& arena) const {
  const bool learns = !dw.patch.weight.empty() || !dw.patch.bias.empty();
  if (!learns && dw.class_token.empty() && dw.distillation_token.empty() && dw.positions.empty()) return;
  const ArenaScope scope(arena);
  const ConstView pixels = patches(backend, batch, arena);
  const View dlookup = arena.matrix(first_patch() + pixels.rows, d.columns, backend.dtype());
  backend.zero(dlookup);
  const bool in_order = batch.images.masked.count == 0;
  backend.embedding_backward(
      {.dtable = dlookup, .dpositions = in_order ? dw.positions : View{}, .dy = d, .tokens = batch.inputs, .period = batch.tokens});
  if (!in_order && !dw.positions.empty())
    backend.embedding_backward({.dtable = dw.positions, .dpositions = {}, .dy = d, .tokens = batch.images.masked.positions});
  if (!dw.class_token.empty()) backend.sum_panels({.sum = dw.class_token, .partials = dlookup.row_range(0, 1), .accumulate = true});
  if (!dw.distillation_token.empty())
    backend.sum_panels({.sum = dw.distillation_token, .partials = dlookup.row_range(1, 1), .accumulate = true});
  if (!learns) return;
  backend.matmul_dw({.dw = dw.patch.weight,
                     .dbias = dw.patch.bias,
                     .x = pixels,
                     .dy = dlookup.row_range(first_patch(), pixels.rows),
                     .accumulate = accumulate});
}

}  // namespace elastiform
