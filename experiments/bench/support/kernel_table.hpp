#pragma once

#include <string>
#include <vector>

namespace elastiform {

/// Case lines of the operations of a training step of 2,048 tokens (embed 384, FFN 1536; llama's at 256 and 688) and of GPT-2 124M's.
/// Leading dimensions are those that weights and the arena give. Without lines in bf16: only products have them, by appending the word.
std::vector<std::string> kernel_table();

/// Whether precision=bf16 changes what an operation computes.
bool has_bf16_products(const std::string& operation);

}  // namespace elastiform
