#pragma once

#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {

/// Adafactor (arXiv 1804.04235) with a band in the part of its tensor: of g² a mean for every row and every column of the band, so that a
/// narrow subnet does not rewrite what a wide one knows, and zeros of inactive columns dilute nothing. β2 at a band's update t is 1 - t^-0.8;
/// v̂_ij = row_i·column_j / mean(row); u = g/sqrt(v̂), divided by max(1, rms(u)); θ ← θ(1 - λ·step) - step·u with step = rate·max(1e-3,
/// rms(θ)), both rms over the band. A band of one row or column is not factored: then v̂ is exact. State: rows + columns of each band, two
/// numbers a band.
class AdafactorOptimizer final : public Optimizer {
 public:
  AdafactorOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend);
  void update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) override;
  std::int64_t bytes() const override;
  bool moves_idle() const override { return clocks_.moves_idle(); }
  std::map<std::string, std::vector<double>*> band_numbers() override;
  std::map<std::string, StateArray*> arrays() override { return {{"rows", &rows_}, {"columns", &columns_}}; }
  static std::int64_t state_bytes(const TrainOptions& options, const WeightTable& table);
  static void set_defaults(TrainOptions& options) { options.rate = 1e-2, options.decay = 0; }
  static std::string_view refuses(BandPolicy policy);

 private:
  /// Rows of a band, cut for the workers.
  struct Piece {
    BandRectangle rectangle;
    std::size_t band = 0;  // in bands_
  };
  void list_bands(const WeightTable& table, const ActiveBands& active);
  /// The band's moments take in its gradient; steps_ and squares_ of all pieces.
  void move_moments(Backend& backend, Weights& weights, const Weights& gradients, const UpdateStep& step);

  TrainOptions options_;
  BandClocks clocks_;
  StateArray rows_, columns_;
  std::vector<double> mean_;                      // per band: of its row means
  std::vector<std::int64_t> row_at_, column_at_;  // per band: where its means begin
  // Scratch of an update.
  std::vector<BandRectangle> bands_;
  std::vector<Piece> pieces_;
  std::vector<ConstView> views_;     // one a band
  std::vector<double> sums_;         // likewise
  std::vector<FactoredStep> steps_;  // one a piece
  std::vector<StepSquares> squares_, of_bands_;
};

}  // namespace elastiform
