#include "supernet/rotary.hpp"

#include <cstddef>
#include <vector>

#include "tests/support/catch.hpp"

namespace elastiform {

TEST_CASE("rotary frequencies are those of Llama 3, of linear scaling and of none", "[supernet][rotary]") {
  ModelConfig model;
  model.head_dim = 64;
  model.rope_theta = 500000;
  CHECK(rotary_divisors(model) == std::vector<double>(32, 1));
  CHECK(rotary_frequencies(model)[13] == Approx(0.004839421345719893).epsilon(1e-14));
  model.rope_scaling = {.kind = RopeStretch::linear, .factor = 4};
  CHECK(rotary_divisors(model) == std::vector<double>(32, 4));
  CHECK(rotary_frequencies(model)[13] == Approx(0.004839421345719893 / 4).epsilon(1e-14));
  // Plain frequency and divisor as transformers' formula has them (wave lengths against the original context), computed apart in float64.
  struct Row {
    std::size_t pair;
    double plain, divisor;
  };
  model.rope_scaling = {.kind = RopeStretch::llama3, .factor = 8};
  for (const Row& row : {Row{0, 1, 1}, Row{14, 0.0032114459947525913, 1}, Row{15, 0.0021311195369119653, 1.5534146285049255},
                         Row{16, 0.001414213562373095, 2.694529687894733}, Row{17, 0.0009384738703573801, 5.257326588708467},
                         Row{18, 0.000622772421914596, 8}, Row{31, 3.0138581521391708e-06, 8}}) {
    CAPTURE(row.pair);
    CHECK(rotary_divisors(model)[row.pair] == Approx(row.divisor).epsilon(1e-12));
    CHECK(rotary_frequencies(model)[row.pair] == Approx(row.plain / row.divisor).epsilon(1e-12));
  }
}

}  // namespace elastiform
