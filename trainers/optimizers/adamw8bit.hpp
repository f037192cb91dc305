#pragma once

#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {

/// AdamW with 8-bit moments (arXiv 2110.02861): codes of the dynamic map in blocks of at most 256 elements, each with two scales. Blocks do
/// not cross bands: one that mixed active and idle elements would code the idle ones anew in every step, a random walk of 16 % after 100
/// (methods §3.4). Embeddings, gains, biases and matrices of less than 4096 elements keep moments of 32 bits. State: 2 bytes an element,
/// padding of rows included, and 8 a block; counters as AdamW's.
class Adamw8bitOptimizer final : public Optimizer {
 public:
  Adamw8bitOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend);
  void update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) override;
  std::int64_t bytes() const override;
  bool moves_idle() const override { return clocks_.moves_idle(); }
  std::map<std::string, std::vector<double>*> band_numbers() override { return clocks_.numbers(); }
  std::map<std::string, StateArray*> arrays() override;
  static std::int64_t state_bytes(const TrainOptions& options, const WeightTable& table);

 private:
  /// Where the moments of a tensor begin in their arrays, and the scales of a band.
  struct Places {
    std::vector<std::int64_t> codes, wide;  // per tensor; -1: it has none
    std::vector<std::int64_t> scales;       // per band
    std::int64_t code_count = 0, wide_count = 0, scale_count = 0;
  };
  struct Piece {
    BandRectangle rectangle;
    std::int64_t scale = 0;  // of its first block
  };
  static MomentRule rule_of(const TrainOptions& options) { return {options.beta1, options.beta2}; }
  static Places places_of(const WeightTable& table);
  std::size_t number_of(const BandRectangle& rectangle) const;  // of its tensor
  void list_pieces(const WeightTable& table, const ActiveBands& active);
  void step_coded(Backend& backend, Weights& weights, ConstView gradient, const Piece& piece, double gradient_scale);
  void step_wide(Backend& backend, Weights& weights, ConstView gradient, const BandRectangle& rectangle, double gradient_scale);

  TrainOptions options_;
  std::shared_ptr<const WeightTable> table_;
  BandClocks clocks_;
  Places places_;
  StateArray m_codes_, v_codes_, m_scales_, v_scales_, m_, v_;
  // Scratch of an update.
  std::vector<Piece> pieces_;              // of coded tensors
  std::vector<BandRectangle> rectangles_;  // of the others
};

}  // namespace elastiform
