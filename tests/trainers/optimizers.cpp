// What each optimizer computes: reference vectors, and the facts of methods §3.
#include "trainers/optimizers/optimizer.hpp"

#include <cmath>

#include "kernels/errors.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/vectors.hpp"
#include "tests/trainers/band_space.hpp"

namespace elastiform {
namespace {

/// An optimizer over a few elements of one matrix, in float64.
struct Element {
  std::shared_ptr<const WeightTable> table;
  const TensorSpec& tensor;
  Weights weights, gradients;
  ReferenceBackend backend;
  TrainOptions options;
  std::unique_ptr<Optimizer> optimizer;
  std::int64_t updates = 0;

  Element(TrainOptions options_, std::shared_ptr<const WeightTable> table_)
      : table(std::move(table_)), tensor(table->at("block.0.ffn.down")), weights(table, DType::float64), gradients(table, DType::float64),
        options(std::move(options_)), optimizer(make_optimizer(options, table, backend)) {}

  double& weight(std::int64_t row, std::int64_t column) { return weights.view(tensor).row<double>(row)[column]; }
  double& gradient(std::int64_t row, std::int64_t column) { return gradients.view(tensor).row<double>(row)[column]; }
  /// Bands of the tensor for which active[i]; nothing else.
  void update(double rate, const std::vector<bool>& active) {
    std::vector<bool> bands(static_cast<std::size_t>(table->band_count()), false);
    for (std::size_t i = 0; i < active.size(); ++i) bands[static_cast<std::size_t>(tensor.first_band) + i] = active[i];
    optimizer->update(backend, weights, gradients, ActiveBands(bands), {.step = updates++, .rate = rate});
  }
};

TrainOptions options_of(const char* name, const nlohmann::json& hyper) {
  TrainOptions options;
  options.optimizer = name;
  options.band_warmup = 0;
  options.beta1 = hyper.value("beta1", options.beta1), options.beta2 = hyper.value("beta2", options.beta2);
  options.eps = hyper.value("eps", options.eps), options.decay = hyper.value("weight_decay", options.decay);
  return options;
}

/// A tensor of one band, rows x columns.
std::shared_ptr<const WeightTable> one_band_table(int rows, int columns) {
  ModelConfig model = preset_model("llama");
  model.head_dim = 2;
  return std::make_shared<const WeightTable>(
      SearchSpace(model, {columns}, {1}, {SearchSpace::Block{{1}, {.widths = {rows}, .ratios = {}}}}));
}

const std::vector<bool> kAll(4, true);

}  // namespace

TEST_CASE("vector lion: three steps, and what dense would do", "[trainers][vectors]") {
  const auto& v = vector("lion");
  Element e(options_of("lion", v["hyper"]), four_band_table());
  set_bands(e.weights, e.tensor, v["p0"]);
  for (std::size_t t = 0; t < 3; ++t) {
    set_bands(e.gradients, e.tensor, v["grads"][t]);
    e.update(v["hyper"]["lr"], kAll);
    for (std::size_t i = 0; i < 4; ++i) {
      CAPTURE(t, i);
      CHECK(e.weight(3, static_cast<std::int64_t>(2 * i)) == Approx(double(v["expected"][t]["p"][i])).epsilon(1e-12));
      CHECK(e.optimizer->moments().at("m")->view(e.tensor).row<double>(3)[2 * i] ==
            Approx(double(v["expected"][t]["m"][i])).epsilon(1e-12).margin(1e-300));
    }
  }
  // Five idle steps: under `dense` each would move the weight by exactly the rate, far above rounding; so it is refused, and lazy stays.
  TrainOptions options = options_of("lion", v["hyper"]);
  options.decay = 0;
  Element lazy(options, four_band_table());
  set_bands(lazy.weights, lazy.tensor, {1, 1, 1, 1});
  set_bands(lazy.gradients, lazy.tensor, {0.5, 0.5, 0.5, 0.5});
  lazy.update(v["hyper"]["lr"], kAll);
  for (int i = 0; i < 5; ++i) lazy.update(v["hyper"]["lr"], {false, true, true, true});
  CHECK(lazy.weight(0, 0) == Approx(0.999).epsilon(1e-15));
  CHECK(double(v["inactive_drift_dense"]["p"][4]) == Approx(0.994));
  options.policy = "dense";
  CHECK_THROWS_AS(Element(options, four_band_table()), InputError);
}

TEST_CASE("Lion does not know the size of gradients, and its weights stay within 1/decay", "[trainers]") {
  const double factor = GENERATE(0x1p-20, 0x1p20);
  TrainOptions options;
  options.optimizer = "lion", options.band_warmup = 0, options.decay = 2;
  Element small(options, four_band_table()), large(options, four_band_table());
  for (int t = 0; t < 400; ++t) {
    const double g = t < 20 ? std::sin(t) : 1;
    set_bands(small.gradients, small.tensor, {g, -g, 2 * g, 1});
    set_bands(large.gradients, large.tensor, {factor * g, -factor * g, factor * 2 * g, factor});
    small.update(0.05, kAll), large.update(0.05, kAll);
    for (std::int64_t i = 0; i < 8; ++i) REQUIRE(small.weight(0, i) == large.weight(0, i));
  }
  CHECK(small.weight(0, 6) == Approx(-0.5));
}

TEST_CASE("SGD's momentum adds gradients up, Nesterov looks a step ahead", "[trainers]") {
  const bool nesterov = GENERATE(false, true);
  TrainOptions options;
  options.optimizer = "sgd", options.nesterov = nesterov, options.band_warmup = 0, options.decay = 0.5, options.momentum = 0.8;
  Element e(options, four_band_table());
  set_bands(e.weights, e.tensor, {1, 1, 1, 1});
  double theta = 1, m = 0;
  for (const double g : {0.3, -0.2, 0.7}) {
    set_bands(e.gradients, e.tensor, {g, g, g, g});
    e.update(0.1, kAll);
    m = 0.8 * m + g;
    theta = theta * (1 - 0.1 * 0.5) - 0.1 * (nesterov ? g + 0.8 * m : m);
    CHECK(e.weight(2, 5) == Approx(theta).epsilon(1e-14));
  }
}

TEST_CASE("dense SGD goes on with its momentum; catch-up fades it without moving", "[trainers]") {
  for (const std::string policy : {"dense", "catch-up", "lazy-local"}) {
    CAPTURE(policy);
    TrainOptions options;
    options.optimizer = "sgd", options.policy = policy, options.band_warmup = 0, options.decay = 0, options.momentum = 0.5;
    Element e(options, four_band_table());
    set_bands(e.gradients, e.tensor, {1, 1, 1, 1});
    e.update(0.1, kAll);
    for (int i = 0; i < 3; ++i) e.update(0.1, {false, true, true, true});
    CHECK(e.weight(0, 0) == Approx(policy == "dense" ? -0.1 * (1 + 0.5 + 0.25 + 0.125) : -0.1));
    const double before = e.weight(0, 0);
    e.update(0.1, kAll);
    CHECK(before - e.weight(0, 0) == Approx(0.1 * (1 + (policy == "lazy-local" ? 0.5 : 0.0625))));
  }
}

TEST_CASE("vector lamb: the ratio is that of the active slice", "[trainers][vectors]") {
  const auto& v = vector("lamb");
  const auto run = [&](const std::vector<bool>& active, std::size_t count) {
    Element e(options_of("lamb", v["hyper"]), four_band_table());
    set_bands(e.weights, e.tensor, v["p0"]);
    set_bands(e.gradients, e.tensor, v["grad"]);
    e.update(v["hyper"]["lr"], active);
    // θ' = θ - rate·r·u, so the ratio follows from any weight that moved.
    const double theta = v["p0"][0], g = v["grad"][0], decay = v["hyper"]["weight_decay"];
    const double u = g / (std::abs(g) + double(v["hyper"]["eps"])) + decay * theta;
    for (std::size_t i = count; i < 4; ++i) CHECK(e.weight(0, static_cast<std::int64_t>(2 * i)) == double(v["p0"][i]));
    if (count == 4)
      for (std::size_t i = 0; i < 4; ++i)
        CHECK(e.weight(7, static_cast<std::int64_t>(2 * i)) == Approx(double(v["expected"]["p"][i])).epsilon(1e-12));
    return (theta - e.weight(0, 0)) / (double(v["hyper"]["lr"]) * u);
  };
  CHECK(run(kAll, 4) == Approx(double(v["expected"]["trust_ratio"])).epsilon(1e-10));
  CHECK(run({true, true, false, false}, 2) == Approx(double(v["expected"]["trust_ratio_active_prefix2"])).epsilon(1e-10));
}

TEST_CASE("LAMB: a weight of zeros moves by the plain rate, and no ratio is above 10", "[trainers]") {
  TrainOptions options;
  options.optimizer = "lamb", options.band_warmup = 0, options.decay = 0, options.eps = 0;
  Element e(options, four_band_table());
  set_bands(e.gradients, e.tensor, {1, 1, 1, 1});
  e.update(0.01, kAll);
  CHECK(e.weight(0, 0) == Approx(-0.01));
  Element large(options, four_band_table());
  set_bands(large.weights, large.tensor, {1000, 1000, 1000, 1000});
  set_bands(large.gradients, large.tensor, {1, 1, 1, 1});
  large.update(0.01, kAll);
  CHECK(large.weight(0, 0) == Approx(1000 - 0.1));
}

TEST_CASE("LARS multiplies the rate with a ratio of the active slice", "[trainers]") {
  TrainOptions options;
  options.optimizer = "lars", options.band_warmup = 0, options.decay = 0.1, options.trust = 0.02, options.momentum = 0.9;
  Element e(options, four_band_table());
  set_bands(e.weights, e.tensor, {3, 4, 100, 100});
  set_bands(e.gradients, e.tensor, {0.6, -0.8, 50, 50});
  e.update(0.5, {true, true, false, false});
  // 16 elements of each band: the norms' factor 4 cancels.
  const double ratio = 0.02 * 5 / (1 + 0.1 * 5);
  CHECK(e.weight(0, 0) == Approx(3 - 0.5 * ratio * (0.6 + 0.1 * 3)).epsilon(1e-12));
  CHECK(e.weight(0, 2) == Approx(4 - 0.5 * ratio * (-0.8 + 0.1 * 4)).epsilon(1e-12));
  CHECK(e.weight(0, 4) == 100);
}

TEST_CASE("catch-up: moments of a band that was idle have faded, and their corrections with them", "[trainers]") {
  TrainOptions options;
  options.optimizer = GENERATE("lion", "lars", "lamb");
  options.policy = "catch-up", options.band_warmup = 0, options.decay = 0, options.eps = 0;
  options.beta1 = 0.5, options.beta2 = 0.25, options.momentum = 0.75, options.trust = 0.02;
  CAPTURE(options.optimizer);
  Element e(options, four_band_table());
  set_bands(e.weights, e.tensor, {1, 1, 1, 1});
  set_bands(e.gradients, e.tensor, {1, 1, 1, 1});
  const auto norm = [&] {
    double sum = 0;
    for (std::int64_t row = 0; row < e.tensor.rows; ++row)
      for (std::int64_t column = 0; column < e.tensor.columns; ++column) sum += e.weight(row, column) * e.weight(row, column);
    return std::sqrt(sum);
  };
  const double elements =
      std::sqrt(static_cast<double>(e.tensor.rows * e.tensor.columns));  // the norm of the gradient, and of a direction of ones
  const double ratio1 = options.trust * norm() / elements;
  e.update(0.01, kAll);
  for (int i = 0; i < 3; ++i) {
    // LAMB's and LARS' directions take the gradient's place.
    set_bands(e.gradients, e.tensor, {1, 1, 1, 1});
    e.update(0.01, {false, true, true, true});
  }
  const double before = e.weight(0, 0), size = norm();
  set_bands(e.gradients, e.tensor, {1, 1, 1, 1});
  e.update(0.01, kAll);
  const double m = e.optimizer->moments().at("m")->view(e.tensor).row<double>(0)[0], moved = before - e.weight(0, 0);
  if (options.optimizer == "lion") {
    CHECK(m == Approx(std::pow(0.25, 4) * 0.75 + 0.75));
    CHECK(moved == Approx(0.01));
  } else if (options.optimizer == "lars") {
    const double ratio2 = options.trust * size / elements;
    CHECK(m == Approx(std::pow(0.75, 4) * ratio1 + ratio2));
    CHECK(moved == Approx(0.01 * m));
  } else {
    CHECK(m == Approx(std::pow(0.5, 4) * 0.5 + 0.5));
    CHECK(e.optimizer->moments().at("v")->view(e.tensor).row<double>(0)[0] == Approx(std::pow(0.25, 4) * 0.75 + 0.75));
    CHECK(moved == Approx(0.01 * size / elements));  // the corrected direction is 1, however long the band was idle
  }
}

TEST_CASE("vector adafactor: two steps", "[trainers][vectors]") {
  const auto& v = vector("adafactor");
  TrainOptions options;
  options.optimizer = "adafactor", options.band_warmup = 0, options.decay = 0;
  Element e(options, one_band_table(2, 3));
  REQUIRE(e.tensor.bands() == 1);
  for (std::int64_t i = 0; i < 2; ++i)
    for (std::int64_t j = 0; j < 3; ++j) e.weight(i, j) = v["W0"][static_cast<std::size_t>(i)][static_cast<std::size_t>(j)];
  const auto numbers = [&](const char* name, std::int64_t count) {  // the tensor's are somewhere among those of all bands
    const StateArray& array = *e.optimizer->arrays().at(name);
    std::int64_t before = 0;
    for_each_band(*e.table, [&](const BandRectangle& band) {
      if (band.band < e.tensor.first_band) before += std::string(name) == "rows" ? band.rows : band.columns;
    });
    const auto* first = reinterpret_cast<const double*>(array.data()) + before;
    return std::vector<double>(first, first + count);
  };
  for (std::size_t t = 0; t < 2; ++t) {
    for (std::int64_t i = 0; i < 2; ++i)
      for (std::int64_t j = 0; j < 3; ++j) e.gradient(i, j) = v["grads"][t][static_cast<std::size_t>(i)][static_cast<std::size_t>(j)];
    e.update(v["lr"], {true});
    const auto& expected = v["expected"][t];
    const std::vector<double> rows = numbers("rows", 2), columns = numbers("columns", 3);
    for (std::size_t i = 0; i < 2; ++i) CHECK(rows[i] == Approx(double(expected["row"][i])).epsilon(1e-12));
    for (std::size_t j = 0; j < 3; ++j) CHECK(columns[j] == Approx(double(expected["col"][j])).epsilon(1e-12));
    for (std::int64_t i = 0; i < 2; ++i)
      for (std::int64_t j = 0; j < 3; ++j) {
        CAPTURE(t, i, j);
        CHECK(e.weight(i, j) == Approx(double(expected["W"][static_cast<std::size_t>(i)][static_cast<std::size_t>(j)])).epsilon(1e-12));
      }
  }
}

TEST_CASE("Adafactor: where g² has rank one v is exact, and a step is as large as the weight says", "[trainers]") {
  TrainOptions options;
  options.optimizer = "adafactor", options.band_warmup = 0, options.decay = 0;
  const auto [rows, columns] = GENERATE(table<int, int>({{6, 8}, {1, 8}}));  // a row alone is not factored
  Element e(options, one_band_table(rows, columns));
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) {
      e.weight(i, j) = 0.5;
      e.gradient(i, j) = (1.0 + static_cast<double>(i)) * (j % 2 ? 0.3 : -7.0) * std::exp(static_cast<double>(j));
    }
  e.update(0.01, {true});
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) CHECK(0.5 - e.weight(i, j) == Approx((j % 2 ? 1 : -1) * 0.01 * 0.5));
}

TEST_CASE("Adafactor's band does not know what others of its tensor do", "[trainers][slicing]") {
  TrainOptions options;
  options.optimizer = "adafactor", options.band_warmup = 0;
  Element alone(options, four_band_table()), among(options, four_band_table());
  for (Element* e : {&alone, &among}) set_bands(e->weights, e->tensor, {1, 2, 3, 4});
  for (int t = 0; t < 5; ++t) {
    const double g = 1 + t;
    set_bands(alone.gradients, alone.tensor, {g, 0, 0, 0});
    set_bands(among.gradients, among.tensor, {g, 100 * g, -g, 5});
    alone.update(0.01, {true, false, false, false});
    among.update(0.01, {true, t % 2 == 0, true, t < 2});
    CHECK(alone.weight(0, 0) == among.weight(0, 0));
  }
}

TEST_CASE("what an optimizer cannot do under a policy is refused with the reason", "[trainers]") {
  using Case = std::pair<const char*, std::vector<std::string>>;
  for (const auto& [name, refused] :
       {Case{"sgd", {"lazy-global"}}, Case{"lion", {"dense", "lazy-global"}}, Case{"adamw", {}}, Case{"lars", {"dense", "lazy-global"}},
        Case{"lamb", {"dense"}}, Case{"adafactor", {"dense", "catch-up"}}, Case{"adamw8bit", {}}})
    for (const std::string policy : {"dense", "lazy-global", "lazy-local", "catch-up"}) {
      CAPTURE(name, policy);
      TrainOptions options;
      options.optimizer = name, options.policy = policy;
      if (std::find(refused.begin(), refused.end(), policy) == refused.end()) CHECK_NOTHROW(check_policy(options));
      else CHECK_THROWS_AS(check_policy(options), InputError);
    }
}

}  // namespace elastiform
