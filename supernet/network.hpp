#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "kernels/arena.hpp"
#include "kernels/backend.hpp"
#include "supernet/activation_plan.hpp"
#include "supernet/data/batch.hpp"
#include "supernet/search_space.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// Of a network whose activations are compressed: noise has no name for more.
constexpr int kMostCompressedBlocks = 256;

/// Names the random bits with which a pass compresses activations: they differ from step to step, from pass to pass of a step, and from row
/// to row of all its micro-batches.
struct PassNoise {
  std::uint64_t seed = 0, step = 0;
  int pass = 0;                // of the step's subnets; below 2048
  std::int64_t first_row = 0;  // of the batch, counted through the step's micro-batches
};

/// How a subnet's loss is formed from labels and a teacher. Weights are multiplied by `share`, the subnet's part of the step's mean.
struct LossOptions {
  double label_weight = 1;
  double teacher_weight = 0;
  double hidden_weight = 0;  // of LossReport::hidden_loss
  double temperature = 1;
  double share = 1;
  double label_smoothing = 0;
  View token_losses{};       // [1, rows of the head], here or in the host's memory: receives every token's loss from its label; empty: no
  bool accumulate = true;    // gradients are added to; false: those that Network::writes_gradient names are written
  PassDropout dropout = {};  // the plan is of its rate
  PassNoise noise = {};
  bool checks_gradient = false;  // LossReport::finite is of the gradient too
  bool forward_only = false;     // losses alone, of the same forward pass: gradients are not touched, and nobody is told of blocks
};

/// Told which of the supernet's blocks a backward pass has just been through: the pass changes their gradients no more.
using BlockDone = FunctionRef<void(int block)>;
inline constexpr auto kNobodyIsTold = [](int) {};

/// The parts of an inference pass, in the order in which they run; attention and FFN once a block that has them.
enum class PassPart : std::uint8_t { embedding, attention, feed_forward, head };
/// Told when a part of an inference pass has been asked for; `block`: place in the subnet, 0 outside of blocks.
using PartDone = FunctionRef<void(PassPart part, int block)>;
inline constexpr auto kNobodyMeasures = [](PassPart, int) {};

/// Mean losses over the counted tokens of a batch, nats per token.
struct LossReport {
  double label_loss = 0;
  double teacher_loss = 0;
  double hidden_loss = 0;  // with hidden_weight: mean squared distance of the final hidden states from the teacher's first channels
  std::int64_t tokens = 0;
  bool finite = true;  // the losses, and if asked for the gradient that came back to the embedding through all layers
};

/// The final hidden states of a teacher on this batch and the embed width they were made with; logits are formed again chunk by chunk,
/// so no [N,V] matrix is ever kept.
class Network;
struct Teacher {
  ConstView hidden;  // [rows of the head, C_teacher], what the head multiplies; empty: none
  int embed = 0;
  const Weights* weights = nullptr;  // whose head turns it into logits; nullptr: those of the pass
  const Network* network = nullptr;  // of those weights, where its space is another; as many ids as the pass's
};

/// What the products of one block were given for a batch, while it runs; empty: it has no such branch, or no norm.
struct BlockInputs {
  ConstView attention_normed;     // [N, C]
  ConstView mixed;                // [N, H·D]: values as attention has mixed them
  ConstView feed_forward_normed;  // [N, C]
  ConstView activated;            // [N, F]
};
/// Called after each branch with what is known of it.
using Observer = FunctionRef<void(int block, const BlockInputs&)>;

/// Keys and values so far, for generation: one row a token.
struct KeyValueCache {
  std::vector<View> keys, values;  // per block [stream_tokens(context), groups·D]
  std::int64_t tokens = 0;         // rows; a tuned prompt's vectors are the first of them
};

/// A decoder language model, or a classifier of images, as one elastic function: embedding, blocks, final norm, head; where norms stand and whether there is a final
/// one the model's residual rule says (ResidualForm). Layers see only views; nothing is copied or compiled for a subnet. Weight arguments may be the supernet's or those of an extracted network (space `of`): the code and,
/// on the CPU backend, the bits are the same. Const and stateless: several threads may use one Network, each with its own Arena.
class Network {
 public:
  /// `dtype` is the backend's.
  /// memory: of the backend that will run it; its constants stand there.
  Network(const SearchSpace& space, DType dtype, MemorySpace& memory = host_memory());
  MemorySpace& memory() const;
  ~Network();
  Network(Network&&) noexcept;

  /// Forward and backward of one subnet; gradients are added (LossOptions::accumulate). `keep_hidden` (may be empty) receives the final
  /// hidden states [rows of the head, C] for use as a teacher. Arena use is exactly plan.arena_bytes. Losses are the same bits under every plan of this
  /// subnet and batch shape, gradients under every one that compresses nothing. away: where plans send what waits outside the arena. Blocks between the first
  /// and the last one get the tokens that batch.kept names.
  LossReport forward_backward(Backend& backend, const Weights& values, Weights& gradients, const Subnet& subnet, const Batch& batch,
                              const LossOptions& options, const Teacher& teacher, View keep_hidden, const ActivationPlan& plan,
                              Arena& arena, BlockDone block_done = kNobodyIsTold, Arena* away = nullptr) const;
  /// Whether a pass that does not accumulate writes a tensor's gradient, so that it need not be cleared before. Lookups and residual rules'
  /// gates and shifts, which several branches may share, add to theirs.
  bool writes_gradient(const TensorSpec& tensor) const;
  /// plan_activations (supernet/activation_plan.hpp) for this network.
  ActivationPlan plan_training(const BackendTraits& traits, const Subnet& subnet, const PassShape& pass, std::int64_t limit = kNoLimit,
                               const ActivationChoices& choices = {}) const;
  std::int64_t unlimited_training_bytes(const BackendTraits& traits, const Subnet& subnet, const PassShape& pass,
                                        const ActivationChoices& choices = {}) const;

  // The same function in pieces, for evaluators that share prefixes. x is [batch·stream_tokens(tokens), C] (ModelConfig).
  void embed(Backend& backend, const Weights& values, int embed, const Batch& batch, View x, Arena& arena) const;
  /// x_out = block `index` of the supernet applied to x_in, with these genes, in a subnet of `depth` blocks; tokens: rows of a sequence in x.
  /// x_out may not be x_in. `done` is told `index` as the block's place.
  void forward_block(Backend& backend, const Weights& values, int embed, const BlockGenes& genes, int index, int depth, std::int64_t tokens,
                     ConstView x_in, View x_out, Arena& arena, PartDone done = kNobodyMeasures) const;
  /// Whether blocks compute something else in a subnet of another depth: then subnets of several depths share no prefix.
  bool depends_on_depth() const;
  /// Final norm, if the residual rule has one, head and loss of every target of the batch: losses[1, targets] nats, correct likewise (may be
  /// empty).
  void score(Backend& backend, const Weights& values, int embed, ConstView x, const Batch& batch, View losses, View correct,
             Arena& arena) const;
  /// The final hidden states [rows of the head, C] of a batch, what the head multiplies: a teacher's, of a network that is not trained.
  void hidden(Backend& backend, const Weights& values, const Subnet& subnet, const Batch& batch, View hidden, Arena& arena) const;
  std::int64_t plan_hidden(const BackendTraits& traits, const Subnet& subnet, std::int64_t batch, std::int64_t tokens) const;
  /// The same, and on its way what the products of every block are given.
  void observe(Backend& backend, const Weights& values, const Subnet& subnet, const Batch& batch, Observer observer, View hidden,
               Arena& arena) const;
  std::int64_t plan_observe(const BackendTraits& traits, const Subnet& subnet, std::int64_t batch, std::int64_t tokens) const;
  /// Variance over all tokens and channels of what each branch of `subnet` adds to the stream, of a model with norms after the branches.
  std::vector<double> branch_variances(Backend& backend, const Weights& values, const Subnet& subnet, const Batch& batch,
                                       Arena& arena) const;
  std::int64_t plan_branch_variances(const BackendTraits& traits, const Subnet& subnet, std::int64_t batch, std::int64_t tokens) const;
  /// Arena bytes that embed, forward_block and score need for these sizes, besides x itself. traits: Backend::traits().
  std::int64_t plan_embed(const BackendTraits& traits, int embed, std::int64_t batch) const;
  std::int64_t plan_block(const BackendTraits& traits, int embed, const BlockGenes& genes, std::int64_t batch, std::int64_t tokens) const;
  std::int64_t plan_score(const BackendTraits& traits, int embed, std::int64_t batch, std::int64_t tokens) const;

  /// logits [B, classes] of the images of a batch, whose targets are not read.
  void classify(Backend& backend, const Weights& values, const Subnet& subnet, const Batch& batch, View logits, Arena& arena,
                PartDone done = kNobodyMeasures) const;
  std::int64_t plan_classify(const BackendTraits& traits, const Subnet& subnet, std::int64_t batch) const;  // logits apart

  /// Of a language model. Appends the tokens of a batch of one to `cache` and writes logits [R, V] of the last R of them, R ≤ tokens.size();
  /// cache.tokens + tokens.size() ≤ rows of the cache. An empty cache takes a tuned prompt's vectors first.
  void decode(Backend& backend, const Weights& values, const Subnet& subnet, std::span<const std::int32_t> tokens, KeyValueCache& cache,
              View logits, Arena& arena, PartDone done = kNobodyMeasures) const;
  KeyValueCache make_cache(const Subnet& subnet, std::int64_t context, Arena& arena) const;
  std::int64_t plan_decode(const BackendTraits& traits, const Subnet& subnet, std::int64_t tokens,
                           std::int64_t logit_rows) const;  // cache and logits apart
  std::int64_t plan_cache(const Subnet& subnet, std::int64_t context) const;

  const SearchSpace& space() const;
  DType dtype() const;

 private:
  struct Parts;
  class TrainingPass;
  /// Blocks over the next x.rows rows of a sequence's stream, which the cache takes up; x and y take turns.
  ConstView decode_stream(Backend& backend, const Weights& values, const Subnet& subnet, KeyValueCache& cache, View x, View y, Arena& arena,
                          PartDone done = kNobodyMeasures) const;
  /// The stream [batch·tokens, C] behind the last block, in the arena.
  ConstView passed_through(Backend& backend, const Weights& values, const Subnet& subnet, const Batch& batch, Arena& arena,
                           PartDone done = kNobodyMeasures) const;
  std::unique_ptr<Parts> parts_;
};

}  // namespace elastiform
