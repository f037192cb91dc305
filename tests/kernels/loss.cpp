#include <cmath>

#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/finite_difference.hpp"
#include "tests/support/near.hpp"

namespace elastiform {
namespace {

/// Every target once, some ignored.
std::vector<std::int32_t> targets_of(std::int64_t N, std::int64_t V) {
  std::vector<std::int32_t> targets;
  for (std::int64_t n = 0; n < N; ++n) targets.push_back(n % 5 == 3 ? kIgnoredTarget : static_cast<std::int32_t>(n * 7 % V));
  return targets;
}

/// Second targets of mixed rows, some the first one's, and their shares, 0 among them.
std::vector<std::int32_t> second_targets_of(std::int64_t N, std::int64_t V) {
  std::vector<std::int32_t> targets;
  for (std::int64_t n = 0; n < N; ++n) targets.push_back(static_cast<std::int32_t>(n * 3 % V));
  return targets;
}
std::vector<float> second_shares_of(std::int64_t N) {
  std::vector<float> shares;
  for (std::int64_t n = 0; n < N; ++n) shares.push_back(static_cast<float>(n % 4) * 0.25f);
  return shares;
}

struct Shape {
  std::int64_t N, V;
};
struct Options {
  bool teacher, in_place;
  double smoothing, temperature;
  bool mixed = false;
};

}  // namespace

TEST_CASE("softmax_loss agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const Shape s =
      GENERATE(Shape{1, 1}, Shape{1, 33}, Shape{3, 7}, Shape{17, 160}, Shape{256, 33}, Shape{300, 256}, Shape{5, 1000}, Shape{3, 5003});
  const Options o = GENERATE(Options{false, false, 0, 1}, Options{false, true, 0.1, 1}, Options{true, false, 0.1, 2},
                             Options{true, true, 0, 1.5}, Options{false, true, 0, 1, true}, Options{true, false, 0.1, 2, true});
  CAPTURE(s.N, s.V, o.teacher, o.in_place, o.smoothing, o.temperature, o.mixed);
  const std::vector<std::int32_t> targets = targets_of(s.N, s.V);
  const std::vector<std::int32_t> second = second_targets_of(o.mixed ? s.N : 0, s.V);
  const std::vector<float> shares = second_shares_of(o.mixed ? s.N : 0);
  check_conformance("softmax_loss", [&](Backend& k, const Memory& memory) {
    Matrix logits = memory.in_out(s.N, s.V, 1), dlogits = memory.output(s.N, s.V);
    const Matrix teacher = memory.input(s.N, s.V, 2);
    Matrix losses = memory.output(1, s.N), teacher_losses = memory.output(1, s.N), correct = memory.output(1, s.N);
    k.panels(s.N, [&](Rows r) {
      const auto columns = [&](Matrix& m) { return m.view().column_range(r.first, r.count); };
      k.softmax_loss({.losses = columns(losses),
                      .teacher_losses = o.teacher ? columns(teacher_losses) : View{},
                      .correct = columns(correct),
                      .dlogits = (o.in_place ? logits : dlogits).view()[r],
                      .logits = logits.view()[r],
                      .teacher = o.teacher ? teacher.view()[r] : ConstView{},
                      .targets = std::span(targets).subspan(r.first, r.count),
                      .label_weight = 0.75,
                      .teacher_weight = o.teacher ? 0.5 : 0,
                      .temperature = o.temperature,
                      .label_smoothing = o.smoothing,
                      .gradient_scale = 0.125,
                      .second_targets = o.mixed ? std::span(second).subspan(r.first, r.count) : std::span(second),
                      .second_shares = o.mixed ? std::span(shares).subspan(r.first, r.count) : std::span(shares)});
    });
    return written(std::move(logits), std::move(dlogits), std::move(losses), std::move(teacher_losses), std::move(correct));
  });
}

TEST_CASE("softmax_loss writes only what is asked for", "[kernels][conformance]") {
  const std::vector<std::int32_t> targets = targets_of(17, 33);
  check_conformance("softmax_loss", [&](Backend& k, const Memory& memory) {
    Matrix logits = memory.in_out(17, 33, 1), losses = memory.output(1, 17), dlogits = memory.output(17, 33);
    const auto op = SoftmaxLoss{
        .losses = {}, .teacher_losses = {}, .correct = {}, .dlogits = {}, .logits = logits.view(), .teacher = {}, .targets = targets};
    SoftmaxLoss forward = op, backward = op;
    forward.losses = losses.view();
    backward.dlogits = dlogits.view();
    k.softmax_loss(forward);
    k.softmax_loss(backward);
    return written(std::move(logits), std::move(losses), std::move(dlogits));
  });
}

TEST_CASE("dlogits is the derivative of both losses", "[kernels][gradient]") {
  const Options o = GENERATE(Options{false, false, 0, 1}, Options{false, false, 0.1, 1}, Options{true, false, 0.2, 2},
                             Options{true, false, 0.2, 2, true});
  CAPTURE(o.teacher, o.smoothing, o.temperature, o.mixed);
  const Memory memory;
  ReferenceBackend k;
  const std::vector<std::int32_t> targets = {2, kIgnoredTarget, 0};
  const std::vector<std::int32_t> second = o.mixed ? std::vector<std::int32_t>{1, kIgnoredTarget, 0} : std::vector<std::int32_t>{};
  const std::vector<float> shares = o.mixed ? std::vector<float>{0.25f, 0.5f, 0.5f} : std::vector<float>{};
  Matrix logits = memory.input(3, 5, 1), dlogits = memory.output(3, 5), losses = memory.output(1, 3), teacher_losses = memory.output(1, 3);
  const Matrix teacher = memory.input(3, 5, 2);
  const auto run = [&](View into) {
    k.softmax_loss({.losses = losses.view(),
                    .teacher_losses = o.teacher ? teacher_losses.view() : View{},
                    .correct = {},
                    .dlogits = into,
                    .logits = logits.view(),
                    .teacher = o.teacher ? teacher.view() : ConstView{},
                    .targets = targets,
                    .label_weight = 0.75,
                    .teacher_weight = 0.5,
                    .temperature = o.temperature,
                    .label_smoothing = o.smoothing,
                    .gradient_scale = 3,
                    .second_targets = second,
                    .second_shares = shares});
  };
  const auto loss = [&] {
    run({});
    double sum = 0;
    for (std::int64_t n = 0; n < 3; ++n) sum += 3 * (0.75 * losses.at(0, n) + (o.teacher ? 0.5 * teacher_losses.at(0, n) : 0.0));
    return sum;
  };
  run(dlogits.view());
  CHECK(losses.at(0, 1) == 0);
  CHECK_THAT(dlogits, near(finite_difference(logits, loss), tolerance("finite_difference", DType::float64)));
}

TEST_CASE("losses of huge, equal, ignored and NaN logits", "[kernels][extreme]") {
  const TestedBackend tested;
  const Memory memory{DType::float32, 5};
  std::vector<std::int32_t> targets = {0, 1, 1, kIgnoredTarget, 2};
  Matrix logits = memory.in_out(5, 33, 1), losses = memory.output(1, 5), correct = memory.output(1, 5), dlogits = memory.output(5, 33);
  for (std::int64_t v = 0; v < 33; ++v) {
    logits.set(0, v, v == 0 ? 1e4 : -1e4);
    logits.set(1, v, v == 0 ? 1e4 : -1e4);
    logits.set(2, v, 7);
  }
  logits.set(4, 32, kInputMark);
  const auto run = [&] {
    tested->softmax_loss({.losses = losses.view(),
                          .teacher_losses = {},
                          .correct = correct.view(),
                          .dlogits = dlogits.view(),
                          .logits = logits.view(),
                          .teacher = {},
                          .targets = targets});
  };
  run();
  CHECK(losses.at(0, 0) == 0);
  CHECK(losses.at(0, 1) == Approx(2e4));
  CHECK(losses.at(0, 2) == Approx(std::log(33.0)));
  CHECK(losses.at(0, 3) == 0);
  CHECK(std::isnan(losses.at(0, 4)));
  CHECK(correct.at(0, 0) == 1);
  CHECK(correct.at(0, 1) == 0);
  CHECK(correct.at(0, 2) == 0);  // the first of equals is class 0, the target class 1
  CHECK(correct.at(0, 3) == 0);
  for (std::int64_t v = 0; v < 33; ++v) {
    CHECK(dlogits.at(0, v) == 0);
    CHECK(dlogits.at(1, v) == Approx(v == 0 ? 1 : v == 1 ? -1 : 0));
    CHECK(dlogits.at(3, v) == 0);
    CHECK(std::isnan(dlogits.at(4, v)));
  }
  targets.assign(5, kIgnoredTarget);
  run();
  for (std::int64_t n = 0; n < 5; ++n) CHECK(losses.at(0, n) == 0);
  CHECK(dlogits.largest_magnitude() == 0);
  CHECK(dlogits.canary_intact());
}

TEST_CASE("distillation from logits of 1e4 is finite, from itself zero", "[kernels][extreme]") {
  const TestedBackend tested;
  const Memory memory{DType::float32, 5};
  const std::vector<std::int32_t> targets(2, kIgnoredTarget);
  Matrix logits = memory.in_out(2, 33, 1), teacher = memory.input(2, 33, 2), teacher_losses = memory.output(1, 2),
         dlogits = memory.output(2, 33);
  for (std::int64_t v = 0; v < 33; ++v) {
    logits.set(0, v, v == 0 ? 1e4 : -1e4);
    teacher.set(0, v, v == 1 ? 1e4 : -1e4);
    teacher.set(1, v, logits.at(1, v));
  }
  tested->softmax_loss({.losses = {},
                        .teacher_losses = teacher_losses.view(),
                        .correct = {},
                        .dlogits = dlogits.view(),
                        .logits = logits.view(),
                        .teacher = teacher.view(),
                        .targets = targets,
                        .label_weight = 0,
                        .teacher_weight = 1,
                        .temperature = 2});
  CHECK(teacher_losses.at(0, 0) == Approx(4 * 1e4));
  CHECK(teacher_losses.at(0, 1) == Approx(0).margin(1e-6));
  CHECK(dlogits.at(0, 0) == Approx(2));
  CHECK(dlogits.at(0, 1) == Approx(-2));
  CHECK(dlogits.at(1, 5) == Approx(0).margin(1e-6));
}

}  // namespace elastiform
