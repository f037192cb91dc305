// Optimizer steps: collected inside loops, one launch of a kind for all of a step's rectangles.
#include <algorithm>

#include "kernels/cuda/cuda_backend.hpp"

namespace elastiform::ELASTIFORM_GPU {

std::size_t CudaBackend::collected() const {
  return adamw_.list.size() + coded_.list.size() + momentum_.list.size() + factored_.list.size() + zeroed_.list.size();
}

void CudaBackend::settle() {
  if (collected() > collected_before_body_) run_collected();
}

template <class AnyRectangle>
void CudaBackend::run_list(Collected<AnyRectangle>& collected) {
  if (!collected.list.empty())
    ELASTIFORM_GPU::run(stream_, uploads_.upload(std::span(collected.list)), static_cast<std::int64_t>(collected.list.size()),
                        collected.tiles);
}

void CudaBackend::run_collected() {
  struct Forget {  // also when a launch fails
    CudaBackend& backend;
    ~Forget() { backend.forget_collected(); }
  } forget{*this};
  run_list(adamw_);
  run_list(coded_);
  run_list(momentum_);
  run_list(factored_);
  if (!zeroed_.list.empty())
    ELASTIFORM_GPU::zero(stream_, uploads_.upload(std::span(zeroed_.list)), static_cast<std::int64_t>(zeroed_.list.size()), zeroed_.tiles);
}

void CudaBackend::forget_collected() {
  adamw_.clear();
  coded_.clear();
  momentum_.clear();
  factored_.clear();
  zeroed_.clear();
  collected_before_body_ = 0;
}

template <class Op, class AnyRectangle>
void CudaBackend::collect(const Op& op, Collected<AnyRectangle>& collected) {
  settle();
  if (op.weight.size() == 0) return;
  collected.list.push_back(rectangle_of(op, space_.kept_shadow(op.weight), collected.tiles));
  collected.tiles += tiles_of(op);
}

void CudaBackend::do_adamw(const Adamw& op) {
  collect(op, adamw_);
  space_.wrote(op.m);
  space_.wrote(op.v);
  if (loops_ == 0) run_collected();
}

void CudaBackend::do_adamw_8bit(const Adamw8bit& op) {
  collect(op, coded_);
  if (loops_ == 0) run_collected();
}

void CudaBackend::do_momentum_step(const MomentumStep& op) {
  collect(op, momentum_);
  space_.wrote(op.m);
  if (loops_ == 0) run_collected();
}

void CudaBackend::do_factored_step(const FactoredStep& op) {
  collect(op, factored_);
  if (loops_ == 0) run_collected();
}

void CudaBackend::do_factored_moments(const FactoredMoments& op) {
  if (begin(op.row, op.column) && op.gradient.size() > 0) ELASTIFORM_GPU::factored_moments(stream_, op);
}

template <class Op, class AnyRectangle>
void CudaBackend::squares_of(std::span<const Op> steps, Collected<AnyRectangle>& collected, std::span<StepSquares> squares) {
  constexpr std::int64_t kSums = sizeof(StepSquares) / sizeof(double);
  settle();
  std::fill(squares.begin(), squares.end(), StepSquares{});
  collected.clear();
  for (const Op& op : steps) {
    collected.list.push_back(rectangle_of(op, nullptr, collected.tiles));
    collected.tiles += tiles_of(op);
  }
  if (collected.tiles == 0) return;
  const auto count = static_cast<std::int64_t>(steps.size()), result_bytes = count * static_cast<std::int64_t>(sizeof(StepSquares));
  std::byte* scratch = scratch_.at_least(result_bytes + kSums * sum_squares_scratch_bytes(collected.tiles));
  auto* results = reinterpret_cast<double*>(scratch);
  ELASTIFORM_GPU::step_squares(stream_, uploads_.upload(std::span(collected.list)), count, collected.tiles, results,
                               scratch + result_bytes);
  const std::span<const double> sums = read(results, kSums * count);
  for (std::size_t i = 0; i < squares.size(); ++i) squares[i] = {.weight = sums[2 * i], .direction = sums[2 * i + 1]};
}

void CudaBackend::do_adamw_directions(std::span<const AdamwDirection> steps, std::span<StepSquares> squares) {
  squares_of(steps, directions_, squares);
  for (const AdamwDirection& op : steps) space_.wrote(op.m), space_.wrote(op.v), space_.wrote(op.gradient);
}

void CudaBackend::do_factored_squares(std::span<const FactoredStep> steps, std::span<StepSquares> squares) {
  squares_of(steps, factored_squared_, squares);
}

StepSquares CudaBackend::do_adamw_direction(const AdamwDirection& op) {
  StepSquares squares;
  do_adamw_directions(std::span(&op, 1), std::span(&squares, 1));
  return squares;
}

StepSquares CudaBackend::do_factored_squares(const FactoredStep& step) {
  StepSquares squares;
  do_factored_squares(std::span(&step, 1), std::span(&squares, 1));
  return squares;
}

}  // namespace elastiform::ELASTIFORM_GPU
