#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "supernet/network.hpp"

namespace elastiform {

/// Plans of training passes, each solved once. The cache is emptied when kMostSubnets stand in it: a space has more subnets than memory.
class PlanCache {
 public:
  static constexpr std::size_t kMostSubnets = 1024;
  PlanCache(const Network& network, const BackendTraits& traits, const ActivationChoices& choices = {})
      : network_(network), traits_(traits), choices_(choices) {}

  /// Valid until the next call. As plan_activations: where nothing fits, more planned bytes than `limit`.
  const ActivationPlan& of(const Subnet& subnet, const PassShape& pass, std::int64_t limit);
  std::int64_t solved() const { return solved_; }  // plans that were not in the cache

 private:
  struct Entry {
    PassShape pass;
    std::int64_t limit = 0;
    ActivationPlan plan;
  };
  const Network& network_;
  BackendTraits traits_;
  ActivationChoices choices_;
  std::int64_t solved_ = 0;
  std::map<Subnet, std::vector<Entry>> entries_;
};

}  // namespace elastiform
