#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "supernet/subnet.hpp"

namespace elastiform {

/// How long one inference of a subnet took, in milliseconds: `whole`, or its parts, as was asked for.
struct PassTimes {
  double whole = 0;
  double embedding = 0, head = 0;               // head: final norm and pooling included
  std::vector<double> attention, feed_forward;  // of each block; 0 where it has none
};

/// What of a pass is timed. To time its parts a device is waited for after each of them, which a deployed network does not do, so no pass
/// gives both.
enum class Timed : std::uint8_t { whole, parts };

/// Times inferences of extracted subnets under one Deploy; a fake one tests whoever uses it without a clock.
struct InferenceClock {
  virtual ~InferenceClock() = default;
  /// `passes` inferences, one after the other, after some that are not timed.
  virtual std::vector<PassTimes> time(const Subnet& subnet, int passes, Timed timed) = 0;
};

/// Of repeated measurements. The median is what latency means; low and high (10 %, 90 %) say how much a pass varies, and low is what a
/// machine that others use disturbs least.
struct Milliseconds {
  double median = 0, low = 0, high = 0;
  bool operator==(const Milliseconds&) const = default;
};
/// Nearest ranks (an even number's median is the mean of two); of at least one sample.
Milliseconds quantiles_of(std::vector<double> samples);

/// Each subnet's whole inferences: `rounds` visits of `passes` each, all subnets in turn, so that what a machine does meanwhile meets all
/// of them alike. `stop` is asked before every visit; once it is true, Interrupted (search/evaluator.hpp) is thrown.
std::vector<Milliseconds> time_in_turn(InferenceClock& clock, std::span<const Subnet> subnets, int rounds, int passes,
                                       const std::function<bool()>& stop = {});

}  // namespace elastiform
