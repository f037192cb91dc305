#pragma once

#include <memory>
#include <vector>

#include "trainers/optimizers/bands.hpp"

namespace elastiform {

/// A running average of the weights, band by band: after a step that moved a band, average ← d·average + (1-d)·θ, with d = min(decay,
/// (1+n)/(10+n)) after n updates of the band, so that the average soon forgets where training began. Bands that a step does not move stay
/// bitwise as they were. Reads weights and writes none.
class WeightAverage {
 public:
  WeightAverage(double decay, const Weights& weights, const Backend& backend);  // begins at the weights
  void update(Backend& backend, const Weights& weights, const ActiveBands& moved);
  const Weights& weights() const { return average_; }
  Weights& weights() { return average_; }
  std::vector<double>& counts() { return count_; }
  const std::vector<double>& counts() const { return count_; }

  std::int64_t bytes() const { return average_.bytes() + static_cast<std::int64_t>(count_.size() * sizeof(double)); }
  static std::int64_t state_bytes(const WeightTable& table) {
    return table.elements() * bytes_of(DType::float32) + table.band_count() * static_cast<std::int64_t>(sizeof(double));
  }

 private:
  double decay_;
  Weights average_;
  std::vector<double> count_;  // updates, per band; whole numbers
  std::vector<BandRectangle> rectangles_;
};

}  // namespace elastiform
