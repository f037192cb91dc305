#pragma once

#include <vector>

#include "supernet/network.hpp"

namespace elastiform {

struct Pass {
  LossReport report;
  Weights gradients;           // of what learns
  std::vector<double> hidden;  // what the head multiplies, where it is asked for
};

struct PassSettings {
  LossOptions options = {};
  Teacher teacher = {};
  std::int64_t limit = kNoLimit;
  bool hidden = false;
};

/// One training pass under its plan; it uses the planned bytes, to the byte.
Pass training_pass(const Network& network, Backend& backend, const Weights& weights, const Subnet& subnet, const Batch& batch,
                   const PassSettings& settings = {});

}  // namespace elastiform
