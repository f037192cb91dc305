#include "trainers/sharp_sequences.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace elastiform {
namespace {

/// Of every sequence the sum of its losses.
void sum_losses(const Batch& batch, ConstView losses, std::span<double> sums) {
  const auto rows = static_cast<std::size_t>(batch.targets_count() / batch.sequences);
  dispatch(losses.dtype, [&]<class T>() {
    const T* loss = losses.row<T>(0);
    for (std::size_t sequence = 0; sequence < sums.size(); ++sequence) {
      double sum = 0;
      for (std::size_t i = 0; i < rows; ++i) sum += static_cast<double>(loss[sequence * rows + i]);
      sums[sequence] = sum;
    }
  });
}

}  // namespace

SharpSequences::SharpSequences(int sequences, std::int64_t micro_batches)
    : sequences_(static_cast<std::size_t>(sequences)), before_(sequences_ * static_cast<std::size_t>(micro_batches)), rise_(sequences_),
      order_(sequences_) {}

std::int64_t SharpSequences::bytes(int sequences, std::int64_t micro_batches) {
  return sequences * ((micro_batches + 1) * static_cast<std::int64_t>(sizeof(double)) + static_cast<std::int64_t>(sizeof(int)));
}

void SharpSequences::before(std::int64_t micro_batch, const Batch& batch, ConstView losses) {
  sum_losses(batch, losses, std::span(before_).subspan(static_cast<std::size_t>(micro_batch) * sequences_, sequences_));
}

std::span<const int> SharpSequences::choose(std::int64_t micro_batch, const Batch& batch, ConstView losses, int count) {
  sum_losses(batch, losses, rise_);
  for (std::size_t i = 0; i < sequences_; ++i) {
    rise_[i] -= before_[static_cast<std::size_t>(micro_batch) * sequences_ + i];
    if (!std::isfinite(rise_[i])) rise_[i] = std::numeric_limits<double>::infinity();
  }
  std::iota(order_.begin(), order_.end(), 0);
  const auto more = [&](int a, int b) {
    const double of_a = rise_[static_cast<std::size_t>(a)], of_b = rise_[static_cast<std::size_t>(b)];
    return of_a != of_b ? of_a > of_b : a < b;
  };
  std::sort(order_.begin(), order_.end(), more);
  std::sort(order_.begin(), order_.begin() + count);
  return std::span(order_).first(static_cast<std::size_t>(count));
}

}  // namespace elastiform
