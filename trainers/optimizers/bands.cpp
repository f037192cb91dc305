#include "trainers/optimizers/bands.hpp"

#include <algorithm>
#include <cmath>

namespace elastiform {

void ActiveBands::assign(const WeightTable& table, std::span<const Subnet> subnets, Learns learns) {
  active_.assign(static_cast<std::size_t>(table.band_count()), false);
  for (const Subnet& subnet : subnets)
    for (const TensorSpec& tensor : table.tensors()) {
      if (!tensor.trained || !learns(tensor)) continue;
      const Extent extent = table.extent(tensor, subnet);
      for (std::size_t r = 0; r < tensor.row_bands.size() && tensor.row_bands[r] <= extent.rows; ++r)
        for (std::size_t c = 0; c < tensor.column_bands.size() && tensor.column_bands[c] <= extent.columns; ++c)
          active_[static_cast<std::size_t>(tensor.first_band) + r * tensor.column_bands.size() + c] = true;
    }
}

namespace {

const std::vector<BandRectangle>& active_rectangles(const WeightTable& table, const ActiveBands& active, BandScratch& scratch) {
  band_rectangles(
      table, [&](std::int64_t band) { return active[band] ? 0 : -1; }, scratch.rectangles);
  return scratch.rectangles;
}

}  // namespace

void zero_active(Backend& backend, Weights& gradients, const ActiveBands& active, FunctionRef<bool(const TensorSpec&)> clears,
                 BandScratch& scratch) {
  const std::vector<BandRectangle>& list = active_rectangles(gradients.table(), active, scratch);
  backend.for_each(static_cast<std::int64_t>(list.size()), [&](std::int64_t i) {
    const BandRectangle& rectangle = list[static_cast<std::size_t>(i)];
    if (!clears(*rectangle.tensor)) return;
    backend.zero(rectangle.of(gradients));
  });
}

double global_norm(Backend& backend, const Weights& gradients, const ActiveBands& active, BandScratch& scratch) {
  const std::vector<BandRectangle>& list = active_rectangles(gradients.table(), active, scratch);
  std::vector<double>& sums = scratch.sums;
  sums.assign(list.size(), 0);
  scratch.views.clear();
  for (const BandRectangle& rectangle : list) scratch.views.push_back(rectangle.of(gradients));
  backend.sum_squares(scratch.views, sums);
  double total = 0;
  for (const double sum : sums) total += sum;  // the list's order is fixed
  return std::sqrt(total);
}

double clip_scale(double norm, double limit) { return limit > 0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0; }

}  // namespace elastiform
