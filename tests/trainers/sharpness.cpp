// What sharpness-aware steps are for: of two trainings that differ in the step rule alone, theirs ends where the loss is less curved. The
// largest eigenvalue of its Hessian is found by power iteration over differences of gradients.
#include <cmath>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/random.hpp"
#include "tests/support/catch.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/trainer_state.hpp"

namespace elastiform {
namespace {

/// The loss of one network over one batch.
class Curvature {
 public:
  Curvature(Backend& backend, const SearchSpace& space, const Batch& batch)
      : backend_(backend), network_(space, DType::float32), subnet_(space.largest()), batch_(batch),
        plan_(network_.plan_training(backend.traits(), subnet_, {.batch = batch.sequences, .tokens = batch.tokens})),
        arena_(plan_.arena_bytes) {}

  /// Largest in magnitude: v ← Hv / ‖Hv‖ until it moves by less than a thousandth, Hv = (∇L(θ + hv) - ∇L(θ - hv)) / 2h.
  double largest_eigenvalue(const Weights& theta) {
    Weights v(theta.shared_table(), DType::float32), up(theta.shared_table(), DType::float32), down(theta.shared_table(), DType::float32);
    std::uint32_t number = 0;
    for_each_tensor(v, [&](View x, const TensorSpec&) {
      RandomStream random(5, Purpose::test, 0, number++);
      for (std::int64_t row = 0; row < x.rows; ++row)
        for (std::int64_t c = 0; c < x.columns; ++c) x.row<float>(row)[c] = static_cast<float>(random.normal());
    });
    constexpr double kStep = 1e-2;  // of unit length: rounding of gradients is far below their change
    double eigenvalue = 0;
    for (int i = 0; i < 200; ++i) {
      scale(v, 1 / norm(v));
      gradient(up, theta, v, kStep);
      gradient(down, theta, v, -kStep);
      const double before = eigenvalue;
      eigenvalue = 0;
      for_each_tensor(v, [&](View x, const TensorSpec& tensor) {
        const View g = up.view(tensor);
        backend_.add(g, std::as_const(down).view(tensor), -1);
        backend_.scale(g, 1 / (2 * kStep));
        for (std::int64_t row = 0; row < x.rows; ++row)
          for (std::int64_t c = 0; c < x.columns; ++c) eigenvalue += static_cast<double>(x.row<float>(row)[c] * g.row<float>(row)[c]);
        backend_.copy(x, g);
      });
      if (std::abs(eigenvalue - before) < 1e-3 * std::abs(eigenvalue)) return eigenvalue;
    }
    return eigenvalue;
  }

 private:
  template <class Body>
  static void for_each_tensor(Weights& weights, const Body& body) {
    for (const TensorSpec& tensor : weights.table().tensors()) body(weights.view(tensor), tensor);
  }
  double norm(Weights& x) {
    double sum = 0;
    for_each_tensor(x, [&](View view, const TensorSpec&) { sum += backend_.sum_squares(view); });
    return std::sqrt(sum);
  }
  void scale(Weights& x, double factor) {
    for_each_tensor(x, [&](View view, const TensorSpec&) { backend_.scale(view, factor); });
  }
  /// At θ + factor · v.
  void gradient(Weights& g, const Weights& theta, Weights& v, double factor) {
    Weights at(theta.shared_table(), DType::float32);
    at.assign(theta);
    for_each_tensor(at, [&](View x, const TensorSpec& tensor) { backend_.add(x, std::as_const(v).view(tensor), factor); });
    for_each_tensor(g, [&](View x, const TensorSpec&) { backend_.zero(x); });
    network_.forward_backward(backend_, at, g, subnet_, batch_, {}, {}, {}, plan_, arena_);
  }

  Backend& backend_;
  Network network_;
  Subnet subnet_;
  const Batch& batch_;
  ActivationPlan plan_;
  Arena arena_;
};

struct Trained {
  double eigenvalue = 0, loss = 0;
};

Trained train(Fixture& f, CpuBackend& backend, const std::string& rule) {
  f.options.step_rule = rule;
  Trainer trainer(f.space, f.options, f.stages, *f.data, backend);
  double loss = 0;
  while (!trainer.done()) {
    const StepReport report = trainer.step();
    if (report.step >= f.options.steps - 20) loss += report.losses[0].label_loss / 20;
  }
  Batch batch;
  f.data->training_batch(99, 0, 32, f.space.model().context, batch, 0);
  return {Curvature(backend, f.space, batch).largest_eigenvalue(trainer.weights()), loss};
}

}  // namespace

TEST_CASE("SAM and its kin end where the Hessian's largest eigenvalue is smaller than after plain steps", "[trainers][sharpness]") {
  Fixture f;
  const SearchSpace::Block block{{2}, {.widths = {32}, .ratios = {}}};
  f.space = SearchSpace(f.space.model(), {16}, {1}, {block});
  f.stages = {{.share = 1, .steps = 0, .sampler = "largest"}};
  f.options.steps = 600, f.options.sequences = 8, f.options.rho = 0.2;
  f.options.optimizer = GENERATE("sgd", "adamw");
  f.options.rate = f.options.optimizer == "sgd" ? 0.2 : 1e-2;
  CAPTURE(f.options.optimizer);
  resolve_stages(f.stages, f.options.steps);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const Trained plain = train(f, backend, "plain");
  for (const char* rule : {"sam", "esam", "looksam"}) {
    const Trained flat = train(f, backend, rule);
    INFO(rule << ": " << flat.eigenvalue << ", loss " << flat.loss << "; plain: " << plain.eigenvalue << ", loss " << plain.loss);
    CHECK(plain.loss < 3);  // it has learned something
    CHECK(flat.loss < 3);
    CHECK(flat.eigenvalue > 0);
    CHECK(flat.eigenvalue < 0.9 * plain.eigenvalue);
  }
}

}  // namespace elastiform
