#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "experiments/bench/support/case_line.hpp"
#include "kernels/arena.hpp"
#include "kernels/backend.hpp"

namespace elastiform {

/// Memory of a backend for the operands of a case line, filled with random numbers in (-0.5, 0.5), and its scalars. Remembers what was asked for, so
/// that nothing of a line is ignored. Throws InputError (where: "case") for what is missing or no number.
struct CaseOperands {
  CaseOperands(CaseLine line, MemorySpace& memory);
  CaseOperands(const CaseOperands&) = delete;
  CaseOperands& operator=(const CaseOperands&) = delete;

  View get(const std::string& name);
  View optional(const std::string& name);  // empty where the line has none
  View ones(const std::string& name);      // filled with 1: what must be positive
  View codes(const std::string& name);     // bytes, all 0
  double number(const std::string& name, double otherwise);
  std::int64_t integer(const std::string& name, std::int64_t otherwise);
  /// Whether the scalar is `yes`; `no` or absent is false.
  bool either(const std::string& name, const char* yes, const char* no);
  AttentionShape attention();
  std::span<const std::int32_t> make_tokens(std::int64_t count, std::int64_t vocabulary);
  /// Throws InputError naming an operand or scalar of the line that nothing asked for.
  void all_used() const;

 private:
  const std::string* scalar(const std::string& name);
  /// Every element of the line's operand is next().
  View filled(const std::string& name, const std::function<float()>& next);

  CaseLine line_;
  MemorySpace& memory_;
  Arena arena_;
  std::vector<std::int32_t> tokens_;
  std::set<std::string> used_;
};

}  // namespace elastiform
