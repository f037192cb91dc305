#pragma once

#include <array>
#include <string_view>
#include <tuple>

#include "kernels/view.hpp"

namespace elastiform {

/// y[N,O] = scale · (x[N,I] · w[I,O] + bias[1,O]) + add[N,O]. An empty bias or add is none; add may be y itself.
/// transposed: w is [O,I] (a tied embedding used as head). Used inside panels, during which w does not change.
struct Matmul {
  static constexpr const char* kName = "matmul";
  static constexpr std::array<std::string_view, 2> kOperands{"y", "x"};
  View y;
  ConstView x, w, bias, add;
  double scale = 1;
  bool transposed = false;
  void check() const;
  auto fields() const { return std::tie(y, x, w, bias, add); }
};

/// dx[N,I] = scale · dy[N,O] · wᵀ + add[N,I]; add may be dx itself. Used inside panels, during which w does not change.
struct MatmulDx {
  static constexpr const char* kName = "matmul_dx";
  static constexpr std::array<std::string_view, 2> kOperands{"dx", "dy"};
  View dx;
  ConstView dy, w, add;
  double scale = 1;
  bool transposed = false;
  void check() const;
  auto fields() const { return std::tie(dx, dy, w, add); }
};

/// dw[I,O] += scale · xᵀ · dy and dbias[1,O] += scale · Σ_rows dy (an empty dbias is none); not accumulate: = instead of +=. All N tokens
/// are reduced; parallel over tiles of dw of a fixed size, so it is called outside panels. transposed: dw is [O,I] += scale · dyᵀ · x.
/// An empty dw is a weight that does not learn: dbias alone is formed, without a product, and x is not read.
struct MatmulDw {
  static constexpr const char* kName = "matmul_dw";
  static constexpr std::array<std::string_view, 2> kOperands{"x", "dy"};
  View dw, dbias;
  ConstView x, dy;
  double scale = 1;
  bool transposed = false, accumulate = true;
  void check() const;
  auto fields() const { return std::tie(dw, dbias, x, dy); }
};

}  // namespace elastiform
