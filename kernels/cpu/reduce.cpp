#include "kernels/cpu/reduce.hpp"

#include <algorithm>
#include <array>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/reduce.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {
using cpu::RowSums;

/// Adds partial sums pairwise like a binary counter: the tree depends on their number only, and log2 of it are kept.
template <class Value, class Add>
class Tree {
 public:
  explicit Tree(Add add) : add_(add) {}
  HWY_INLINE void push(Value value) {
    int level = 0;
    for (std::uint64_t n = count_++; n & 1; n >>= 1) value = add_(partial_[level++], value);
    partial_[level] = value;
  }
  HWY_INLINE Value total(Value zero) const {
    Value sum = zero;
    bool first = true;
    for (int level = 0; level < kLevels; ++level) {
      if (!(count_ >> level & 1)) continue;
      sum = first ? partial_[level] : add_(partial_[level], sum);
      first = false;
    }
    return sum;
  }

 private:
  static constexpr int kLevels = 48;
  Add add_;
  Value partial_[kLevels];
  std::uint64_t count_ = 0;
};

template <class T>
void add_sums_of(const RowSums& op) {
  const T* x = op.x.row<T>(0);
  const std::int64_t rows = op.x.rows, ld = op.x.ld;
  const auto add = [](FloatVector a, FloatVector b) HWY_ATTR { return hn::Add(a, b); };
  for_vectors(op.x.columns, [&](std::int64_t c, auto access) HWY_ATTR {
    Tree<FloatVector, decltype(add)> tree(add);
    for (std::int64_t first = 0; first < rows; first += op.chunk) {
      const std::int64_t end = std::min(first + op.chunk, rows);
      FloatVector sum = access.load(x + first * ld + c);
      for (std::int64_t n = first + 1; n < end; ++n) sum = hn::Add(sum, access.load(x + n * ld + c));
      tree.push(sum);
    }
    const auto total = tree.total(hn::Zero(Float()));
    const auto before = op.accumulate ? access.load(op.sum + c) : hn::Zero(Float());
    access.store(hn::MulAdd(hn::Set(Float(), op.scale), total, before), op.sum + c);
  });
}

void add_row_sums(const RowSums& op) { op.x.dtype == DType::bfloat16 ? add_sums_of<BFloat16>(op) : add_sums_of<float>(op); }

/// Σ x² of at most kElementChunk elements.
double chunk_squares(const float* x, std::int64_t n) {
  SquareSum sum;
  for_vectors(n, [&](std::int64_t c, auto access) HWY_ATTR { sum.add(access.load(x + c)); });
  return sum.total();
}

double sum_squares(ConstView x) {
  const auto add = [](double a, double b) { return a + b; };
  Tree<double, decltype(add)> rows(add);
  for (std::int64_t n = 0; n < x.rows; ++n) {
    double row = 0;
    for (std::int64_t c = 0; c < x.columns; c += kElementChunk)
      row += chunk_squares(x.row<float>(n) + c, std::min(kElementChunk, x.columns - c));
    rows.push(row);
  }
  return rows.total(0);
}

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(add_row_sums);
HWY_EXPORT(sum_squares);

void cpu::add_row_sums(const RowSums& op) { HWY_DYNAMIC_DISPATCH(add_row_sums)(op); }

void CpuBackend::do_sum_panels(const SumPanels& op) {
  if (op.sum.columns < op.partials.columns) {  // one number for all columns
    double total = 0;
    for (std::int64_t p = 0; p < op.partials.rows; ++p)
      for (std::int64_t c = 0; c < op.partials.columns; ++c) total += static_cast<double>(op.partials.row<float>(p)[c]);
    float& sum = op.sum.row<float>(0)[0];
    sum = (op.accumulate ? sum : 0) + static_cast<float>(total);
    return;
  }
  cpu::add_row_sums({.sum = op.sum.row<float>(0), .x = op.partials, .chunk = 1, .scale = 1, .accumulate = op.accumulate});
}

double CpuBackend::do_sum_squares(ConstView x) { return HWY_DYNAMIC_DISPATCH(sum_squares)(x); }

}  // namespace elastiform
#endif
