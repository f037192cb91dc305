#pragma once

#include "trainers/precision/precision_rule.hpp"

namespace elastiform {

/// Weights that hold bfloat16 values, without a master copy of more bits: after an update each is rounded to one of its two neighbours at
/// random, so that small steps are not lost (arXiv 2010.06192). They are stored as float32, so this shows what the format does to a
/// training and saves no memory.
class Bf16Pure final : public PrecisionRule {
 public:
  Bf16Pure(const TrainOptions& options, std::shared_ptr<const WeightTable> table, Backend& backend);
  void initialize(Backend& backend, Weights& weights) override;
  void updated(Backend& backend, Weights& weights, const ActiveBands& active, std::int64_t t) override;

 private:
  /// step: names the random bits.
  void round(Backend& backend, Weights& weights, const ActiveBands* active, std::uint32_t step);

  std::uint64_t seed_;
  bool dense_;  // updates move bands that are not active, too
  std::vector<BandRectangle> rectangles_;
};

}  // namespace elastiform
