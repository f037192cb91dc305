// Everything that a training calls, once and small, for compute-sanitizer (./dev gpu-check): our kernels alone, no library's.
#include <cmath>

#include "experiments/elastiform/devices.hpp"
#include "tests/support/catch.hpp"
#include "tests/trainers/fixture.hpp"

namespace elastiform {
namespace {

/// A space of two blocks whose heads have `head_dim` elements: 32, 64 and 128 take tensor cores, others do not.
SearchSpace space_of(const char* preset, int head_dim) {
  ModelConfig model = preset_model(preset);
  model.vocabulary = 256;
  model.context = 24;
  model.head_dim = head_dim;
  const SearchSpace::Block choices{.heads = {1, 2}, .ffn = {.widths = {65, 96}, .ratios = {}}};
  return SearchSpace(model, {33, 64}, {1, 2}, {choices, choices});
}

}  // namespace

TEST_CASE("every kernel of a training runs", "[gpu][.sanitizer]") {
  const Precision precision = GENERATE(Precision::f32, Precision::bf16);
  const char* const preset = GENERATE("llama", "gpt2");
  const int head_dim = GENERATE(24, 32, 64, 128);
  CAPTURE(name_of(precision), preset, head_dim);
  Fixture f;
  f.space = space_of(preset, head_dim);
  f.options.precision = name_of(precision);
  f.options.steps = 3;  // the third plays what the second recorded
  f.options.sequences = 6;
  f.stages = {{.share = 1, .steps = 0, .sampler = "sandwich", .objective = "labels+largest"}};
  resolve_stages(f.stages, f.options.steps);
  const auto device = make_cuda(precision, Products::ours);
  Trainer trainer(f.space, f.options, f.stages, *f.data, *device);
  while (!trainer.done())
    for (const LossReport& loss : trainer.step().losses) CHECK(std::isfinite(loss.label_loss));
}

}  // namespace elastiform
