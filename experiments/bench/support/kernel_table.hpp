#pragma once

#include <string>
#include <vector>

#include "experiments/bench/support/case_line.hpp"

namespace elastiform {

/// Case lines of the operations of a training step of 2,048 tokens (embed 384, FFN 1536; llama's at 256 and 688) and of GPT-2 124M's.
/// Leading dimensions are those that weights and the arena give. All in float32; in_bf16 makes the others.
std::vector<std::string> kernel_table();

/// Whether precision=bf16 changes what an operation computes.
bool has_bf16_products(const std::string& operation);

/// The same product as a network computes it in bf16: what stands between products is stored so.
CaseLine in_bf16(CaseLine line);

}  // namespace elastiform
