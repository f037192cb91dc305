#include "trainers/schedules/schedule.hpp"

#include <array>
#include <cmath>

#include "kernels/random.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/vectors.hpp"
#include "tests/trainers/band_space.hpp"
#include "trainers/gradient_noise.hpp"
#include "trainers/optimizers/bands.hpp"

namespace elastiform {

TEST_CASE("cosine with warmup is the reference's", "[trainers][vectors]") {
  const auto v = vector("cosine_warmup");
  TrainOptions options;
  options.schedule = "cosine";
  options.steps = v["total"];
  options.rate = v["peak"];
  options.final_rate = double(v["min"]) / options.rate;
  options.warmup = double(v["warmup"]) / double(options.steps);
  REQUIRE(warmup_steps(options) == v["warmup"]);
  for (std::size_t i = 0; i < v["t"].size(); ++i) {
    CAPTURE(i);
    CHECK(learning_rate(options, v["t"][i]) == Approx(double(v["expected"][i])).epsilon(1e-12));
  }
}

TEST_CASE("wsd holds the rate, then falls in a straight line to its end", "[trainers]") {
  TrainOptions options;
  options.steps = 100, options.rate = 2, options.warmup = 0.1, options.cooldown = 0.2, options.final_rate = 0.1;
  CHECK(learning_rate(options, 0) == Approx(0.2));
  CHECK(learning_rate(options, 9) == Approx(2));
  CHECK(learning_rate(options, 79) == 2);
  CHECK(learning_rate(options, 80) == 2);
  CHECK(learning_rate(options, 90) == Approx(1.1));
  CHECK(learning_rate(options, 99) == Approx(0.29));
  options.schedule = "constant";
  CHECK(learning_rate(options, 99) == 2);
}

TEST_CASE("the rate grows with the sequences of a step as train.scale_rate says", "[trainers]") {
  TrainOptions options;
  options.steps = 100, options.rate = 0.5, options.warmup = 0, options.schedule = "constant";
  options.sequences = 16, options.accumulation = 4, options.base_sequences = 16;
  CHECK(learning_rate(options, 50) == 0.5);
  options.scale_rate = "linear";
  CHECK(learning_rate(options, 50) == 2);
  options.scale_rate = "sqrt";
  CHECK(learning_rate(options, 50) == 1);
  options.base_sequences = 64;
  CHECK(learning_rate(options, 50) == 0.5);
}

TEST_CASE("the noise scale of gradients with known noise is found", "[trainers]") {
  // G with |G|² = 4; a sequence's gradient adds noise of variance 3 in each of 20 dimensions: trace 60, scale 15.
  RandomStream random(1, Purpose::test);
  constexpr int kDimensions = 20, kSmall = 2, kParts = 4, kSteps = 4000;
  double signal = 0, trace = 0;
  for (int step = 0; step < kSteps; ++step) {
    std::array<double, kDimensions> sum{};
    double small = 0;
    for (int part = 0; part < kParts; ++part)
      for (int d = 0; d < kDimensions; ++d) {
        const double g = (d == 0 ? 2 : 0) + std::sqrt(3.0 / kSmall) * random.normal();
        small += g * g / kParts;
        sum[static_cast<std::size_t>(d)] += g / kParts;
      }
    double large = 0;
    for (const double g : sum) large += g * g;
    const GradientNoise one = gradient_noise(small, large, kSmall, kSmall * kParts);
    signal += one.signal / kSteps, trace += one.trace / kSteps;
  }
  // More than four standard deviations of the means over 4,000 steps, which are 0.07 and 0.22.
  CHECK(signal == Approx(4).margin(0.3));
  CHECK(trace == Approx(60).margin(1.5));
}

TEST_CASE("clipping scales as the reference does", "[trainers][vectors]") {
  const auto v = vector("clip_global_norm");
  const auto table = four_band_table();
  const TensorSpec& tensor = table->at("block.0.ffn.down");
  Weights gradient(table, DType::float64);
  for (std::size_t i = 0; i < 3; ++i) gradient.view(tensor).row<double>(0)[2 * i] = v["grad"][i];
  ReferenceBackend backend;
  BandScratch scratch(*table);
  const double norm =
      global_norm(backend, gradient, ActiveBands(std::vector<bool>(static_cast<std::size_t>(table->band_count()), true)), scratch);
  CHECK(norm == Approx(double(v["expected"]["norm"])).epsilon(1e-12));
  CHECK(clip_scale(norm, v["max_norm"]) == Approx(double(v["expected"]["scale"])).epsilon(1e-12));
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(clip_scale(norm, v["max_norm"]) * double(v["grad"][i]) == Approx(double(v["expected"]["grad"][i])).epsilon(1e-12));
  CHECK(clip_scale(0.5, 1.0) == 1);
  CHECK(clip_scale(100, 0) == 1);
}

}  // namespace elastiform
