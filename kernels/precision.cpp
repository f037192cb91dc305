#include "kernels/precision.hpp"

#include <cstdlib>

#include "kernels/cpu/bf16.hpp"
#include "kernels/errors.hpp"

namespace elastiform {

std::string_view name_of(Precision precision) { return precision == Precision::bf16 ? "bf16" : "f32"; }

Precision parse_precision(std::string_view text, const std::string& where) {
  for (const Precision precision : {Precision::f32, Precision::bf16})
    if (text == name_of(precision)) return precision;
  throw InputError({.where = where, .expected = "one of f32, bf16", .found = "'" + std::string(text) + "'", .remedy = ""});
}

void require_precision(Precision precision, const std::string& where) {
  if (precision != Precision::bf16 || cpu::has_bf16()) return;
  const char* isa = std::getenv("ELASTIFORM_ISA");
  const std::string under = isa && *isa ? " under ELASTIFORM_ISA=" + std::string(isa) : "";
  throw InputError(
      {.where = where, .expected = "", .found = "this CPU has no bf16 dot products (AVX512_BF16)" + under, .remedy = "use f32"});
}

}  // namespace elastiform
