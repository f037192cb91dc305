#include "kernels/timed_call.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>

namespace elastiform {
namespace {

struct Totals {
  std::string_view operation;
  std::int64_t calls = 0;
  double seconds = 0, flops = 0, bytes = 0;
};

/// Never destroyed: workers may still be inside a call when the program ends.
struct Summary {
  std::mutex mutex;
  std::array<Totals, 32> operations;  // there are 17 operations
  std::size_t count = 0;

  Totals* find(std::string_view operation) {
    for (std::size_t i = 0; i < count; ++i)
      if (operations[i].operation == operation) return &operations[i];
    if (count == operations.size()) return nullptr;
    operations[count].operation = operation;
    return &operations[count++];
  }
};

Summary& summary() {
  static Summary* const all = new Summary;
  return *all;
}

void print_summary() {
  Summary& all = summary();
  const std::lock_guard lock(all.mutex);
  std::sort(all.operations.begin(), all.operations.begin() + all.count,
            [](const Totals& a, const Totals& b) { return a.seconds > b.seconds; });
  double seconds = 0;
  for (std::size_t i = 0; i < all.count; ++i) seconds += all.operations[i].seconds;
  fmt::print(stderr, "{:<20}{:>10}{:>12}{:>8}{:>10}{:>10}   per core; GB/s of operands, wherever they lay\n", "operation", "calls",
             "core ms", "share", "GFLOP/s", "GB/s");
  for (std::size_t i = 0; i < all.count; ++i) {
    const Totals& t = all.operations[i];
    fmt::print(stderr, "{:<20}{:>10}{:>12.1f}{:>7.1f}%{:>10}{:>10.1f}\n", t.operation, t.calls, t.seconds * 1e3, 100 * t.seconds / seconds,
               t.flops > 0 ? fmt::format("{:.1f}", t.flops / t.seconds * 1e-9) : "", t.bytes / t.seconds * 1e-9);
  }
}

}  // namespace

std::int64_t TimedCall::now() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void TimedCall::add() const noexcept {
  const double seconds = static_cast<double>(now() - begin_) * 1e-9 * workers_;
  Summary& all = summary();
  const std::lock_guard lock(all.mutex);
  if (all.count == 0) std::atexit(print_summary);
  Totals* totals = all.find(operation_);
  if (!totals) return;
  totals->calls += 1;
  totals->seconds += seconds;
  totals->flops += flops_;
  totals->bytes += static_cast<double>(bytes_);
}

}  // namespace elastiform
