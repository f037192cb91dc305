#pragma once

#include <memory>

#include "supernet/network.hpp"

namespace elastiform {

/// The space of the one network that teaches: a subnet of a model without what a tuning adds.
SearchSpace teacher_space(const ModelConfig& model, const Subnet& subnet);

/// A network that stays as it is while it teaches every subnet of a step; its predictions are formed from its final hidden states. Const and
/// without state, so the same bits come back in a resumed run.
class FrozenTeacher {
 public:
  /// weights: of teacher_space(), float32 on the host; where the backend computes elsewhere, they are copied there.
  FrozenTeacher(std::unique_ptr<const Weights> weights, Backend& backend);

  int embed() const { return subnet_.embed; }
  std::int64_t bytes() const { return weights_->bytes(); }
  /// hidden [rows of the head, embed] of a batch; arena bytes: plan_bytes.
  void hidden(Backend& backend, const Batch& batch, View hidden, Arena& arena) const;
  Teacher with(ConstView hidden) const { return {hidden, embed(), weights_.get(), &network_}; }

  /// What hidden() takes of an arena, and what the weights take.
  static std::int64_t arena_bytes(const SearchSpace& space, const BackendTraits& traits, std::int64_t sequences);
  static std::int64_t weight_bytes(const SearchSpace& space, DType dtype);

 private:
  std::unique_ptr<const Weights> weights_;
  Network network_;
  Subnet subnet_;
};

}  // namespace elastiform
