#include "tests/support/vectors.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/near.hpp"

namespace elastiform {
namespace {

/// The reference and the tested backend by turns, each with the element type that its views have.
struct Subject {
  TestedBackend tested;
  ReferenceBackend reference;
  Backend& k;
  DType dtype;
  explicit Subject(bool is_tested) : k(is_tested ? *tested : reference), dtype(k.dtype()) {}

  Matrix empty(std::int64_t rows, std::int64_t columns) const { return canary(rows, columns, columns + 3, dtype); }
};

/// The first columns of a matrix, as a view into it.
ConstView first_columns(const Matrix& m, std::int64_t columns) { return m.view().slice(m.rows(), columns); }

void check_norm(Subject& s, const char* name, Norm kind, std::int64_t C) {
  CAPTURE(name);
  const nlohmann::json& v = vector("norm");
  const nlohmann::json& expected = v["expected"][name];
  const auto of = [&](const nlohmann::json& values) { return matrix_of(values, s.dtype); };
  const Matrix x = of(v["x"]), gain = of(v["gamma"]), bias = of(v["beta"]), dy = of(v["dy"]);
  const std::int64_t N = x.rows();
  const double eps = v["eps"].get<double>();
  const ConstView some_bias = kind == Norm::layer ? first_columns(bias, C) : ConstView{};
  Matrix y = s.empty(N, C), rstd = s.empty(1, N), mean = s.empty(1, N);
  const View some_mean = kind == Norm::layer ? mean.view() : View{};
  s.k.norm_forward({.y = y.view(),
                    .rstd = rstd.view(),
                    .mean = some_mean,
                    .x = first_columns(x, C),
                    .gain = first_columns(gain, C),
                    .bias = some_bias,
                    .kind = kind,
                    .eps = eps});
  Matrix dx = s.empty(N, C), dgain = s.empty(1, C), dbias = s.empty(1, C);
  s.k.norm_backward({.dx = dx.view(),
                     .dgain = dgain.view(),
                     .dbias = dbias.view(),
                     .dy = first_columns(dy, C),
                     .residual = {},
                     .x = first_columns(x, C),
                     .rstd = rstd.view(),
                     .mean = some_mean,
                     .gain = first_columns(gain, C),
                     .kind = kind});
  const Tolerance allowed = vector_tolerance(v, s.dtype);
  CHECK_THAT(y, near(of(expected["y"]), allowed));
  CHECK_THAT(dx, near(of(expected["dx"]), allowed));
  CHECK_THAT(dgain, near(of(expected["dgamma"]), allowed));
  if (expected.contains("dbeta")) CHECK_THAT(dbias, near(of(expected["dbeta"]), allowed));
  if (expected.contains("mean")) CHECK_THAT(mean, near(of(expected["mean"]), allowed));
  if (expected.contains("rstd")) CHECK_THAT(rstd, near(of(expected["rstd"]), allowed));
  if (expected.contains("rrms")) CHECK_THAT(rstd, near(of(expected["rrms"]), allowed));
}

}  // namespace

TEST_CASE("vector norm: whole rows and the first three channels as a slice", "[kernels][vectors]") {
  Subject s(GENERATE(false, true));
  CAPTURE(s.k.name());
  check_norm(s, "layernorm", Norm::layer, 4);
  check_norm(s, "rmsnorm", Norm::rms, 4);
  check_norm(s, "layernorm_active3", Norm::layer, 3);
  check_norm(s, "rmsnorm_active3", Norm::rms, 3);
}

TEST_CASE("vector activations", "[kernels][vectors]") {
  Subject s(GENERATE(false, true));
  CAPTURE(s.k.name());
  const nlohmann::json& v = vector("activations");
  const nlohmann::json& expected = v["expected"];
  const Tolerance allowed = vector_tolerance(v, s.dtype);
  const auto of = [&](const nlohmann::json& values) { return matrix_of(values, s.dtype); };
  const Matrix x = of(v["x"]), up = of(v["up"]), ones(1, x.columns(), x.columns(), s.dtype, 1, kInputMark);
  const auto swiglu = [&](const Matrix& with) {
    Matrix y = s.empty(1, x.columns()), dgate = y, dup = y;
    s.k.swiglu_forward({.y = y.view(), .gate = x.view(), .up = with.view()});
    s.k.swiglu_backward({.dgate = dgate.view(), .dup = dup.view(), .dy = ones.view(), .gate = x.view(), .up = with.view()});
    return written(std::move(y), std::move(dgate), std::move(dup));
  };
  const std::vector<Matrix> plain = swiglu(up), silu = swiglu(ones);  // silu is swiglu with an up of 1
  CHECK_THAT(plain[0], near(of(expected["swiglu"]["y"]), allowed));
  CHECK_THAT(plain[1], near(of(expected["swiglu"]["dgate"]), allowed));
  CHECK_THAT(plain[2], near(of(expected["swiglu"]["dup"]), allowed));
  CHECK_THAT(silu[0], near(of(expected["silu"]["y"]), allowed));
  CHECK_THAT(silu[1], near(of(expected["silu"]["dy"]), allowed));
  for (const Gelu kind : {Gelu::erf, Gelu::tanh}) {
    const nlohmann::json& gelu = expected[kind == Gelu::erf ? "gelu_erf" : "gelu_tanh"];
    Matrix y = s.empty(1, x.columns()), dx = y;
    s.k.gelu_forward({.y = y.view(), .x = x.view(), .kind = kind});
    s.k.gelu_backward({.dx = dx.view(), .dy = ones.view(), .x = x.view(), .kind = kind});
    CHECK_THAT(y, near(of(gelu["y"]), allowed));
    CHECK_THAT(dx, near(of(gelu["dy"]), allowed));
  }
}

TEST_CASE("vector cross_entropy", "[kernels][vectors]") {
  Subject s(GENERATE(false, true));
  const bool smoothed = GENERATE(true, false);
  CAPTURE(s.k.name(), smoothed);
  const nlohmann::json& v = vector("cross_entropy");
  const nlohmann::json& expected = v["expected"];
  const Tolerance allowed = vector_tolerance(v, s.dtype);
  const auto targets = v["target"].get<std::vector<std::int32_t>>();
  double counted = 0;
  for (const std::int32_t target : targets) counted += target != kIgnoredTarget;
  const Matrix logits = matrix_of(v["logits"], s.dtype);
  Matrix losses = s.empty(1, logits.rows()), dlogits = s.empty(logits.rows(), logits.columns());
  s.k.softmax_loss({.losses = losses.view(),
                    .teacher_losses = {},
                    .correct = {},
                    .dlogits = dlogits.view(),
                    .logits = logits.view(),
                    .teacher = {},
                    .targets = targets,
                    .label_smoothing = smoothed ? v["label_smoothing"].get<double>() : 0.0,
                    .gradient_scale = 1 / counted});
  double loss = 0;
  for (std::int64_t n = 0; n < losses.columns(); ++n) loss += losses.at(0, n) / counted;
  CHECK(loss == Approx(expected[smoothed ? "loss" : "loss_no_smoothing"].get<double>()).epsilon(allowed.relative));
  CHECK_THAT(dlogits, near(matrix_of(expected[smoothed ? "dlogits" : "dlogits_no_smoothing"], s.dtype), allowed));
}

TEST_CASE("vector distillation_kl", "[kernels][vectors]") {
  Subject s(GENERATE(false, true));
  CAPTURE(s.k.name());
  const nlohmann::json& v = vector("distillation_kl");
  const Tolerance allowed = vector_tolerance(v, s.dtype);
  const Matrix student = matrix_of(v["student"], s.dtype), teacher = matrix_of(v["teacher"], s.dtype);
  const std::vector<std::int32_t> targets(static_cast<std::size_t>(student.rows()), 0);
  Matrix losses = s.empty(1, student.rows()), dlogits = s.empty(student.rows(), student.columns());
  s.k.softmax_loss({.losses = {},
                    .teacher_losses = losses.view(),
                    .correct = {},
                    .dlogits = dlogits.view(),
                    .logits = student.view(),
                    .teacher = teacher.view(),
                    .targets = targets,
                    .label_weight = 0,
                    .teacher_weight = 1,
                    .temperature = v["T"].get<double>(),
                    .gradient_scale = 1 / static_cast<double>(student.rows())});
  double loss = 0;
  for (std::int64_t n = 0; n < losses.columns(); ++n) loss += losses.at(0, n) / static_cast<double>(student.rows());
  CHECK(loss == Approx(v["expected"]["loss"].get<double>()).epsilon(allowed.relative));
  CHECK_THAT(dlogits, near(matrix_of(v["expected"]["dstudent"], s.dtype), allowed));
}

TEST_CASE("vector rope: half rotation, and back", "[kernels][vectors]") {
  Subject s(GENERATE(false, true));
  CAPTURE(s.k.name());
  const nlohmann::json& v = vector("rope");
  const Tolerance allowed = vector_tolerance(v, s.dtype);
  const Matrix x = matrix_of(v["x"], s.dtype);
  Matrix cosine(8, 2, 2, s.dtype, 0, kInputMark), sine = cosine;
  for (std::int64_t p = 0; p < 8; ++p) {
    for (std::int64_t i = 0; i < 2; ++i) {
      const double angle = static_cast<double>(p) * (i == 0 ? 1.0 : 0.01);
      cosine.set(p, i, std::cos(angle));
      sine.set(p, i, std::sin(angle));
    }
  }
  for (const std::int64_t position : v["positions"].get<std::vector<std::int64_t>>()) {
    CAPTURE(position);
    Matrix turned = x;
    const auto rope = [&](bool inverse) {
      s.k.rope({.x = turned.view(),
                .cosine = cosine.view(),
                .sine = sine.view(),
                .first_row = 0,
                .period = 1,
                .offset = position,
                .inverse = inverse});
    };
    rope(false);
    CHECK_THAT(turned, near(matrix_of(v["expected"]["half_split"][std::to_string(position)], s.dtype), allowed));
    rope(true);
    CHECK_THAT(turned, near(x, allowed));
  }
}

TEST_CASE("vector causal_attention", "[kernels][vectors]") {
  Subject s(GENERATE(false, true));
  CAPTURE(s.k.name());
  const nlohmann::json& v = vector("causal_attention");
  const nlohmann::json& expected = v["expected"];
  const Tolerance allowed = vector_tolerance(v, s.dtype);
  const auto of = [&](const nlohmann::json& values) { return matrix_of(values, s.dtype); };
  const Matrix q = of(v["Q"]), k = of(v["K"]), values = of(v["V"]), dout = of(v["dO"]);
  const std::int64_t T = q.rows(), D = q.columns();
  const AttentionShape shape{1, T, T, 1, 1, D, 1 / std::sqrt(static_cast<double>(D))};
  Matrix out = s.empty(T, D), lse = s.empty(1, T), dq = out, dk = out, dv = out;
  s.k.attention_forward({.out = out.view(), .lse = lse.view(), .q = q.view(), .k = k.view(), .v = values.view(), .shape = shape});
  s.k.attention_backward({.dq = dq.view(),
                          .dk = dk.view(),
                          .dv = dv.view(),
                          .dout = dout.view(),
                          .out = out.view(),
                          .lse = lse.view(),
                          .q = q.view(),
                          .k = k.view(),
                          .v = values.view(),
                          .shape = shape});
  CHECK_THAT(out, near(of(expected["O"]), allowed));
  CHECK_THAT(lse, near(of(expected["lse"]), allowed));
  CHECK_THAT(dq, near(of(expected["dQ"]), allowed));
  CHECK_THAT(dk, near(of(expected["dK"]), allowed));
  CHECK_THAT(dv, near(of(expected["dV"]), allowed));
}

TEST_CASE("vector adamw: three steps", "[kernels][vectors]") {
  Subject s(GENERATE(false, true));
  CAPTURE(s.k.name());
  const nlohmann::json& v = vector("adamw");
  const nlohmann::json& hyper = v["hyper"];
  const Tolerance allowed = vector_tolerance(v, s.dtype);
  const auto number = [&](const char* name) { return hyper[name].get<double>(); };
  Matrix weight = matrix_of(v["p0"], s.dtype), m(1, weight.columns(), weight.columns(), s.dtype, 0, kInputMark), second = m;
  for (std::size_t t = 0; t < v["grads"].size(); ++t) {
    CAPTURE(t);
    const Matrix gradient = matrix_of(v["grads"][t], s.dtype);
    const double steps = static_cast<double>(t + 1);
    s.k.adamw({.weight = weight.view(),
               .m = m.view(),
               .v = second.view(),
               .gradient = gradient.view(),
               .rate = number("lr"),
               .beta1 = number("beta1"),
               .beta2 = number("beta2"),
               .eps = number("eps"),
               .decay = number("weight_decay"),
               .correction1 = 1 - std::pow(number("beta1"), steps),
               .correction2 = 1 - std::pow(number("beta2"), steps)});
    const nlohmann::json& expected = v["expected"][t];
    CHECK_THAT(weight, near(matrix_of(expected["p"], s.dtype), allowed));
    CHECK_THAT(m, near(matrix_of(expected["m"], s.dtype), allowed));
    CHECK_THAT(second, near(matrix_of(expected["v"], s.dtype), allowed));
  }
}

TEST_CASE("every vector that a test names exists; those that none uses are listed", "[vectors]") {
  const std::vector<std::string> unused = unused_vectors();
  WARN("reference vectors that no test uses: " << fmt::format("{}", fmt::join(unused, ", ")));
  for (const char* used : {"norm", "adamw", "causal_attention"}) CHECK(std::find(unused.begin(), unused.end(), used) == unused.end());
  CHECK_THROWS_AS(vector("no such entry"), std::out_of_range);
}

}  // namespace elastiform
