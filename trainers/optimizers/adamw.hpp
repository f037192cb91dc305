#pragma once

#include "trainers/optimizers/optimizer.hpp"

namespace elastiform {

/// AdamW (arXiv 1711.05101) with the band policies of a weight-sharing network. State: two moments an element; a step counter a band
/// (catch-up: three more numbers). Decay on matrices only: not on embeddings, gains and biases.
class AdamwOptimizer final : public Optimizer {
 public:
  AdamwOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend);
  void update(Backend& backend, Weights& weights, const Weights& gradients, const ActiveBands& active, const UpdateStep& step) override;
  std::int64_t bytes() const override;
  std::map<std::string, Weights*> moments() override;
  std::map<std::string, std::vector<double>*> band_numbers() override;
  static std::int64_t state_bytes(const TrainOptions& options, std::int64_t elements, std::int64_t bands);

 private:
  struct Corrections {
    double first = 1, second = 1;  // what m and v are divided by
    double rate = 0;
    double fade1 = 1, fade2 = 1;  // catch-up: what idle steps did to the moments
  };
  Corrections touch(std::int64_t band, const UpdateStep& step);

  TrainOptions options_;
  BandPolicy policy_;
  Weights m_, v_;
  std::vector<double> count_, last_, normal1_, normal2_;  // per band; counts are whole numbers
  // Scratch of an update, kept for the next one so that it allocates nothing.
  std::vector<Corrections> corrections_;  // per band
  std::vector<BandRectangle> rectangles_;
};

}  // namespace elastiform
