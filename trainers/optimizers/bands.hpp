#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernels/backend.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// Whether a step's objective trains a tensor that its subnets have.
using Learns = FunctionRef<bool(const TensorSpec&)>;
inline constexpr auto kAllLearn = [](const TensorSpec&) { return true; };

/// Which bands of a table some subnets of a step touch: those of the tensors that learn, the others have none.
class ActiveBands {
 public:
  ActiveBands(const WeightTable& table, std::span<const Subnet> subnets) { assign(table, subnets); }
  explicit ActiveBands(std::vector<bool> active) : active_(std::move(active)) {}  // one entry a band
  void assign(const WeightTable& table, std::span<const Subnet> subnets, Learns learns = kAllLearn);
  /// Those of `of` for which holds[band] ≥ 0.
  void assign(const ActiveBands& of, const std::vector<double>& holds) {
    for (std::size_t band = 0; band < active_.size(); ++band) active_[band] = of.active_[band] && holds[band] >= 0;
  }
  bool operator[](std::int64_t band) const { return active_[static_cast<std::size_t>(band)]; }
  bool operator==(const ActiveBands&) const = default;

 private:
  std::vector<bool> active_;
};

/// A part of a tensor whose elements share one step counter: the unit of an optimizer's work.
struct BandRectangle {
  const TensorSpec* tensor = nullptr;
  std::int64_t band = 0;  // one of them: all have equal counters
  std::int64_t row = 0, rows = 0, column = 0, columns = 0;
  View of(Weights& weights) const { return weights.view(*tensor).column_range(column, columns).row_range(row, rows); }
  ConstView of(const Weights& weights) const { return weights.view(*tensor).column_range(column, columns).row_range(row, rows); }
};

constexpr std::int64_t kRectangleElements = 16384;

/// No list of band_rectangles is longer. A rectangle of w columns is cut every ⌊kRectangleElements / w⌋ rows, which is more than half of
/// the fraction (or every row, if that is 0): at most 2 · elements / kRectangleElements pieces, and one for the rest.
inline std::size_t most_band_rectangles(const WeightTable& table) {
  return static_cast<std::size_t>(table.band_count() + 2 * table.trained_elements() / kRectangleElements);
}

/// The bands with key(band) ≥ 0, neighbours in a row of bands with equal keys merged, cut into pieces of about kRectangleElements in a
/// fixed order: the list depends on the keys only. It is written into `list`, whose memory serves again.
template <class Key>
void band_rectangles(const WeightTable& table, const Key& key, std::vector<BandRectangle>& list) {
  list.clear();
  for (const TensorSpec& tensor : table.tensors()) {
    if (!tensor.trained) continue;
    std::int64_t row = 0;
    const std::size_t columns = tensor.column_bands.size();
    for (std::size_t r = 0; r < tensor.row_bands.size(); ++r) {
      for (std::size_t c = 0; c < columns;) {
        const std::int64_t band = tensor.first_band + static_cast<std::int64_t>(r * columns + c);
        std::size_t end = c + 1;
        while (end < columns && key(band + static_cast<std::int64_t>(end - c)) == key(band)) ++end;
        if (key(band) >= 0) {
          const std::int64_t left = c == 0 ? 0 : tensor.column_bands[c - 1], width = tensor.column_bands[end - 1] - left;
          const std::int64_t step = std::max<std::int64_t>(1, kRectangleElements / width);
          for (std::int64_t first = row; first < tensor.row_bands[r]; first += step)
            list.push_back({&tensor, band, first, std::min(step, tensor.row_bands[r] - first), left, width});
        }
        c = end;
      }
      row = tensor.row_bands[r];
    }
  }
}

/// body(rectangle) for every band of a table, whole, in the order of their numbers.
template <class Body>
void for_each_band(const WeightTable& table, const Body& body) {
  for (const TensorSpec& tensor : table.tensors()) {
    if (!tensor.trained) continue;  // it has none
    const std::size_t columns = tensor.column_bands.size();
    for (std::size_t r = 0; r < tensor.row_bands.size(); ++r)
      for (std::size_t c = 0; c < columns; ++c) {
        const std::int64_t top = r == 0 ? 0 : tensor.row_bands[r - 1], left = c == 0 ? 0 : tensor.column_bands[c - 1];
        body(BandRectangle{&tensor, tensor.first_band + static_cast<std::int64_t>(r * columns + c), top, tensor.row_bands[r] - top, left,
                           tensor.column_bands[c] - left});
      }
  }
}

/// What decay pulls to zero: matrices, but not embeddings, gains and biases.
inline bool decays(const TensorSpec& tensor) { return decays(tensor.role); }

/// What the functions below write for themselves, kept by their caller so that a steady step allocates nothing.
struct BandScratch {
  std::vector<BandRectangle> rectangles;
  std::vector<ConstView> views;  // one a rectangle, like the sums
  std::vector<double> sums;
  ActiveBands first;  // of a step's first subnet
  explicit BandScratch(const WeightTable& table) : first(table, {}) {
    rectangles.reserve(most_band_rectangles(table));
    views.reserve(most_band_rectangles(table));
    sums.reserve(most_band_rectangles(table));
  }
};

/// Sets the active bands of `gradients` to zero, of the tensors for which clears(tensor).
void zero_active(Backend& backend, Weights& gradients, const ActiveBands& active, FunctionRef<bool(const TensorSpec&)> clears,
                 BandScratch& scratch);

/// Euclidean norm over the active bands, in a fixed order. Not finite exactly when an element is not.
double global_norm(Backend& backend, const Weights& gradients, const ActiveBands& active, BandScratch& scratch);

/// min(1, limit / (norm + 1e-6)), 1 when limit is 0: the rule of the field's frameworks.
double clip_scale(double norm, double limit);

}  // namespace elastiform
