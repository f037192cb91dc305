#include "experiments/elastiform/memory_limit.hpp"

#include <fmt/core.h>

#include <array>
#include <charconv>
#include <cmath>

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

struct Unit {
  std::string_view suffix;
  double bytes;
};
constexpr std::array<Unit, 9> kUnits{
    {{"KiB", 0x1p10}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}, {"K", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"", 1}}};
constexpr double kMost = 0x1p50;  // no machine has more, and sums of such numbers stay far from the end of 64 bits

}  // namespace

std::int64_t parse_memory_limit(std::string_view text) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, std::chars_format::fixed);
  const std::string_view suffix = text.substr(static_cast<std::size_t>(end - text.data()));
  for (const Unit& unit : kUnits) {
    if (error != std::errc{} || suffix != unit.suffix) continue;
    const double bytes = std::floor(number * unit.bytes);
    if (bytes >= 1 && bytes <= kMost) return static_cast<std::int64_t>(bytes);
  }
  throw InputError({"--memory-limit", "bytes such as 512MiB or 1.5GiB", fmt::format("\"{}\"", text.substr(0, 60)), ""});
}

std::string memory_limit_text(std::int64_t bytes, Rounded rounded) {
  const bool small = bytes < std::int64_t{16} << 20;
  const std::int64_t unit = std::int64_t{1} << (small ? 10 : 20);
  return fmt::format("{}{}", (rounded == Rounded::up ? bytes + unit - 1 : bytes) / unit, small ? "KiB" : "MiB");
}

}  // namespace elastiform
