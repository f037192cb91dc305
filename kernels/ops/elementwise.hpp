#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>

#include "kernels/ops/kinds.hpp"
#include "kernels/view.hpp"

namespace elastiform {

/// y[N,F] = silu(gate) ∘ up (arXiv 2002.05202). Used inside panels.
struct SwigluForward {
  static constexpr const char* kName = "swiglu_forward";
  static constexpr std::array<std::string_view, 3> kOperands{"y", "gate", "up"};
  View y;
  ConstView gate, up;
  void check() const;
  auto fields() const { return std::tie(y, gate, up); }
};

/// dgate and dup of SwigluForward for upstream dy. dgate or dup may be dy itself, and dgate may be gate. Used inside panels.
struct SwigluBackward {
  static constexpr const char* kName = "swiglu_backward";
  static constexpr std::array<std::string_view, 5> kOperands{"dgate", "dup", "dy", "gate", "up"};
  View dgate, dup;
  ConstView dy, gate, up;
  void check() const;
  auto fields() const { return std::tie(dgate, dup, dy, gate, up); }
};

/// y[N,F] = gelu(x), tanh approximation or erf (arXiv 1606.08415). Used inside panels.
struct GeluForward {
  static constexpr const char* kName = "gelu_forward";
  static constexpr std::array<std::string_view, 2> kOperands{"y", "x"};
  View y;
  ConstView x;
  Gelu kind = Gelu::tanh;
  void check() const;
  auto fields() const { return std::tie(y, x); }
};

/// dx of GeluForward for upstream dy; dx may be dy itself. Used inside panels.
struct GeluBackward {
  static constexpr const char* kName = "gelu_backward";
  static constexpr std::array<std::string_view, 3> kOperands{"dx", "dy", "x"};
  View dx;
  ConstView dy, x;
  Gelu kind = Gelu::tanh;
  void check() const;
  auto fields() const { return std::tie(dx, dy, x); }
};

/// y[N,F] = a[N,F] ∘ b, b [N,F] or one row [1,F] for all. y may be a or b. Used inside panels.
struct Hadamard {
  static constexpr const char* kName = "hadamard";
  static constexpr std::array<std::string_view, 1> kOperands{"a"};
  View y;
  ConstView a, b;
  void check() const;
  auto fields() const { return std::tie(y, a, b); }
};

/// Rotary positions in place (arXiv 2104.09864), half-rotation as Hugging Face pairs them: in each head (x[i], x[i+D/2]) is turned by the
/// angle whose cosine and sine stand in row `position`, column i of cosine and sine [positions, D/2]. x is [N, heads·D]. The position of
/// local row r is (first_row + r) % period + offset. inverse turns back: the backward. Used inside panels (first_row = the panel's).
struct Rope {
  static constexpr const char* kName = "rope";
  static constexpr std::array<std::string_view, 1> kOperands{"x"};
  View x;
  ConstView cosine, sine;
  std::int64_t first_row = 0;
  std::int64_t period = 1;
  std::int64_t offset = 0;
  bool inverse = false;
  void check() const;
  auto fields() const { return std::tie(x, cosine, sine); }
};

/// y[N,C] = table[token, 0:C] + positions[row % period + offset, 0:C] (positions empty: none). tokens.size() = N. Called outside panels.
struct EmbeddingForward {
  static constexpr const char* kName = "embedding_forward";
  View y;
  ConstView table, positions;
  std::span<const std::int32_t> tokens;
  std::int64_t period = 1;
  std::int64_t offset = 0;
  void check() const;
  auto fields() const { return std::tie(y, table, positions); }
};

/// y[rows[n], 0:C] = x[n, 0:C]; no row twice. What a lookup of these rows (EmbeddingForward) took goes back to its places. rows.size() = N.
/// Called outside panels.
struct ScatterRows {
  static constexpr const char* kName = "scatter_rows";
  View y;
  ConstView x;
  std::span<const std::int32_t> rows;
  void check() const;
  auto fields() const { return std::tie(y, x); }
};

/// dtable[token] += dy rows, dpositions likewise, in the order of the tokens whatever the number of threads. Called outside panels.
struct EmbeddingBackward {
  static constexpr const char* kName = "embedding_backward";
  View dtable, dpositions;
  ConstView dy;
  std::span<const std::int32_t> tokens;
  std::int64_t period = 1;
  void check() const;
  auto fields() const { return std::tie(dtable, dpositions, dy); }
};

}  // namespace elastiform
