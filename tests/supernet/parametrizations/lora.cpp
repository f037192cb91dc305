#include <memory>
#include <string>

#include "kernels/reference/reference_backend.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/cpu.hpp"
#include "tests/support/near.hpp"
#include "tests/support/tuned_spaces.hpp"
#include "tests/support/vectors.hpp"

namespace elastiform {
namespace {

/// [in, out] of an entry's [out, in].
Matrix turned(const nlohmann::json& values, DType dtype) {
  const Matrix from = matrix_of(values, dtype);
  Matrix to(from.columns(), from.rows(), from.rows(), dtype, 0, kInputMark);
  for (std::int64_t i = 0; i < from.rows(); ++i)
    for (std::int64_t j = 0; j < from.columns(); ++j) to.set(j, i, from.at(i, j));
  return to;
}

Matrix empty(std::int64_t rows, std::int64_t columns, DType dtype) { return canary(rows, columns, columns + 3, dtype); }

/// The entry's map on a backend: A and B of r_max, of which a slice takes the first columns and rows.
struct VectorMap {
  const nlohmann::json& v = vector("lora");
  Backend& backend;
  DType dtype = backend.dtype();
  Matrix w = turned(v["W"], dtype), a = turned(v["A"], dtype), b = turned(v["B"], dtype), x = matrix_of(v["x"], dtype);
  Tolerance allowed = vector_tolerance(v, dtype);

  /// Scale alpha / divisor, r columns of A.
  ModelConfig model(int divisor) const {
    ModelConfig result;
    result.tuning = lora(result, divisor, v["alpha"].get<double>());
    return result;
  }
  WeightSlice slice(std::int64_t r) const {
    return {w.view(), {}, {std::as_const(a).view().slice(a.rows(), r), std::as_const(b).view().slice(r, b.columns())}};
  }
};

void check_forward(Backend& backend, const char* name, std::int64_t r, int divisor) {
  CAPTURE(backend.name(), name);
  const VectorMap map{.backend = backend};
  const nlohmann::json& expected = map.v["expected"][name];
  const ModelConfig model = map.model(divisor);
  Arena arena(1 << 16);
  const WeightSlice formed = Linears(model).effective(backend, LinearMap::query, map.slice(r), arena);
  Matrix merged = empty(2, 3, map.dtype), y = empty(2, 3, map.dtype);
  backend.copy(merged.view(), formed.weight);
  backend.panels(
      2, [&](Rows rows) { backend.matmul({.y = y.view()[rows], .x = map.x.view()[rows], .w = formed.weight, .bias = {}, .add = {}}); });
  CHECK_THAT(merged, near(turned(expected["merged"], map.dtype), map.allowed));
  CHECK_THAT(y, near(matrix_of(expected["y"], map.dtype), map.allowed));
  CHECK(y.canary_intact());
}

void check_gradients(Backend& backend) {
  CAPTURE(backend.name());
  const VectorMap map{.backend = backend};
  const ModelConfig model = map.model(2);
  const WeightSlice w = map.slice(2);
  const Matrix dy = matrix_of(map.v["dy"], map.dtype);
  Matrix da = empty(2, 2, map.dtype), db = empty(2, 3, map.dtype), u = empty(2, 2, map.dtype), du = empty(2, 2, map.dtype);
  const GradientSlice dw{{}, {}, {da.view(), db.view()}};
  Linears(model).gradients(backend, LinearMap::query,
                           {.w = w, .dw = dw, .x = map.x.view(), .dy = dy.view(), .accumulate = false, .scratch = {u.view(), du.view()}});
  CHECK_THAT(da, near(turned(map.v["expected"]["dA"], map.dtype), map.allowed));
  CHECK_THAT(db, near(turned(map.v["expected"]["dB"], map.dtype), map.allowed));
}

TEST_CASE("LoRA forms the vector's map, its output and its gradients, with both conventions of the scale", "[supernet][lora][vectors]") {
  ReferenceBackend reference;
  Cpu cpu(2);
  for (Backend* backend : {static_cast<Backend*>(&reference), static_cast<Backend*>(&cpu.backend)}) {
    check_forward(*backend, "r1_alpha_over_rmax", 1, 2);
    check_forward(*backend, "r1_alpha_over_r", 1, 1);
    check_forward(*backend, "r2_alpha_over_rmax", 2, 2);
    check_forward(*backend, "r2_alpha_over_r", 2, 2);
    check_gradients(*backend);
  }
}

TEST_CASE("a map that is no target stays in place", "[supernet][lora]") {
  ModelConfig model;
  model.tuning = lora(model, 2, 3, {"value"});
  const Linears linears(model);
  ReferenceBackend backend;
  const Matrix w = normal(3, 4, 4, DType::float64, 1);
  Arena arena(1 << 10);
  CHECK(linears.effective(backend, LinearMap::query, {w.view(), {}}, arena).weight.data == w.view().data);
  CHECK(arena.used() == 0);
  CHECK_FALSE(linears.reads_input(LinearMap::query));
  CHECK(linears.reads_input(LinearMap::value));
}

}  // namespace
}  // namespace elastiform
