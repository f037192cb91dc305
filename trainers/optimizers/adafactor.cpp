#include "trainers/optimizers/adafactor.hpp"

#include <algorithm>
#include <cmath>

namespace elastiform {
namespace {

constexpr double kDecayPower = 0.8, kGradientEps = 1e-30, kWeightEps = 1e-3, kMostRms = 1;
constexpr MomentRule kRule{.moments = 1, .corrected = false};

struct Sizes {
  std::int64_t rows = 0, columns = 0;
};

Sizes sizes_of(const WeightTable& table) {
  Sizes sizes;
  for_each_band(table, [&](const BandRectangle& band) { sizes.rows += band.rows, sizes.columns += band.columns; });
  return sizes;
}

}  // namespace

AdafactorOptimizer::AdafactorOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
    : options_(options), clocks_(options, kRule, *table), rows_(sizes_of(*table).rows, backend.dtype(), backend.memory()),
      columns_(sizes_of(*table).columns, backend.dtype(), backend.memory()), mean_(static_cast<std::size_t>(table->band_count()), 0) {
  Sizes before;
  for_each_band(*table, [&](const BandRectangle& band) {
    row_at_.push_back(before.rows), column_at_.push_back(before.columns);
    before.rows += band.rows, before.columns += band.columns;
  });
  const std::size_t bands = mean_.size(), pieces = most_band_rectangles(*table);
  bands_.reserve(bands), views_.reserve(bands), sums_.reserve(bands), of_bands_.reserve(bands);
  pieces_.reserve(pieces), steps_.reserve(pieces), squares_.reserve(pieces);
}

void AdafactorOptimizer::list_bands(const WeightTable& table, const ActiveBands& active) {
  bands_.clear(), pieces_.clear();
  for_each_band(table, [&](const BandRectangle& band) {
    if (!active[band.band]) return;
    const std::int64_t step = std::max<std::int64_t>(1, kRectangleElements / band.columns);
    for (std::int64_t first = 0; first < band.rows; first += step) {
      BandRectangle piece = band;
      piece.row = band.row + first, piece.rows = std::min(step, band.rows - first);
      pieces_.push_back({piece, bands_.size()});
    }
    bands_.push_back(band);
  });
}

void AdafactorOptimizer::move_moments(Backend& backend, Weights& weights, const Weights& gradients, const UpdateStep& step) {
  views_.clear(), sums_.resize(bands_.size());
  for (const BandRectangle& band : bands_) views_.push_back(band.of(gradients));
  backend.sum_squares(views_, sums_);
  const auto beta2_of = [&](const BandRectangle& band) { return 1 - std::pow(clocks_[band.band].time, -kDecayPower); };
  for (std::size_t i = 0; i < bands_.size(); ++i) {
    const double beta2 = beta2_of(bands_[i]), elements = static_cast<double>(bands_[i].rows * bands_[i].columns);
    double& mean = mean_[static_cast<std::size_t>(bands_[i].band)];
    mean = beta2 * mean + (1 - beta2) * (step.gradient_scale * step.gradient_scale * sums_[i] / elements + kGradientEps);
  }
  backend.for_each(static_cast<std::int64_t>(bands_.size()), [&](std::int64_t i) {
    const BandRectangle& band = bands_[static_cast<std::size_t>(i)];
    const auto at = static_cast<std::size_t>(band.band);
    backend.factored_moments({.row = rows_.row(row_at_[at], band.rows),
                              .column = columns_.row(column_at_[at], band.columns),
                              .gradient = band.of(gradients),
                              .beta2 = beta2_of(band),
                              .eps = kGradientEps,
                              .gradient_scale = step.gradient_scale});
  });
  steps_.clear(), squares_.resize(pieces_.size());
  for (const Piece& piece : pieces_) {
    const BandRectangle &r = piece.rectangle, &band = bands_[piece.band];
    const auto at = static_cast<std::size_t>(r.band);
    steps_.push_back({.weight = r.of(weights),
                      .row = rows_.row(row_at_[at] + r.row - band.row, r.rows),
                      .column = columns_.row(column_at_[at], r.columns),
                      .gradient = r.of(gradients),
                      .mean_row = mean_[at],
                      .gradient_scale = step.gradient_scale});
  }
  backend.factored_squares(steps_, squares_);
}

void AdafactorOptimizer::update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) {
  clocks_.advance(active, step);
  list_bands(weights.table(), active);
  move_moments(backend, weights, gradients, step);
  of_bands_.assign(bands_.size(), {});
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    StepSquares& sum = of_bands_[pieces_[i].band];
    sum.weight += squares_[i].weight, sum.direction += squares_[i].direction;
  }
  backend.for_each(static_cast<std::int64_t>(pieces_.size()), [&](std::int64_t i) {
    const Piece& piece = pieces_[static_cast<std::size_t>(i)];
    const BandRectangle& band = bands_[piece.band];
    const auto rms = [&](double squares) { return std::sqrt(squares / static_cast<double>(band.rows * band.columns)); };
    const double size = clocks_[band.band].rate * band.tensor->rate * std::max(kWeightEps, rms(of_bands_[piece.band].weight));
    FactoredStep op = steps_[static_cast<std::size_t>(i)];
    op.rate = size / std::max(1.0, rms(of_bands_[piece.band].direction) / kMostRms);
    op.decay = decays(*band.tensor) ? options_.decay * size : 0;
    backend.factored_step(op);
  });
}

std::int64_t AdafactorOptimizer::bytes() const {
  return rows_.bytes() + columns_.bytes() + clocks_.bytes() + static_cast<std::int64_t>(mean_.size() * sizeof(double));
}

std::map<std::string, std::vector<double>*> AdafactorOptimizer::band_numbers() {
  auto numbers = clocks_.numbers();
  numbers["mean"] = &mean_;
  return numbers;
}

std::int64_t AdafactorOptimizer::state_bytes(const TrainOptions& options, const WeightTable& table) {
  const Sizes sizes = sizes_of(table);
  return (sizes.rows + sizes.columns) * bytes_of(DType::float32) + BandClocks::state_bytes(options, kRule, table.band_count()) +
         table.band_count() * static_cast<std::int64_t>(sizeof(double));
}

std::string_view AdafactorOptimizer::refuses(BandPolicy policy) {
  if (policy == BandPolicy::dense) return kNoDenseRatio;
  return policy == BandPolicy::catch_up ? "its moments forget by a clock of their own, which knows no idle steps" : "";
}

}  // namespace elastiform
