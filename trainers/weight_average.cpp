#include "trainers/weight_average.hpp"

#include <algorithm>

namespace elastiform {

WeightAverage::WeightAverage(double decay, const Weights& weights, const Backend& backend)
    : decay_(decay), average_(weights.shared_table(), weights.dtype(), backend.memory()),
      count_(static_cast<std::size_t>(weights.table().band_count()), 0) {
  average_.assign(weights);
  rectangles_.reserve(most_band_rectangles(weights.table()));
}

void WeightAverage::update(Backend& backend, const Weights& weights, const ActiveBands& moved) {
  // Counts of bands that differ keep their rectangles apart.
  band_rectangles(
      weights.table(),
      [&](std::int64_t band) { return moved[band] ? static_cast<std::int64_t>(count_[static_cast<std::size_t>(band)]) : -1; }, rectangles_);
  backend.for_each(static_cast<std::int64_t>(rectangles_.size()), [&](std::int64_t i) {
    const BandRectangle& r = rectangles_[static_cast<std::size_t>(i)];
    const double n = count_[static_cast<std::size_t>(r.band)], decay = std::min(decay_, (1 + n) / (10 + n));
    backend.scale(r.of(average_), decay);
    backend.add(r.of(average_), r.of(weights), 1 - decay);
  });
  for (std::size_t band = 0; band < count_.size(); ++band)
    if (moved[static_cast<std::int64_t>(band)]) count_[band] += 1;
}

}  // namespace elastiform
