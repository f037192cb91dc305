#include "trainers/precision/loss_scaler.hpp"

namespace elastiform {

bool LossScaler::update(bool overflowed) {
  double &scale = state_[0], &clean = state_[1];
  if (overflowed) {
    clean = 0;
    if (scale <= 1) return false;
    scale /= 2;
    return true;
  }
  if (++clean >= static_cast<double>(interval_)) scale *= 2, clean = 0;
  return true;
}

}  // namespace elastiform
