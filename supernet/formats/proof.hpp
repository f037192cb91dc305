#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "supernet/formats/format.hpp"

namespace elastiform {

/// So many tokens tell a wrong network from a right one: what they could hide, weights and what describes the model, is compared number by number.
constexpr std::int64_t kProofTokens = 32;
constexpr std::int64_t kProofImages = 16;  // likewise

/// Reads `path` back, or runs it, and compares: weights element by element, what the model and its tokenizer are, and logits with `expected`.
/// Returns the largest |Δlogit| / largest |logit|; std::runtime_error when anything is beyond what the format may change.
double prove(const Format& format, const DenseModel& written, const ModelCard& card, const std::vector<float>& expected,
             const Sample& sample, const std::string& path, int threads);

}  // namespace elastiform
