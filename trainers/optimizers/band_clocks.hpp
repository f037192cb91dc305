#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "trainers/optimizers/bands.hpp"
#include "trainers/options.hpp"

namespace elastiform {

/// What happens to the state of a band that a step does not touch (methods: dense, lazy with the run's or the band's own clock, catch-up).
enum class BandPolicy : std::uint8_t { dense, lazy_global, lazy_local, catch_up };
BandPolicy parse_band_policy(std::string_view text);  // throws InputError

/// One update's scalars.
struct UpdateStep {
  std::int64_t step = 0;      // updates done before this one, by any band
  double rate = 0;            // of the schedule, its warm-up included
  double warmup = 1;          // the part of `rate` that is the schedule's warm-up: 1 once it is over
  double gradient_scale = 1;  // clipping
};

/// How an optimizer's moments forget, per update: m ← first·m + …, v ← second·v + …
struct MomentRule {
  double first = 0, second = 0;
  int moments = 2;
  bool corrected = true;  // they are divided by the sum of their weights
  bool has_second() const { return moments > 1; }
};

/// The clocks of all bands under a policy, shared by optimizers: how often each was updated, and what follows from that for its step.
class BandClocks {
 public:
  BandClocks(const TrainOptions& options, const MomentRule& rule, const WeightTable& table);

  /// What one band's update needs.
  struct Band {
    double time = 1;               // updates that corrections count: the band's own or the run's
    double first = 1, second = 1;  // what the moments are divided by
    double rate = 0;               // after the band's own warm-up
    double fade1 = 1, fade2 = 1;   // catch-up: what idle steps did to the moments
    bool fades() const { return fade1 != 1 || fade2 != 1; }
  };
  /// Every band that this update moves is one update older.
  void advance(const ActiveBands& active, const UpdateStep& step);
  const Band& operator[](std::int64_t band) const { return bands_[static_cast<std::size_t>(band)]; }
  bool moves_idle() const { return policy_ == BandPolicy::dense; }
  /// Whether the last update moved it.
  bool moves(std::int64_t band, const ActiveBands& active) const { return moves_idle() || active[band]; }

  /// Rectangles of what the last update moved, each of bands with one clock and equal activity.
  void rectangles(const WeightTable& table, const ActiveBands& active, std::vector<BandRectangle>& list) const;

  std::map<std::string, std::vector<double>*> numbers();
  std::int64_t bytes() const { return numbers_a_band(policy_, rule_) * static_cast<std::int64_t>(count_.size() * sizeof(double)); }
  static std::int64_t state_bytes(const TrainOptions& options, const MomentRule& rule, std::int64_t bands);

 private:
  static std::int64_t numbers_a_band(BandPolicy policy, const MomentRule& rule);
  Band touch(std::size_t at, const UpdateStep& step);

  BandPolicy policy_;
  MomentRule rule_;
  std::int64_t band_warmup_;
  std::vector<double> count_, last_, normal1_, normal2_;  // per band; counts are whole numbers
  std::vector<Band> bands_;                               // of the last update, kept so that the next one allocates nothing
};

}  // namespace elastiform
