#include "supernet/parametrizations/methods.hpp"

namespace elastiform {
namespace {

/// Every weight learns, nothing is added: how a network is trained from scratch.
class Full final : public Parametrization {
 public:
  bool trains(Role) const override { return true; }
  void check(const ModelConfig&) const override {}
};

}  // namespace

const Parametrization& full_parametrization() {
  static const Full kFull;
  return kFull;
}

}  // namespace elastiform
