#include "trainers/optimizers/adamw.hpp"

#include <cmath>
#include <cstring>

#include "kernels/reference/reference_backend.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/vectors.hpp"
#include "tests/trainers/band_space.hpp"

namespace elastiform {
TEST_CASE("AdamW's band policies are the reference's", "[trainers][vectors]") {
  const auto base = vector("adamw"), policies = vector("adamw_supernet_policies");
  const auto [policy, key] = GENERATE(
      table<std::string, std::string>({{"dense", "dense_zero_grad"}, {"lazy-global", "lazy_global_t"}, {"lazy-local", "lazy_local_t"}}));
  TrainOptions options;
  options.policy = policy;
  options.band_warmup = 0;
  options.beta1 = base["hyper"]["beta1"], options.beta2 = base["hyper"]["beta2"], options.eps = base["hyper"]["eps"];
  options.decay = base["hyper"]["weight_decay"];
  const auto table = four_band_table();
  const TensorSpec& tensor = table->at("block.0.ffn.down");
  REQUIRE(tensor.bands() == 4);
  Weights weights(table, DType::float64), gradients(table, DType::float64);
  set_bands(weights, tensor, base["p0"]);
  ReferenceBackend backend;
  AdamwOptimizer optimizer(options, table, backend);
  for (std::size_t t = 0; t < 3; ++t) {
    set_bands(gradients, tensor, base["grads"][t]);
    std::vector<bool> active(static_cast<std::size_t>(table->band_count()), false);
    for (std::size_t i = 0; i < 4; ++i) active[static_cast<std::size_t>(tensor.first_band) + i] = policies["mask"][t][i] == 1;
    optimizer.update(backend, weights, gradients, ActiveBands(active),
                     {.step = static_cast<std::int64_t>(t), .rate = base["hyper"]["lr"], .gradient_scale = 1});
    const auto expected = policies["expected"][key][t];
    for (std::size_t i = 0; i < 4; ++i) {
      CAPTURE(policy, t, i);
      const std::int64_t column = static_cast<std::int64_t>(2 * i + 1);
      CHECK(weights.view(tensor).row<double>(7)[column] == Approx(double(expected["p"][i])).epsilon(1e-12));
      CHECK(optimizer.moments().at("m")->view(tensor).row<double>(7)[column] ==
            Approx(double(expected["m"][i])).epsilon(1e-12).margin(1e-300));
      CHECK(optimizer.moments().at("v")->view(tensor).row<double>(7)[column] ==
            Approx(double(expected["v"][i])).epsilon(1e-12).margin(1e-300));
      if (policy != "dense")
        CHECK(optimizer.band_numbers().at("count")->at(static_cast<std::size_t>(tensor.first_band) + i) == double(expected["count"][i]));
    }
  }
}

TEST_CASE("catch-up: idle steps fade the moments without moving the weight, and no burst follows", "[trainers]") {
  TrainOptions options;
  options.policy = "catch-up", options.band_warmup = 0, options.decay = 0, options.eps = 0;
  const auto table = four_band_table();
  const TensorSpec& tensor = table->at("block.0.ffn.down");
  Weights weights(table, DType::float64), gradients(table, DType::float64);
  set_bands(gradients, tensor, {1, 1, 1, 1});
  ReferenceBackend backend;
  AdamwOptimizer optimizer(options, table, backend);
  std::vector<bool> first_only(static_cast<std::size_t>(table->band_count()), false);
  first_only[static_cast<std::size_t>(tensor.first_band)] = true;
  std::vector<bool> all(first_only.size(), true);
  std::vector<double> moved;
  for (int t = 0; t < 12; ++t) {
    const double before = weights.view(tensor).row<double>(0)[7];
    optimizer.update(backend, weights, gradients, ActiveBands(t == 0 || t == 11 ? all : first_only), {.step = t, .rate = 0.01});
    moved.push_back(before - weights.view(tensor).row<double>(0)[7]);
  }
  CHECK(moved[0] == Approx(0.01));
  for (int t = 1; t < 11; ++t) CHECK(moved[static_cast<std::size_t>(t)] == 0);
  CHECK(moved[11] == Approx(0.01));  // a constant gradient moves exactly the rate, however long the band was idle
  CHECK(weights.view(tensor).row<double>(0)[0] == Approx(-0.12));
}

TEST_CASE("a band met late gets a warm-up of its own", "[trainers]") {
  TrainOptions options;
  options.band_warmup = 4, options.decay = 0, options.eps = 0;
  const auto table = four_band_table();
  const TensorSpec& tensor = table->at("block.0.ffn.down");
  Weights weights(table, DType::float64), gradients(table, DType::float64);
  set_bands(gradients, tensor, {1, 1, 1, 1});
  ReferenceBackend backend;
  AdamwOptimizer optimizer(options, table, backend);
  const ActiveBands all(std::vector<bool>(static_cast<std::size_t>(table->band_count()), true));
  for (int t = 0; t < 5; ++t) optimizer.update(backend, weights, gradients, all, {.step = t + 1000, .rate = 0.01});
  CHECK(weights.view(tensor).row<double>(0)[0] == Approx(-0.01 * (0.25 + 0.5 + 0.75 + 1 + 1)));

  // During the schedule's own warm-up the slower ramp counts, not the product of both.
  Weights fresh(table, DType::float64);
  AdamwOptimizer other(options, table, backend);
  for (int t = 0; t < 4; ++t) {
    const double ramp = (t + 1) / 8.0;  // slower than the band's quarter a step
    other.update(backend, fresh, gradients, all, {.step = t, .rate = 0.01 * ramp, .warmup = ramp});
  }
  CHECK(fresh.view(tensor).row<double>(0)[0] == Approx(-0.01 * (1 + 2 + 3 + 4) / 8));
}

TEST_CASE("AdamW without gradients decays alone, and its first step is rate·g / (|g| + eps)", "[trainers]") {
  TrainOptions options;
  options.band_warmup = 0, options.decay = 0.3;
  const auto table = four_band_table();
  const TensorSpec& tensor = table->at("block.0.ffn.down");
  ReferenceBackend backend;
  const ActiveBands all(std::vector<bool>(static_cast<std::size_t>(table->band_count()), true));
  Weights weights(table, DType::float64), gradients(table, DType::float64);
  set_bands(weights, tensor, {1, -2, 0, 5});
  AdamwOptimizer idle(options, table, backend);
  for (int t = 0; t < 7; ++t) idle.update(backend, weights, gradients, all, {.step = t, .rate = 0.01});
  for (const auto& [column, start] : {std::pair{0, 1.0}, {2, -2.0}, {4, 0.0}, {6, 5.0}})
    CHECK(weights.view(tensor).row<double>(1)[column] == Approx(start * std::pow(1 - 0.01 * 0.3, 7)).epsilon(1e-14));

  options.decay = 0, options.eps = 1e-3;
  const std::vector<double> g{1e-4, -1e-3, 0.5, 700};
  set_bands(weights, tensor, {0, 0, 0, 0});
  set_bands(gradients, tensor, g);
  AdamwOptimizer first(options, table, backend);
  first.update(backend, weights, gradients, all, {.step = 0, .rate = 0.01});
  for (std::size_t i = 0; i < 4; ++i)
    CHECK(weights.view(tensor).row<double>(1)[2 * i] == Approx(-0.01 * g[i] / (std::abs(g[i]) + 1e-3)).epsilon(1e-12));
}

}  // namespace elastiform
