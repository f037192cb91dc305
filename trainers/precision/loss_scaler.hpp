#pragma once

#include <cstdint>
#include <vector>

namespace elastiform {

/// Dynamic loss scaling (arXiv 1710.03740): halves the scale after a step whose gradients overflowed, doubles it after `interval` steps in
/// a row whose did not. Never below 1.
class LossScaler {
 public:
  explicit LossScaler(double scale = 65536, std::int64_t interval = 2000) : state_{scale, 0}, interval_(interval) {}
  double scale() const { return state_[0]; }
  std::int64_t clean_steps() const { return static_cast<std::int64_t>(state_[1]); }
  /// False: it overflowed at scale 1, so no scale helps.
  bool update(bool overflowed);
  std::vector<double>& state() { return state_; }

 private:
  std::vector<double> state_;  // scale, clean steps since it changed
  std::int64_t interval_;
};

}  // namespace elastiform
