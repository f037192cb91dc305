#include "search/budget.hpp"

#include <algorithm>
#include <array>
#include <boost/multiprecision/cpp_int.hpp>

#include "kernels/errors.hpp"
#include "supernet/nearest_name.hpp"

namespace elastiform {
namespace {

using boost::multiprecision::cpp_int;

constexpr std::array<std::string_view, kCosts.size()> kNames = {"parameters", "block_parameters", "macs", "latency"};
constexpr std::array<std::string_view, 2> kNotYet = {"inference_bytes", "training_bytes"};
constexpr const char* kForm = "a range such as parameters=..2M, macs=1M..3M, latency=..5ms or parameters=..60%";
constexpr std::int64_t kMillisecond = 1'000'000'000;  // in the picoseconds that latencies are counted in

[[noreturn]] void refuse(std::string_view text, std::string expected, std::string found, std::string remedy = "") {
  throw InputError({.where = "budget " + std::string(text.substr(0, 200)),
                    .expected = std::move(expected),
                    .found = std::move(found),
                    .remedy = std::move(remedy)});
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

Cost cost_named(std::string_view name, const CostModel& costs, std::string_view text) {
  if (name == name_of(Cost::latency) && !costs.latency()) refuse(text, "a latency table of this run", costs.why_no_latency());
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (name == kNames[i]) return static_cast<Cost>(i);
  if (std::ranges::find(kNotYet, name) != kNotYet.end())
    refuse(text, "a limit on one of parameters, block_parameters, macs, latency", std::string(name),
           std::string(name) + " is reported by `cost` but cannot be limited yet");
  throw unknown_name("budget " + std::string(text.substr(0, 200)), name, {kNames.begin(), kNames.end()});
}

struct Unit {
  std::string_view suffix;
  std::int64_t factor;
};
constexpr std::array<Unit, 9> kUnits = {{{"KiB", 1LL << 10},
                                         {"MiB", 1LL << 20},
                                         {"GiB", 1LL << 30},
                                         {"TiB", 1LL << 40},
                                         {"K", 1'000},
                                         {"M", 1'000'000},
                                         {"G", 1'000'000'000},
                                         {"T", 1'000'000'000'000},
                                         {"", 1}}};
// A latency without a unit could mean anything, so it has none of "".
constexpr std::array<Unit, 4> kTimeUnits = {{{"ns", 1'000}, {"us", 1'000'000}, {"ms", kMillisecond}, {"s", 1'000 * kMillisecond}}};

const Unit* find_unit(Cost cost, std::string_view suffix) {
  const auto among = [&](const auto& units) {
    const auto found = std::ranges::find(units, suffix, &Unit::suffix);
    return found == units.end() ? nullptr : &*found;
  };
  return cost == Cost::latency ? among(kTimeUnits) : among(kUnits);
}

enum class End : std::uint8_t { low, high };

/// "2M", "1.5K", "60%" as an integer: of a low end the least integer that satisfies it, of a high end the greatest.
std::int64_t amount(std::string_view number, End end, Cost cost, std::int64_t largest, std::string_view text) {
  cpp_int numerator = 0, denominator = 1;
  std::size_t at = 0, digits = 0;
  bool point = false;
  for (; at < number.size() && ((number[at] >= '0' && number[at] <= '9') || (number[at] == '.' && !point)); ++at) {
    if (number[at] == '.') {
      point = true;
      continue;
    }
    numerator = numerator * 10 + (number[at] - '0');
    if (point) denominator *= 10;
    // 40 digits are far beyond any cost and keep the arithmetic on a hostile text short.
    if (++digits > 40) refuse(text, "a number of at most 40 digits", "a longer one");
  }
  if (digits == 0) refuse(text, kForm, "\"" + std::string(number.substr(0, 60)) + "\" as a number");
  const std::string_view suffix = trimmed(number.substr(at));
  if (suffix == "%") {
    numerator *= largest;
    denominator *= 100;
  } else {
    const Unit* unit = find_unit(cost, suffix);
    if (unit == nullptr)
      refuse(text,
             cost == Cost::latency ? "a number with one of ns, us, ms, s or % behind it"
                                   : "a number with one of K, M, G, T, KiB, MiB, GiB or % behind it",
             "\"" + std::string(number.substr(0, 60)) + "\"");
    numerator *= unit->factor;
  }
  if (end == End::low) numerator += denominator - 1;
  const cpp_int value = numerator / denominator;
  if (value >= INT64_MAX) refuse(text, "a number below 9.2e18", "\"" + std::string(number.substr(0, 60)) + "\"");
  return value.convert_to<std::int64_t>();
}

/// One limit; "NAME=LOW..HIGH" with at least one end, "NAME<=HIGH" or "NAME>=LOW".
Limit parse_limit(std::string_view part, const CostModel& costs, const Costs& largest, std::string_view text) {
  const std::size_t sign = part.find_first_of("=<>");
  if (part.empty()) refuse(text, kForm, "nothing between two commas or an empty text");
  if (sign == std::string_view::npos) {
    cost_named(trimmed(part), costs, text);
    refuse(text, kForm, "no limit for " + std::string(trimmed(part)),
           "an unquoted > or < is taken by the shell: write " + std::string(trimmed(part)) + "=..2M, or quote the whole text");
  }
  Limit limit{.cost = cost_named(trimmed(part.substr(0, sign)), costs, text)};
  const std::int64_t whole = limit.cost == Cost::latency ? largest.latency : value_of(largest, limit.cost);
  const std::string_view rest = part.substr(sign);
  if (rest.starts_with("<=")) {
    limit.high = amount(trimmed(rest.substr(2)), End::high, limit.cost, whole, text);
    return limit;
  }
  if (rest.starts_with(">=")) {
    limit.low = amount(trimmed(rest.substr(2)), End::low, limit.cost, whole, text);
    return limit;
  }
  if (rest.front() != '=') refuse(text, "<= or >=", std::string(1, rest.front()), "both ends of a limit are included");
  const std::string_view range = trimmed(rest.substr(1));
  const std::size_t dots = range.find("..");
  if (dots == std::string_view::npos)
    refuse(text, kForm, "\"" + std::string(range.substr(0, 60)) + "\" without ..",
           "write .." + std::string(range.substr(0, 60)) + " for at most, " + std::string(range.substr(0, 60)) + ".. for at least");
  const std::string_view low = trimmed(range.substr(0, dots)), high = trimmed(range.substr(dots + 2));
  if (low.empty() && high.empty()) refuse(text, kForm, "neither end of the range");
  if (!low.empty()) limit.low = amount(low, End::low, limit.cost, whole, text);
  if (!high.empty()) limit.high = amount(high, End::high, limit.cost, whole, text);
  if (limit.low > limit.high)
    refuse(text, "a range whose first number is not above its second",
           amount_text(limit.cost, limit.low) + ".." + amount_text(limit.cost, limit.high));
  return limit;
}

}  // namespace

std::string_view name_of(Cost cost) { return kNames[static_cast<std::size_t>(cost)]; }

std::int64_t value_of(const Costs& costs, Cost cost) {
  switch (cost) {
    case Cost::block_parameters: return costs.block_parameters;
    case Cost::macs: return costs.macs;
    case Cost::latency: return costs.latency_bound;
    default: return costs.parameters;
  }
}

std::string amount_text(Cost cost, std::int64_t value) {
  if (cost != Cost::latency) return std::to_string(value);
  std::string fraction = std::to_string(value % kMillisecond);
  fraction.insert(0, 9 - fraction.size(), '0');
  while (!fraction.empty() && fraction.back() == '0') fraction.pop_back();
  return std::to_string(value / kMillisecond) + (fraction.empty() ? "" : "." + fraction) + "ms";
}

Budget Budget::parse(const std::vector<std::string>& texts, const CostModel& costs) {
  std::array<Limit, kNames.size()> limits{};
  for (std::size_t i = 0; i < limits.size(); ++i) limits[i].cost = static_cast<Cost>(i);
  if (texts.empty()) return {};
  const Costs largest = costs.of(costs.space().largest());
  for (const std::string& text : texts) {
    std::string_view rest = text;
    while (true) {
      const std::size_t comma = rest.find(',');
      const Limit limit = parse_limit(trimmed(rest.substr(0, comma)), costs, largest, text);
      Limit& known = limits[static_cast<std::size_t>(limit.cost)];
      known.low = std::max(known.low, limit.low);
      known.high = std::min(known.high, limit.high);
      if (known.low > known.high)
        refuse(text, "limits that can hold together",
               std::string(name_of(limit.cost)) + " at least " + amount_text(limit.cost, known.low) + " and at most " +
                   amount_text(limit.cost, known.high));
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  Budget budget;
  for (const Limit& limit : limits)
    if (limit.low > 0 || limit.high < INT64_MAX) budget.limits_.push_back(limit);
  return budget;
}

bool Budget::admits(const Costs& costs) const {
  return std::ranges::all_of(limits_, [&](const Limit& limit) {
    const std::int64_t value = value_of(costs, limit.cost);
    return value >= limit.low && value <= limit.high;
  });
}

const Limit* Budget::limit_of(Cost cost) const {
  const auto found = std::ranges::find(limits_, cost, &Limit::cost);
  return found == limits_.end() ? nullptr : &*found;
}

std::string Budget::text() const {
  std::string text;
  for (const Limit& limit : limits_) {
    if (!text.empty()) text += ',';
    text += std::string(name_of(limit.cost)) + '=';
    if (limit.low > 0) text += amount_text(limit.cost, limit.low);
    text += "..";
    if (limit.high < INT64_MAX) text += amount_text(limit.cost, limit.high);
  }
  return text;
}

}  // namespace elastiform
