#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/precision.hpp"
#include "supernet/latency_model.hpp"
#include "supernet/search_space.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// What costs mean; part of the recipe ([deploy]) and stored with every evaluation.
struct Deploy {
  std::string dtype = "f32";
  int batch = 1;
  int context = 0;               // 0: the model's
  std::string phase = "decode";  // or "prefill"
  int threads = 1;
  bool operator==(const Deploy&) const = default;
};

/// Exact costs of one subnet (docs/costs.md), and its predicted latency.
struct Costs {
  std::int64_t parameters = 0;        // every stored scalar of the exported subnet, tied matrices once
  std::int64_t block_parameters = 0;  // the same without token and position embeddings, final norm and head
  std::int64_t macs = 0;  // multiply-adds, attention and head included: of images per image, else per token, mean over one full context
  std::int64_t inference_bytes = 0;  // weights + KV cache + arena peak of our own generate under Deploy
  std::int64_t training_bytes = 0;   // the extracted subnet alone, all activations kept: weights, gradients and optimizer state of what
                                     // learns, arena peak
  std::int64_t latency = 0;          // picoseconds, as predicted; 0: no table has been measured
  std::int64_t latency_bound = 0;    // with the guard band: what a limit is compared with
  bool operator==(const Costs&) const = default;
};

/// Additive part of a block's or of the frame's (embedding, final norm, head) cost.
struct AdditiveCosts {
  std::int64_t parameters = 0, block_parameters = 0, macs = 0;
  std::int64_t latency_sum = 0;  // picoseconds of its parts; LatencyModel says what a network of such a sum takes
  AdditiveCosts& operator+=(const AdditiveCosts& other);
};

class CostModel {
 public:
  /// `state_bytes(table)` is what training keeps for the dense network of that table beside weights and gradients of what learns; sequences,
  /// precision: of training, as are the rate of its dropout and the counts of tokens that its middle blocks keep (PassShape::kept).
  CostModel(const SearchSpace& space, Deploy deploy, int sequences, std::function<std::int64_t(const WeightTable&)> state_bytes,
            Precision precision = Precision::f32, double dropout = 0, std::vector<std::int64_t> kept = {0});

  Costs of(const Subnet& subnet) const;
  /// parameters = frame + Σ blocks, macs likewise: what FeasibleSet counts with. A block's are linear in (heads, groups, ffn) at fixed
  /// embed as long as neither heads nor ffn is 0.
  AdditiveCosts frame(int embed) const;
  AdditiveCosts block(int embed, const BlockGenes& genes) const { return block(embed, genes, deploy_.context); }
  /// With another context than Deploy's, whose tokens alone attend to each other.
  AdditiveCosts block(int embed, const BlockGenes& genes, std::int64_t context) const;
  AdditiveCosts additive(const Subnet& subnet) const;  // frame and blocks together
  /// Multiply-adds of a block between activations: scores and mixing. Part of block().macs.
  std::int64_t attention_macs(const BlockGenes& genes, std::int64_t context) const;
  /// Of what macs are counted in, a sequence of so many tokens: the tokens, or one image.
  std::int64_t units(std::int64_t tokens) const { return space_.model().classifies() ? 1 : tokens; }
  /// FLOPs of a training step, per token or image: 6 a multiply-add, and 4 where the gradient of a frozen weight is not formed.
  double training_flops(const Subnet& subnet) const;
  /// The same for that many multiply-adds, of which `attention` are products of activations.
  double training_flops(double macs, double attention) const;

  /// From now on costs have latencies. Whoever has none to give says why, in the words that follow "expected a latency table, found".
  void predict_latency(LatencyModel model) { latency_ = std::move(model); }
  void refuse_latency(std::string why) { why_no_latency_ = std::move(why); }
  const std::optional<LatencyModel>& latency() const { return latency_; }
  const std::string& why_no_latency() const { return why_no_latency_; }

  const SearchSpace& space() const { return space_; }
  const Deploy& deploy() const { return deploy_; }

 private:
  /// Multiply-adds a row of the stream as those of what macs are counted in.
  std::int64_t in_stream(std::int64_t macs, std::int64_t context) const;
  SearchSpace space_;
  Deploy deploy_;
  int sequences_;
  Precision precision_;
  double dropout_;
  std::vector<std::int64_t> kept_;
  std::function<std::int64_t(const WeightTable&)> state_bytes_;
  std::optional<LatencyModel> latency_;
  std::string why_no_latency_ = "a recipe, which has none: elastiform profile measures one for a run";
};

}  // namespace elastiform
