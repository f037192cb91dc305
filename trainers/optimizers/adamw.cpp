#include "trainers/optimizers/adamw.hpp"

#include <algorithm>
#include <cmath>

namespace elastiform {

AdamwOptimizer::AdamwOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
    : options_(options), policy_(parse_band_policy(options.policy)), m_(table, backend.dtype(), backend.memory()),
      v_(table, backend.dtype(), backend.memory()), count_(static_cast<std::size_t>(table->band_count()), 0), corrections_(count_.size()) {
  rectangles_.reserve(most_band_rectangles(*table));
  if (policy_ == BandPolicy::catch_up) {
    last_.assign(count_.size(), 0);
    normal1_.assign(count_.size(), 0);
    normal2_.assign(count_.size(), 0);
  }
}

AdamwOptimizer::Corrections AdamwOptimizer::touch(std::int64_t band, const UpdateStep& step) {
  const std::size_t at = static_cast<std::size_t>(band);
  count_[at] += 1;
  Corrections c;
  if (policy_ == BandPolicy::catch_up) {
    // Moments of k idle steps fade without moving the weight; the normalisers fade with them (methods §3.1).
    const double idle = count_[at] == 1 ? 0 : static_cast<double>(step.step) - last_[at] - 1;
    c.fade1 = std::pow(options_.beta1, idle);
    c.fade2 = std::pow(options_.beta2, idle);
    normal1_[at] = options_.beta1 * c.fade1 * normal1_[at] + (1 - options_.beta1);
    normal2_[at] = options_.beta2 * c.fade2 * normal2_[at] + (1 - options_.beta2);
    last_[at] = static_cast<double>(step.step);
    c.first = normal1_[at];
    c.second = normal2_[at];
  } else {
    // lazy-local: the band's own clock; with the run's a band returning after long absence moves (1-β1)/sqrt(1-β2) rates.
    const double t = policy_ == BandPolicy::lazy_local ? count_[at] : static_cast<double>(step.step + 1);
    c.first = -std::expm1(t * std::log(options_.beta1));
    c.second = -std::expm1(t * std::log(options_.beta2));
  }
  // A band first met at the peak rate gets a warm-up of its own. The slower of the two ramps counts, not their product.
  c.rate = step.rate;
  if (options_.band_warmup > 0 && policy_ != BandPolicy::dense)
    c.rate *= std::min(1.0, count_[at] / static_cast<double>(options_.band_warmup) / step.warmup);
  return c;
}

void AdamwOptimizer::update(Backend& backend, Weights& weights, const Weights& gradients, const ActiveBands& active,
                            const UpdateStep& step) {
  const WeightTable& table = weights.table();
  const bool dense = policy_ == BandPolicy::dense;
  for (std::int64_t band = 0; band < table.band_count(); ++band)
    if (dense || active[band]) corrections_[static_cast<std::size_t>(band)] = touch(band, step);
  // Rectangles of equal counters and equal activity merge; catch-up bands differ in their last step too, so they stay apart.
  const auto key = [&](std::int64_t band) -> std::int64_t {
    if (!dense && !active[band]) return -1;
    if (policy_ == BandPolicy::catch_up) return band;
    return 2 * static_cast<std::int64_t>(count_[static_cast<std::size_t>(band)]) + (active[band] ? 1 : 0);
  };
  band_rectangles(table, key, rectangles_);
  backend.for_each(static_cast<std::int64_t>(rectangles_.size()), [&](std::int64_t i) {
    const BandRectangle& r = rectangles_[static_cast<std::size_t>(i)];
    const Corrections& c = corrections_[static_cast<std::size_t>(r.band)];
    const View m = r.of(m_), v = r.of(v_);
    if (c.fade1 != 1 || c.fade2 != 1) backend.scale(m, c.fade1), backend.scale(v, c.fade2);
    const bool decays = r.tensor->role == Role::matrix || r.tensor->role == Role::residual_out;
    backend.adamw({.weight = r.of(weights),
                   .m = m,
                   .v = v,
                   .gradient = active[r.band] ? r.of(gradients) : ConstView{},
                   .rate = c.rate,
                   .beta1 = options_.beta1,
                   .beta2 = options_.beta2,
                   .eps = options_.eps,
                   .decay = decays ? options_.decay : 0,
                   .correction1 = c.first,
                   .correction2 = c.second,
                   .gradient_scale = step.gradient_scale});
  });
}

std::int64_t AdamwOptimizer::bytes() const {
  return m_.bytes() + v_.bytes() +
         static_cast<std::int64_t>((count_.size() + last_.size() + normal1_.size() + normal2_.size()) * sizeof(double));
}

std::map<std::string, Weights*> AdamwOptimizer::moments() { return {{"m", &m_}, {"v", &v_}}; }

std::map<std::string, std::vector<double>*> AdamwOptimizer::band_numbers() {
  std::map<std::string, std::vector<double>*> numbers{{"count", &count_}};
  if (policy_ == BandPolicy::catch_up) {
    numbers["last"] = &last_;
    numbers["normal1"] = &normal1_;
    numbers["normal2"] = &normal2_;
  }
  return numbers;
}

std::int64_t AdamwOptimizer::state_bytes(const TrainOptions& options, std::int64_t elements, std::int64_t bands) {
  const std::int64_t numbers = parse_band_policy(options.policy) == BandPolicy::catch_up ? 4 : 1;
  return 2 * elements * bytes_of(DType::float32) + numbers * bands * static_cast<std::int64_t>(sizeof(double));
}

}  // namespace elastiform
