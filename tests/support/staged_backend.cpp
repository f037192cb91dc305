#include "tests/support/staged_backend.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/memory_block.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kMargin = 256;   // bytes around a copy, and what allocations are aligned to
constexpr std::byte kMarginByte{0xff};  // NaN in every element type

/// Bytes of the host from the first to the last that a view refers to.
struct Range {
  const std::byte *begin = nullptr, *end = nullptr;
  std::byte* written = nullptr;  // begin, where an operation may write
};
Range range_of(ConstView view) { return {view.data, view.data + ((view.rows - 1) * view.ld + view.columns) * bytes_of(view.dtype)}; }
Range range_of(View view) {
  Range range = range_of(ConstView(view));
  range.written = view.data;
  return range;
}

class Staged {
 public:
  Staged(const char* operation, MemorySpace& device) : operation_(operation), device_(device) {}

  template <class AnyView>
  void add(AnyView view) {
    if (!view.empty() && view.size() > 0) ranges_.push_back(range_of(view));
  }

  /// After all have been added.
  void copy_to_device() {
    merge();
    for (const Range& range : ranges_) {
      Copy copy;
      copy.first = kMargin + static_cast<std::int64_t>(reinterpret_cast<std::uintptr_t>(range.begin) % kMargin);
      copy.before.assign(static_cast<std::size_t>(copy.first + (range.end - range.begin) + kMargin), kMarginByte);
      std::memcpy(copy.before.data() + copy.first, range.begin, static_cast<std::size_t>(range.end - range.begin));
      copy.block = allocate_block(static_cast<std::int64_t>(copy.before.size()), device_);
      device_.copy(copy.block.get(), copy.before.data(), static_cast<std::int64_t>(copy.before.size()));
      copies_.push_back(std::move(copy));
    }
  }

  template <class AnyView>
  AnyView on_device(AnyView view) const {
    if (view.empty() || view.size() == 0) return view;
    for (std::size_t i = 0; i < ranges_.size(); ++i)
      if (view.data >= ranges_[i].begin && view.data < ranges_[i].end)
        view = {copies_[i].block.get() + copies_[i].first + (view.data - ranges_[i].begin), view.rows, view.columns, view.ld, view.dtype};
    return view;
  }

  void copy_back() {
    for (std::size_t i = 0; i < ranges_.size(); ++i) {
      const Range& range = ranges_[i];
      const Copy& copy = copies_[i];
      std::vector<std::byte> after(copy.before.size());
      device_.copy(after.data(), copy.block.get(), static_cast<std::int64_t>(after.size()));
      const std::int64_t bytes = range.end - range.begin;
      const auto intact = [&](std::int64_t first, std::int64_t end) {
        return std::equal(after.begin() + first, after.begin() + end, copy.before.begin() + first);
      };
      if (!intact(0, copy.first) || !intact(copy.first + bytes, static_cast<std::int64_t>(after.size())))
        fail("wrote outside its operands");
      if (range.written) std::memcpy(range.written, after.data() + copy.first, static_cast<std::size_t>(bytes));
      else if (!intact(copy.first, copy.first + bytes)) fail("wrote to an operand that it only reads");
    }
  }

 private:
  struct Copy {
    MemoryBlock block;
    std::vector<std::byte> before;  // with its margins
    std::int64_t first = 0;         // byte of the range's first
  };

  void merge() {
    std::sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) { return a.begin < b.begin; });
    std::vector<Range> merged;
    for (const Range& range : ranges_) {
      if (merged.empty() || range.begin >= merged.back().end) {
        merged.push_back(range);
        continue;
      }
      Range& last = merged.back();
      if (range.written && !last.written) last.written = range.written - (range.begin - last.begin);
      last.end = std::max(last.end, range.end);
    }
    ranges_ = std::move(merged);
  }
  [[noreturn]] void fail(const char* what) const { throw std::logic_error(std::string(operation_) + " on the device " + what); }

  const char* operation_;
  MemorySpace& device_;
  std::vector<Range> ranges_;
  std::vector<Copy> copies_;
};

/// Stages the views, and runs body with where they are on the device.
template <class Body, class... Views>
void stage(const char* operation, MemorySpace& device, const Body& body, Views... views) {
  Staged staged(operation, device);
  (staged.add(views), ...);
  staged.copy_to_device();
  body(staged.on_device(views)...);
  staged.copy_back();
}

/// Stages an operation's views, and runs body with it on the device.
template <class Op, class Body>
void stage_operation(Backend& device, const Op& op, const Body& body) {
  Staged staged(Op::kName, device.memory());
  std::apply([&](const auto&... views) { (staged.add(views), ...); }, op.fields());
  staged.copy_to_device();
  Op on_device = op;
  const auto move = [&]<class AnyView>(const AnyView& view) { const_cast<AnyView&>(view) = staged.on_device(view); };  // on_device's own
  std::apply([&](const auto&... views) { (move(views), ...); }, on_device.fields());
  body(on_device);
  staged.copy_back();
}

}  // namespace

template <class Op>
void StagedBackend::run_staged(const Op& op, void (Backend::*operation)(const Op&)) {
  stage_operation(device_, op, [&](const Op& on_device) { (device_.*operation)(on_device); });
}

StepSquares StagedBackend::do_adamw_direction(const AdamwDirection& op) {
  StepSquares squares;
  stage_operation(device_, op,
                  [&](const AdamwDirection& on_device) { device_.adamw_directions(std::span(&on_device, 1), std::span(&squares, 1)); });
  return squares;
}

StepSquares StagedBackend::do_factored_squares(const FactoredStep& step) {
  StepSquares squares;
  stage_operation(device_, step,
                  [&](const FactoredStep& on_device) { device_.factored_squares(std::span(&on_device, 1), std::span(&squares, 1)); });
  return squares;
}

double StagedBackend::do_sum_squares(ConstView x) {
  double sum = 0;
  stage(
      "sum_squares", device_.memory(), [&](ConstView on_device) { sum = device_.sum_squares(on_device); }, x);
  return sum;
}

double StagedBackend::do_sum(ConstView row) {
  double sum = 0;
  stage(
      "sum", device_.memory(), [&](ConstView on_device) { sum = device_.sum(on_device); }, row);
  return sum;
}

void StagedBackend::do_copy(View to, ConstView from) {
  stage(
      "copy", device_.memory(), [&](View to_device, ConstView from_device) { device_.copy(to_device, from_device); }, to, from);
}

void StagedBackend::do_zero(View x) {
  stage(
      "zero", device_.memory(), [&](View on_device) { device_.zero(on_device); }, x);
}

void StagedBackend::do_add(View to, ConstView from, double factor) {
  stage(
      "add", device_.memory(), [&](View to_device, ConstView from_device) { device_.add(to_device, from_device, factor); }, to, from);
}

void StagedBackend::do_multiply(View to, ConstView from) {
  stage(
      "multiply", device_.memory(), [&](View to_device, ConstView from_device) { device_.multiply(to_device, from_device); }, to, from);
}

void StagedBackend::do_scale(View x, double factor) {
  stage(
      "scale", device_.memory(), [&](View on_device) { device_.scale(on_device, factor); }, x);
}

}  // namespace elastiform
