#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/backend.hpp"
#include "kernels/collectives/communicator.hpp"
#include "supernet/data/data_source.hpp"
#include "supernet/network.hpp"
#include "trainers/gradient_noise.hpp"
#include "trainers/options.hpp"

namespace elastiform {

struct StepReport {
  std::int64_t step = 0;           // counted from 0
  std::vector<Subnet> subnets;     // in the order they were trained
  std::vector<LossReport> losses;  // one each, the mean over the micro-batches; of masked patches, where label_loss is their squared error
  std::size_t first_taught = 0;    // subnets from this one on learn from a teacher; subnets.size(): none
  bool follows_hidden = false;     // and from its final hidden states
  int masked_patches = 0;          // of every image; 0: it learned from labels or a teacher
  double gradient_norm = 0;        // before clipping, of the mean over subnets, as the step rule gives it
  double rate = 0;
  /// A loss or the norm was not finite: weights, state and counters stayed as they were; only LookSam may have lost its g_v of these bands.
  bool skipped = false;
  std::int64_t tokens = 0;         // tokens that went through some subnet
  double flops = 0;                // forward and backward (pass_flops)
  std::int64_t reduced_bytes = 0;  // of gradients that this rank sent to others, to be added
};

/// Trains a supernet: composes sampler, objective, optimizer, schedule and data. step(t) is a pure function of (seed, t) and the
/// state, so a resumed run repeats step t bit for bit. A step's batch is options.accumulation micro-batches, whose gradients are formed apart
/// and added in a fixed tree: several ranks share them and all have the bits that one process would have.
class Trainer {
 public:
  /// activation_limit: bytes of the arena; every subnet's plan fits into them, or InputError. nullopt: what leaves out what costs next to
  /// nothing (unlimited_activation_bytes); kNoLimit: everything is kept. The bits of a run do not depend on it; where activations are
  /// compressed the recipe plans them, and a limit below that is an InputError. Of several ranks each has its trainer, and they take every
  /// step together; InputError when options.accumulation is no multiple of them. away: where activations may wait outside the arena. teacher:
  /// weights of teacher_space() where an objective needs one.
  Trainer(const SearchSpace& space, TrainOptions options, std::vector<Stage> stages, const DataSource& data, Backend& backend,
          std::optional<std::int64_t> activation_limit = std::nullopt, Communicator& ranks = alone(), MemorySpace* away = nullptr,
          std::unique_ptr<const Weights> teacher = nullptr);
  ~Trainer();

  StepReport step();  // trains step next_step()
  std::int64_t next_step() const;
  bool done() const { return next_step() >= options().steps; }

  const TrainOptions& options() const;
  const std::vector<Stage>& stages() const;
  const Backend& backend() const;
  const Network& network() const;
  const Weights& weights() const;
  std::int64_t skipped_steps() const;
  std::string precision_summary() const;  // what train.precision keeps, for a person; may be empty
  std::int64_t updates() const;
  /// The running average of the weights; nullptr without train.ema.
  const Weights* average() const;
  const GradientNoise& noise() const;

  /// Bytes this trainer holds: weights, gradients (a buffer for each partial sum of micro-batches, and one message where there are other
  /// ranks), optimizer state, arena, and at most the workspace, the backend's own. Every pass asserts that it used what its plan says. rule:
  /// of the step rule, with what teachers leave for its second pass; average: of the weights; teacher: the frozen one's.
  struct Memory {
    std::int64_t weights = 0, gradients = 0, optimizer = 0, rule = 0, average = 0, teacher = 0, arena = 0, workspace = 0;
    std::int64_t arena_keeping_all = 0, least_arena = 0;  // what a higher limit gives, and the lowest limit
    double recomputed_share = 0;                          // of the largest subnet's forward FLOPs
    int tensors = 0, compressed = 0;                      // of the largest subnet's blocks: what backward reads, what of it is compressed
    bool offloads = false;                                // activations may wait outside of memory,
    std::int64_t away = 0;                                // and the largest subnet's do: not in total()
    std::int64_t total() const { return weights + gradients + optimizer + rule + average + teacher + arena + workspace; }
  };
  Memory memory() const;
  static Memory plan(const SearchSpace& space, const TrainOptions& options, const std::vector<Stage>& stages, const Backend& backend,
                     std::optional<std::int64_t> activation_limit = std::nullopt, const Communicator& ranks = alone(),
                     bool offloads = false);

  /// Takes weights made elsewhere, of a freshly made trainer's tensors those of the same names; an average begins with them.
  void begin_with(const Weights& weights);

  // What a checkpoint holds beside the weights (trainers/checkpoint.hpp reads and writes it).
  struct State;
  State& state();
  const State& state() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

/// What training a network of that table in one process keeps beside one value an element and one gradient of each that learns:
/// state of optimizer and step rule, the weights' average, and the gradients of further micro-batches. CostModel is given it.
std::int64_t training_state_bytes(const TrainOptions& options, const WeightTable& table);

}  // namespace elastiform
