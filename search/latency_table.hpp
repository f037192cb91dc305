#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "search/inference_clock.hpp"
#include "supernet/cost_model.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// What measured: equal hashes are the same kind of machine.
struct Machine {
  std::string processor, isa;
  int cores = 0;
  std::string accelerator = {};  // the device that computed, where it was not the processor: its name and what multiplies on it
  std::string hash() const;      // first 16 hex digits of the SHA-256 of the fields
  bool operator==(const Machine&) const = default;
};
Machine this_machine();  // without an accelerator: only a backend knows its device (RunClock::machine)

/// Times of an inference's parts by their shapes, measured inside whole inferences, and what whole networks took (docs/latency.md).
/// Sums are additive: embedding and head of the embed width, and of every block its attention and its FFN. A prediction is what
/// networks of `calibration` with about that sum took: the sum alone misses what a cache saves of small ones.
struct LatencyTable {
  struct Frame {
    int embed = 0;
    Milliseconds embedding, head;
  };
  struct Attention {
    int embed = 0, heads = 0, groups = 0;
    Milliseconds time;
  };
  struct FeedForward {
    int embed = 0, ffn = 0;
    Milliseconds time;
  };
  struct Network {
    Subnet subnet;
    Milliseconds time;
  };

  std::string source;     // "elastiform 0.1.0+abcdef", or what else measured
  bool imported = false;  // from another machine or program: labelled, never refused for its machine
  Machine machine;        // of an imported one maybe empty
  std::string device = "cpu";
  Deploy deploy;
  std::vector<Frame> frames;
  std::vector<Attention> attentions;
  std::vector<FeedForward> feed_forwards;
  std::vector<Network> calibration;        // predictions are made of them
  std::vector<Network> networks;           // others, drawn at random; predictions are judged by them
  double noise_mean = 0, noise_worst = 0;  // relative, between the tables of two halves of the measurement over `networks`; 0: unknown
  int samples = 0;                         // inferences measured for the rarest row; 0: unknown

  /// "elastiform 0.1.0+abc on AMD EPYC", with "imported: " before it when it is.
  std::string label() const;
  /// Empty, or the first of the space's shapes that have no row, and how many have none.
  std::string missing(const SearchSpace& space) const;
  /// Milliseconds for subnets of a space that nothing is missing of, by `which` of every row: the sum of parts, and predictions.
  double sum_of(const Subnet& subnet, double Milliseconds::*which = &Milliseconds::median) const;
  std::vector<double> predictions(std::span<const Subnet> subnets, double Milliseconds::*which = &Milliseconds::median) const;
};

/// Relative errors of a prediction over measured networks: prediction / measurement - 1.
struct PredictionError {
  double mean = 0, worst = 0;  // of the absolute values
  double under = 0;            // the 95 % quantile of measurement / prediction - 1, at least 0
};
PredictionError error_of(const std::vector<double>& predicted, const std::vector<double>& measured);

/// What searches limit (CostModel): at each embed width straight lines through the rows of the space's choices, least squares of relative
/// errors, slopes not negative, and knots through the calibration over their sums. The sums that a FeasibleSet counts with have no room for
/// an arbitrary row; what the lines miss is in the guard band: the 95 % quantile of measurement / prediction - 1 over the networks, or
/// without networks the most that rows above their lines can add and that the calibration is above its predictions; at least kLeastGuard.
/// A table that somebody wrote must not overflow what searches add up: InputError where the band exceeds kMostGuard, a whole network of the
/// calibration is further than kMostGuard times from its sum, or one of the space takes 2^62 ps or more.
LatencyModel latency_lines(const LatencyTable& table, const SearchSpace& space);
constexpr double kLeastGuard = 0.01, kMostGuard = 100;

/// Milliseconds that a model predicts for a subnet, without the guard band.
double line_of(const LatencyModel& model, const Subnet& subnet);

}  // namespace elastiform
