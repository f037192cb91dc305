#include "tests/supernet/training_pass.hpp"

#include "tests/support/catch.hpp"

namespace elastiform {

Pass training_pass(const Network& network, Backend& backend, const Weights& weights, const Subnet& subnet, const Batch& batch,
                   const PassSettings& settings) {
  Pass pass{{}, Weights(weights.shared_table(), weights.dtype(), host_memory(), Held::trained), {}};
  const PassShape shape{.batch = batch.sequences,
                        .tokens = batch.tokens,
                        .with_teacher = !settings.teacher.hidden.empty(),
                        .kept = batch.kept.count,
                        .dropout = settings.options.dropout.rate,
                        .masked = batch.images.masked.count};
  const ActivationPlan plan = network.plan_training(backend.traits(), subnet, shape, settings.limit);
  Arena arena(plan.arena_bytes), kept(Arena::bytes_for(batch.rows(), subnet.embed, backend.dtype()));
  const View hidden = settings.hidden ? kept.matrix(batch.rows(), subnet.embed, backend.dtype()) : View{};
  pass.report =
      network.forward_backward(backend, weights, pass.gradients, subnet, batch, settings.options, settings.teacher, hidden, plan, arena);
  CHECK(arena.peak() == arena.capacity());  // planned == used, to the byte
  if (!settings.hidden) return pass;
  dispatch(backend.dtype(), [&]<class T>() {
    for (std::int64_t row = 0; row < hidden.rows; ++row)
      pass.hidden.insert(pass.hidden.end(), hidden.row<T>(row), hidden.row<T>(row) + hidden.columns);
  });
  return pass;
}

}  // namespace elastiform
