#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace elastiform {

/// What products multiply. bf16: matrix products and those of attention multiply bf16 and sum in float32, and what stands between products
/// is stored in bfloat16 (Backend::operand_dtype); weights, gradients, statistics, losses and all other arithmetic are float32.
/// arXiv 1905.12322
enum class Precision : std::uint8_t { f32, bf16 };

std::string_view name_of(Precision precision);
/// Throws InputError for other words than "f32" and "bf16"; `where` is what names the precision.
Precision parse_precision(std::string_view text, const std::string& where);

/// Throws InputError if this CPU cannot compute in it; `where` is what asks for the precision.
void require_precision(Precision precision, const std::string& where);

}  // namespace elastiform
