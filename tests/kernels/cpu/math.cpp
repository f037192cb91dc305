// The errors that kernels/cpu/math-inl.hpp states, measured against double.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/cpu/cpu_backend.hpp"
#include "tests/support/catch.hpp"

using namespace elastiform;

namespace {

/// y = f(x) on a grid that is no multiple of the vector length.
std::vector<float> grid(double first, double last) {
  std::vector<float> x(100'003);
  for (std::size_t i = 0; i < x.size(); ++i)
    x[i] = static_cast<float>(first + (last - first) * static_cast<double>(i) / static_cast<double>(x.size() - 1));
  return x;
}

View row(std::vector<float>& values) {
  return view_of(values.data(), 1, static_cast<std::int64_t>(values.size()), static_cast<std::int64_t>(values.size()));
}

}  // namespace

TEST_CASE("exp stays within 1.2 ulp, sigmoid within 3", "[kernels]") {
  const ThreadPool pool(1);
  CpuBackend cpu(pool);
  std::vector<float> x = grid(-86, 88), one(x.size(), 1), y(x.size());
  cpu.swiglu_forward({.y = row(y), .gate = row(x), .up = row(one)});
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double exact = x[i] / (1 + std::exp(-static_cast<double>(x[i])));
    if (std::fabs(exact) > 1e-36) worst = std::max(worst, std::fabs(y[i] / exact - 1));
  }
  CHECK(worst < 3 * 0x1p-23);

  // One row of logits 0, x has the gradient e^x / (1 + e^x); below x = -20 the sum rounds to 1 and e^x itself is left.
  worst = 0;
  for (std::size_t i = 0; i < x.size(); i += 7) {
    if (x[i] > -20) break;
    std::vector<float> logits = {0, x[i]}, gradient(2);
    const std::vector<std::int32_t> target = {0};
    cpu.softmax_loss({.losses = {},
                      .teacher_losses = {},
                      .correct = {},
                      .dlogits = row(gradient),
                      .logits = row(logits),
                      .teacher = {},
                      .targets = target});
    worst = std::max(worst, std::fabs(gradient[1] / std::exp(static_cast<double>(x[i])) - 1));
  }
  CHECK(worst < 1.2 * 0x1p-23);
}

TEST_CASE("GELU (erf) is accurate in the lower tail, where 1 + erf cancels", "[kernels]") {
  const ThreadPool pool(1);
  CpuBackend cpu(pool);
  std::vector<float> x = grid(-12, 12), y(x.size());
  cpu.gelu_forward({.y = row(y), .x = row(x), .kind = Gelu::erf});
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = x[i], exact = 0.5 * v * std::erfc(-v / std::sqrt(2.0));
    if (std::fabs(exact) < 1e-33) continue;
    worst = std::max(worst, std::fabs(y[i] / exact - 1) / (5e-7 + 3e-8 * v * v));
  }
  CHECK(worst < 1);
}
