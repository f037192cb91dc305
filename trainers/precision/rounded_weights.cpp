#include "trainers/precision/rounded_weights.hpp"

#include <algorithm>

namespace elastiform {

RoundedWeights::RoundedWeights(std::shared_ptr<const WeightTable> table, const Backend& backend)
    : copy_(table, backend.dtype(), backend.memory()) {
  rectangles_.reserve(most_band_rectangles(*table));
}

const Weights& RoundedWeights::update(Backend& backend, const Weights& weights, const ActiveBands& active, NumberFormat format,
                                      const std::vector<double>& scales) {
  const WeightTable& table = weights.table();
  band_rectangles(
      table, [&](std::int64_t band) { return active[band] ? 0 : -1; }, rectangles_);
  backend.for_each(static_cast<std::int64_t>(rectangles_.size()), [&](std::int64_t i) {
    const BandRectangle& r = rectangles_[static_cast<std::size_t>(i)];
    const View to = r.of(copy_);
    const ConstView from = r.of(weights);
    if (!rounds(*r.tensor)) return backend.copy(to, from);
    const double scale = scales[static_cast<std::size_t>(r.tensor - table.tensors().data())];
    backend.round({.y = to, .x = from, .format = format, .scale = scale, .saturates = false, .noise = {}});
  });
  return copy_;
}

int RoundedWeights::tensor_at(const std::byte* first, const Weights* gradients) const {
  const std::int64_t element = bytes_of(copy_.dtype()), size = copy_.bytes();
  std::int64_t offset = address(first) - address(copy_.data());
  if ((offset < 0 || offset >= size) && gradients) offset = address(first) - address(gradients->data());
  if (offset < 0 || offset >= size) return -1;
  offset /= element;
  const std::vector<TensorSpec>& tensors = copy_.table().tensors();
  const auto after = std::upper_bound(tensors.begin(), tensors.end(), offset,
                                      [](std::int64_t value, const TensorSpec& tensor) { return value < tensor.offset; });
  if (after == tensors.begin() || !rounds(*(after - 1))) return -1;
  return static_cast<int>(after - 1 - tensors.begin());
}

}  // namespace elastiform
