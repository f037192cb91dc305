#include <string>

#include "kernels/errors.hpp"
#include "supernet/parametrizations/methods.hpp"

namespace elastiform {
namespace {

constexpr int kMaxTokens = 1024;

/// Prompt tuning (arXiv 2104.08691; of images 2203.12119, shallow): vectors in front of each sequence's embedded tokens, which alone learn.
/// Blocks process them as tokens (supernet/layers/prompt.hpp), so nothing merges, and every cost counts them.
class PromptTokens final : public Parametrization {
 public:
  bool trains(Role) const override { return false; }
  void check(const ModelConfig& model) const override {
    const int tokens = model.tuning.tokens;
    if (tokens < 1 || tokens > kMaxTokens)
      throw InputError({"tune: tokens", "1 to " + std::to_string(kMaxTokens), std::to_string(tokens), ""});
  }
  bool merges() const override { return false; }
  bool has_tokens() const override { return true; }
};

}  // namespace

const Parametrization& prompt_parametrization() {
  static const PromptTokens kPrompt;
  return kPrompt;
}

}  // namespace elastiform
