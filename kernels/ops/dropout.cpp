#include "kernels/ops/dropout.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/ops/checks.hpp"
#include "kernels/random.hpp"

namespace elastiform {
namespace {

constexpr int kStepBits = 40, kRowBits = 40, kPlaceBits = 16, kGroupBits = 24;

}  // namespace

void Dropout::check() const {
  const Checks checks(kName);
  checks.present("y", y);
  checks.like("x", x, "y", y);
  if (!add.empty()) checks.like("add", add, "y", y);
  if (!(rate >= 0 && rate < 1)) checks.fail("rate is " + std::to_string(rate) + ", not in [0, 1)");
  const auto fits = [](std::uint64_t value, int bits) { return value >> bits == 0; };
  if (!fits(step, kStepBits) || !fits(place, kPlaceBits) || rows_before < 0 ||
      !fits(static_cast<std::uint64_t>(rows_before + y.rows), kRowBits) || !fits(static_cast<std::uint64_t>(y.columns) / 4, kGroupBits))
    checks.fail("steps and rows are counted with 40 bits, places with 16, columns with 26");
}

std::array<std::uint32_t, 4> Dropout::counter(std::int64_t row, std::int64_t group) const {
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
  const auto of_step = static_cast<std::uint64_t>(rows_before + row);
  return {low(of_step), low(step), high(step) << kGroupBits | static_cast<std::uint32_t>(group),
          high(of_step) << 24 | place << 8 | static_cast<std::uint32_t>(Purpose::dropout)};
}

std::uint32_t Dropout::threshold() const {
  return static_cast<std::uint32_t>(std::min<long long>(std::llround(rate * 0x1p32), 0xffffffff));
}

}  // namespace elastiform
