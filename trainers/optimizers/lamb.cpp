#include "trainers/optimizers/lamb.hpp"

#include <algorithm>

#include "trainers/optimizers/trust_ratio.hpp"

namespace elastiform {
namespace {

constexpr double kMostTrust = 10;
constexpr std::int64_t kGroupElements = std::int64_t{1} << 18;  // 4 MiB of weights, moments and gradients: the L2 of two cores

}  // namespace

LambOptimizer::LambOptimizer(const TrainOptions& options, std::shared_ptr<const WeightTable> table, const Backend& backend)
    : MomentOptimizer(options, rule_of(options), std::move(table), backend) {
  directions_.reserve(rectangles_.capacity()), squares_.reserve(rectangles_.capacity()), ratios_.reserve(rectangles_.capacity());
}

std::size_t LambOptimizer::end_of_group(std::size_t first, bool all) const {
  std::int64_t elements = 0;
  std::size_t end = first;
  while (end < rectangles_.size()) {
    const bool begins_tensor = end == first || rectangles_[end].tensor != rectangles_[end - 1].tensor;
    if (begins_tensor && !all && elements >= kGroupElements) break;
    elements += rectangles_[end].rows * rectangles_[end].columns;
    ++end;
  }
  return end;
}

void LambOptimizer::update(Backend& backend, Weights& weights, Weights& gradients, const ActiveBands& active, const UpdateStep& step) {
  begin_update(weights.table(), active, step);
  const std::size_t count = rectangles_.size();
  directions_.clear(), squares_.resize(count), ratios_.resize(count);
  for (const BandRectangle& r : rectangles_) {
    const BandClocks::Band& c = clock(r);
    directions_.push_back({.weight = r.of(std::as_const(weights)),
                           .m = r.of(moments_[0]),
                           .v = r.of(moments_[1]),
                           .gradient = r.of(gradients),
                           .beta1 = options_.beta1,
                           .beta2 = options_.beta2,
                           .eps = options_.eps,
                           .decay = decays(*r.tensor) ? options_.decay : 0,
                           .correction1 = c.first,
                           .correction2 = c.second,
                           .gradient_scale = step.gradient_scale});
  }
  const auto ratio_of = [](const TensorSpec&, const SliceNorms& norms) { return std::min(norms.weight / norms.direction, kMostTrust); };
  for (std::size_t first = 0, end = 0; first < count; first = end) {
    end = end_of_group(first, backend.traits().takes_all_rows());
    const auto part = [&](auto& list) { return std::span(list).subspan(first, end - first); };
    const std::span<const BandRectangle> rectangles = part(rectangles_);
    const auto size = static_cast<std::int64_t>(rectangles.size());
    backend.for_each(size, [&](std::int64_t i) { fade(backend, rectangles[static_cast<std::size_t>(i)]); });
    backend.adamw_directions(part(directions_), part(squares_));
    trust_ratios(rectangles, std::span<const StepSquares>(part(squares_)), ratio_of, part(ratios_));
    backend.for_each(size, [&](std::int64_t i) {
      const std::size_t at = static_cast<std::size_t>(i);
      const BandRectangle& r = rectangles[at];
      backend.add(r.of(weights), r.of(std::as_const(gradients)), -clock(r).rate * r.tensor->rate * part(ratios_)[at]);
    });
  }
}

std::string_view LambOptimizer::refuses(BandPolicy policy) { return policy == BandPolicy::dense ? kNoDenseRatio : ""; }

}  // namespace elastiform
