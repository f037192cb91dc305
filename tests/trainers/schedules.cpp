#include "trainers/schedules/schedule.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/vectors.hpp"
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

TEST_CASE("clipping scales as the reference does", "[trainers][vectors]") {
  const auto v = vector("clip_global_norm");
  CHECK(clip_scale(v["expected"]["norm"], v["max_norm"]) == Approx(double(v["expected"]["scale"])).epsilon(1e-12));
  CHECK(clip_scale(0.5, 1.0) == 1);
  CHECK(clip_scale(100, 0) == 1);
}

}  // namespace elastiform
