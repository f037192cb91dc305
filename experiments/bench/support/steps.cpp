#include "experiments/bench/support/steps.hpp"

#include <algorithm>
#include <utility>

#include "experiments/bench/support/shape.hpp"
#include "supernet/initialization.hpp"

namespace elastiform {
namespace {

std::unique_ptr<Objective> objective_of(bool distill) {
  Stage stage;
  stage.objective = distill ? "labels+largest" : "labels";
  return make_objective(stage);
}

std::int64_t training_bytes(const Network& network, const Backend& backend, const Objective& objective, int sequences,
                            const ActivationChoices& choices) {
  const SearchSpace& space = network.space();
  const std::int64_t context = space.model().context;
  const std::int64_t hidden = objective.is_taught() ? Arena::bytes_for(sequences * context, space.max_embed(), backend.dtype()) : 0;
  return network.unlimited_training_bytes(backend.traits(), space.largest(), {sequences, context, objective.is_taught()}, choices) + hidden;
}

/// Beside that, of plans that compress.
std::int64_t further_bytes(const Network& network, const Backend& backend, int sequences, const ActivationChoices& choices) {
  const SearchSpace& space = network.space();
  if (!choices.compresses()) return 0;
  return further_workers_bytes(space.model(), backend.traits(), space.largest(), {sequences, space.model().context, true});
}

Weights placed(Weights weights, MemorySpace& memory) {
  if (&weights.memory() == &memory) return weights;
  Weights there(weights.shared_table(), weights.dtype(), memory);
  there.assign(weights);
  return there;
}

/// A serial one for each worker; a device needs one alone.
std::vector<std::unique_ptr<Backend>> backends_of(const ThreadPool& pool, const ThreadPool& serial, const Compute& compute) {
  std::vector<std::unique_ptr<Backend>> backends;
  for (int i = 0; i < (compute.device == Device::cpu ? pool.size() : 1); ++i) backends.push_back(make_backend(compute, serial));
  return backends;
}

}  // namespace

TrainingSteps::TrainingSteps(const SearchSpace& space, Backend& backend, Weights weights, int sequences, bool distill,
                             const TrainOptions& options)
    : backend_(backend), network_(space, backend.dtype(), backend.memory()), weights_(placed(std::move(weights), backend.memory())),
      gradients_(weights_.shared_table(), backend.dtype(), backend.memory(), Held::trained),
      batch_(random_batch(space.model().vocabulary, sequences, space.model().context)), objective_(objective_of(distill)),
      plans_(network_, backend.traits(), activation_choices(options)), largest_(space.largest()), active_(weights_.table(), {}),
      bands_(weights_.table()),
      activation_limit_(options.activation_bytes > 0
                            ? options.activation_bytes
                            : training_bytes(network_, backend, *objective_, sequences, activation_choices(options))),
      arena_(activation_limit_ + further_bytes(network_, backend, sequences, activation_choices(options)), backend.memory()) {
  optimizer_ = make_optimizer(options, weights_.shared_table(), backend);
  clip_ = options.clip;
}

void TrainingSteps::step(std::span<const Subnet> subnets) {
  active_.assign(weights_.table(), subnets);
  const bool accumulate = begin_gradients(backend_, network_, gradients_, subnets, *objective_, active_, bands_);
  objective_->forward_backward({.backend = backend_,
                                .network = network_,
                                .largest = largest_,
                                .weights = weights_,
                                .gradients = gradients_,
                                .arena = arena_,
                                .plans = plans_,
                                .accumulate = accumulate,
                                .noise = {.step = static_cast<std::uint64_t>(updates_)},
                                .activation_limit = activation_limit_},
                               subnets, batch_, losses_);
  const double norm = global_norm(backend_, gradients_, active_, bands_);
  optimizer_->update(backend_, weights_, gradients_, active_, {.step = updates_, .rate = 3e-4, .gradient_scale = clip_scale(norm, clip_)});
  ++updates_;
}

struct EvaluationSteps::Worker {
  Backend& backend;
  Batch batch;
  Arena arena;
  Worker(Backend& backend_, Batch part, std::int64_t bytes) : backend(backend_), batch(std::move(part)), arena(bytes, backend_.memory()) {}
};

EvaluationSteps::EvaluationSteps(const SearchSpace& space, const ThreadPool& pool, const Compute& compute, Weights weights, int sequences)
    : pool_(pool), backends_(backends_of(pool, serial_, compute)), network_(space, DType::float32, backends_.front()->memory()),
      weights_(placed(std::move(weights), backends_.front()->memory())) {
  const std::int64_t parts = std::min<std::int64_t>(static_cast<std::int64_t>(backends_.size()), sequences), T = space.model().context;
  const Subnet largest = space.largest();
  for (std::int64_t i = 0; i < parts; ++i) {
    const BackendTraits traits = traits_of(compute, 1);
    const std::int64_t B = sequences * (i + 1) / parts - sequences * i / parts;
    const std::int64_t bytes =
        2 * Arena::bytes_for(B * T, largest.embed, DType::float32) + Arena::bytes_for(1, B * T, DType::float32) +
        std::max(network_.plan_block(traits, largest.embed, largest.blocks[0], B, T), network_.plan_score(traits, largest.embed, B, T));
    workers_.push_back(
        std::make_shared<Worker>(*backends_[static_cast<std::size_t>(i)], random_batch(space.model().vocabulary, B, T), bytes));
  }
}

void EvaluationSteps::step(const Subnet& subnet) {
  pool_.for_each(static_cast<std::int64_t>(workers_.size()), [&](std::int64_t i) {
    Worker& w = *workers_[static_cast<std::size_t>(i)];
    const ArenaScope scope(w.arena);
    View x = w.arena.matrix(w.batch.rows(), subnet.embed, DType::float32), y = w.arena.matrix(w.batch.rows(), subnet.embed, DType::float32);
    const View losses = w.arena.matrix(1, w.batch.rows(), DType::float32);
    network_.embed(w.backend, weights_, subnet.embed, w.batch, x, w.arena);
    for (int b = 0; b < subnet.depth(); ++b) {
      network_.forward_block(w.backend, weights_, subnet.embed, subnet.blocks[static_cast<std::size_t>(b)], subnet.block_index(b),
                             subnet.depth(), w.batch.tokens, x, y, w.arena);
      std::swap(x, y);
    }
    network_.score(w.backend, weights_, subnet.embed, x, w.batch, losses, {}, w.arena);
    w.backend.wait();
  });
}

Weights initial_weights(const SearchSpace& space, Backend* backend) {
  Weights weights(std::make_shared<const WeightTable>(space), DType::float32);
  initialize(weights, 0, backend);
  return weights;
}

}  // namespace elastiform
