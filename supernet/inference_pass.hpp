#pragma once

#include <vector>

#include "kernels/arena.hpp"
#include "kernels/backend.hpp"
#include "supernet/cost_model.hpp"
#include "supernet/network.hpp"

namespace elastiform {

/// One inference of an extracted network under [deploy], to be repeated and measured (docs/latency.md). A language model in `decode`: the
/// last token of a context that the cache holds, once for each text of the batch; in `prefill`: a whole context of each, in the pieces that
/// generate() feeds, and the logits of its last token. A classifier: all images of a batch at once, whatever the phase. Products are
/// float32, as those of generate and classify.
class InferencePass {
 public:
  /// `weights` (borrowed): an extracted network's, in the backend's memory; deploy.context is at most the model's.
  InferencePass(Backend& backend, const Weights& weights, const Deploy& deploy);
  void run(PartDone done = kNobodyMeasures);

 private:
  void fill_caches();

  Backend& backend_;
  const Weights& weights_;
  Deploy deploy_;
  Subnet subnet_;
  Network network_;
  Arena arena_;
  std::vector<KeyValueCache> caches_;  // of each text
  std::vector<std::int32_t> tokens_;
  Batch images_;
};

}  // namespace elastiform
