#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "supernet/cost_model.hpp"

namespace elastiform {

/// Costs that a budget may limit here, exact integers: additive, or, as latency, rising with what is. latency: the predicted one with its
/// guard band, in picoseconds.
enum class Cost : std::uint8_t { parameters, block_parameters, macs, latency };
inline constexpr std::array kCosts = {Cost::parameters, Cost::block_parameters, Cost::macs, Cost::latency};
std::string_view name_of(Cost cost);
std::int64_t value_of(const Costs& costs, Cost cost);
/// "98624", "4.25ms": a value as budgets read it, exactly.
std::string amount_text(Cost cost, std::int64_t value);

/// One two-sided limit in absolute numbers, both ends included.
struct Limit {
  Cost cost = Cost::parameters;
  std::int64_t low = 0;
  std::int64_t high = INT64_MAX;
};

/// Limits that all hold together. Text: "parameters=..2M", "macs=1M..3M", "parameters=..60%" (of the largest subnet), joined by ","; K M G T
/// are powers of 1000, a latency has ns, us, ms or s; quoted "parameters<=2M" and ">=" also parse. Throws InputError (where: "budget
/// TEXT"); a bare "parameters" is refused and names the unquoted > as the likely cause; costs that exist but cannot be limited yet are
/// refused by name, latency where `costs` has no table of it.
class Budget {
 public:
  Budget() = default;
  static Budget parse(const std::vector<std::string>& texts, const CostModel& costs);
  const std::vector<Limit>& limits() const { return limits_; }
  bool admits(const Costs& costs) const;
  /// The limit on a cost, if there is one.
  const Limit* limit_of(Cost cost) const;
  /// Canonical: "parameters=..2000000,macs=1000000..3000000", sorted by cost, one range a cost; "" when there is no limit.
  std::string text() const;

 private:
  std::vector<Limit> limits_;
};

}  // namespace elastiform
