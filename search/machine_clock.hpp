#pragma once

#include "kernels/backend.hpp"
#include "search/inference_clock.hpp"
#include "supernet/cost_model.hpp"
#include "supernet/inference_pass.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// Times this machine: each subnet is extracted first, so its weights lie as those of a deployed network do, and used a few times before
/// passes count.
class MachineClock final : public InferenceClock {
 public:
  /// Both are borrowed. deploy.context 0: the model's.
  MachineClock(Backend& backend, const Weights& supernet, const Deploy& deploy);
  std::vector<PassTimes> time(const Subnet& subnet, int passes, Timed timed) override;

 private:
  PassTimes whole_of(InferencePass& pass);
  PassTimes parts_of(InferencePass& pass, std::size_t blocks);

  Backend& backend_;
  const Weights& supernet_;
  Deploy deploy_;
};

}  // namespace elastiform
