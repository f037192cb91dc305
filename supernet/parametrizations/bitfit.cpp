#include "kernels/errors.hpp"
#include "supernet/parametrizations/methods.hpp"

namespace elastiform {
namespace {

/// Biases alone learn, those of norms and of residual rules included (BitFit, arXiv 2106.10199). Zero biases for a model without them would be another model,
/// which its export formats may not know, so such a model is refused.
class Bitfit final : public Parametrization {
 public:
  bool trains(Role role) const override { return role == Role::bias || role == Role::shift; }
  void check(const ModelConfig& model) const override {
    if (!model.biases)
      throw InputError({"tune: method bitfit", "a model with biases", "one without (preset " + model.preset + ")", "lora tunes it"});
  }
};

}  // namespace

const Parametrization& bitfit_parametrization() {
  static const Bitfit kBitfit;
  return kBitfit;
}

}  // namespace elastiform
