#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <tuple>

#include "kernels/view.hpp"

namespace elastiform {

/// What both attention operations share. Rows of q, out are [batch · query_tokens], of k, v [batch · key_tokens], row = b · tokens + t.
/// q and out have heads · head_dim columns laid out [KV group][query head of the group][head_dim], k and v groups · head_dim columns
/// [KV group][head_dim]: query head h reads group h / (heads / groups). Causal: query t sees keys 0 … t + key_tokens - query_tokens; else all
/// keys of its sequence.
struct AttentionShape {
  std::int64_t batch = 0, query_tokens = 0, key_tokens = 0;
  std::int64_t heads = 0, groups = 0, head_dim = 0;
  double scale = 0;  // 1/sqrt(head_dim) as a rule
  bool causal = true;
};

/// out = softmax(scale · q kᵀ) v per head (flash attention, arXiv 2205.14135: never T×T memory).
/// lse[heads, batch · query_tokens]: log-sum-exp of the scaled scores, for backward; may be empty. Called outside panels.
struct AttentionForward {
  static constexpr const char* kName = "attention_forward";
  static constexpr std::array<std::string_view, 4> kOperands{"out", "q", "k", "v"};
  View out, lse;
  ConstView q, k, v;
  AttentionShape shape;
  void check() const;
  auto fields() const { return std::tie(out, lse, q, k, v); }
};

/// dq, dk, dv (written, not added) for upstream dout; query_tokens == key_tokens. Called outside panels.
struct AttentionBackward {
  static constexpr const char* kName = "attention_backward";
  static constexpr std::array<std::string_view, 5> kOperands{"dout", "out", "q", "k", "v"};
  View dq, dk, dv;
  ConstView dout, out, lse, q, k, v;
  AttentionShape shape;
  void check() const;
  auto fields() const { return std::tie(dq, dk, dv, dout, out, lse, q, k, v); }
};

}  // namespace elastiform
