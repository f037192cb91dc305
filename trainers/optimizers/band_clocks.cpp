#include "trainers/optimizers/band_clocks.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/errors.hpp"

namespace elastiform {

BandPolicy parse_band_policy(std::string_view text) {
  if (text == "dense") return BandPolicy::dense;
  if (text == "lazy-global") return BandPolicy::lazy_global;
  if (text == "lazy-local") return BandPolicy::lazy_local;
  if (text == "catch-up") return BandPolicy::catch_up;
  throw InputError({"recipe: train.policy", "one of dense, lazy-global, lazy-local, catch-up", '"' + std::string(text) + '"', ""});
}

BandClocks::BandClocks(const TrainOptions& options, const MomentRule& rule, const WeightTable& table)
    : policy_(parse_band_policy(options.policy)), rule_(rule), band_warmup_(options.band_warmup),
      count_(static_cast<std::size_t>(table.band_count()), 0), bands_(count_.size()) {
  if (policy_ != BandPolicy::catch_up) return;
  last_.assign(count_.size(), 0);
  if (rule.corrected) normal1_.assign(count_.size(), 0);
  if (rule.corrected && rule.has_second()) normal2_.assign(count_.size(), 0);
}

namespace {

/// 1 - decay^time, to the last bit also where decay is close to 1.
double correction(double decay, double time) { return -std::expm1(time * std::log(decay)); }

/// Catch-up: the sum of a moment's weights, which idle steps fade like the moment itself.
double renewed_normal(std::vector<double>& normals, std::size_t at, double decay, double fade) {
  if (normals.empty()) return 1;
  return normals[at] = decay * fade * normals[at] + (1 - decay);
}

}  // namespace

BandClocks::Band BandClocks::touch(std::size_t at, const UpdateStep& step) {
  count_[at] += 1;
  Band band;
  if (policy_ == BandPolicy::catch_up) {
    // Moments of k idle steps fade without moving the weight; the normalisers fade with them (methods §3.1).
    const double idle = count_[at] == 1 ? 0 : static_cast<double>(step.step) - last_[at] - 1;
    band.fade1 = std::pow(rule_.first, idle);
    band.fade2 = std::pow(rule_.second, idle);
    band.first = renewed_normal(normal1_, at, rule_.first, band.fade1);
    band.second = renewed_normal(normal2_, at, rule_.second, band.fade2);
    last_[at] = static_cast<double>(step.step);
  } else {
    // lazy-local: the band's own clock; with the run's a band returning after long absence moves (1-β1)/sqrt(1-β2) rates.
    band.time = policy_ == BandPolicy::lazy_local ? count_[at] : static_cast<double>(step.step + 1);
    if (rule_.corrected) band.first = correction(rule_.first, band.time), band.second = correction(rule_.second, band.time);
  }
  // A band first met at the peak rate gets a warm-up of its own. The slower of the two ramps counts, not their product.
  band.rate = step.rate;
  if (band_warmup_ > 0 && policy_ != BandPolicy::dense)
    band.rate *= std::min(1.0, count_[at] / static_cast<double>(band_warmup_) / step.warmup);
  return band;
}

void BandClocks::advance(const ActiveBands& active, const UpdateStep& step) {
  for (std::size_t at = 0; at < bands_.size(); ++at)
    if (moves(static_cast<std::int64_t>(at), active)) bands_[at] = touch(at, step);
}

void BandClocks::rectangles(const WeightTable& table, const ActiveBands& active, std::vector<BandRectangle>& list) const {
  // Rectangles of equal counters and equal activity merge; catch-up bands differ in their last step too, so they stay apart.
  const auto key = [&](std::int64_t band) -> std::int64_t {
    if (!moves(band, active)) return -1;
    if (policy_ == BandPolicy::catch_up) return band;
    return 2 * static_cast<std::int64_t>(count_[static_cast<std::size_t>(band)]) + (active[band] ? 1 : 0);
  };
  band_rectangles(table, key, list);
}

std::map<std::string, std::vector<double>*> BandClocks::numbers() {
  std::map<std::string, std::vector<double>*> numbers{{"count", &count_}};
  if (!last_.empty()) numbers["last"] = &last_;
  if (!normal1_.empty()) numbers["normal1"] = &normal1_;
  if (!normal2_.empty()) numbers["normal2"] = &normal2_;
  return numbers;
}

std::int64_t BandClocks::numbers_a_band(BandPolicy policy, const MomentRule& rule) {
  if (policy != BandPolicy::catch_up) return 1;
  return 2 + (rule.corrected ? rule.moments : 0);
}

std::int64_t BandClocks::state_bytes(const TrainOptions& options, const MomentRule& rule, std::int64_t bands) {
  return numbers_a_band(parse_band_policy(options.policy), rule) * bands * static_cast<std::int64_t>(sizeof(double));
}

}  // namespace elastiform
