#include <string>

#include "kernels/errors.hpp"
#include "supernet/parametrizations/methods.hpp"

namespace elastiform {
namespace {

constexpr int kMaxWidth = 4096;

/// Adapters (arXiv 1902.00751): a bottleneck after each branch, which alone learns; its second matrix begins at 0. They are layers of their
/// own (supernet/layers/branch_end.hpp), so nothing merges: the tuned network keeps them, with their parameters and multiply-adds.
class Adapter final : public Parametrization {
 public:
  bool trains(Role) const override { return false; }
  void check(const ModelConfig& model) const override {
    const int width = model.tuning.width;
    if (width < 1 || width > kMaxWidth) throw InputError({"tune: width", "1 to " + std::to_string(kMaxWidth), std::to_string(width), ""});
  }
  bool merges() const override { return false; }
  bool has_width() const override { return true; }
  int adapter_width(const ModelConfig& model) const override { return model.tuning.width; }
};

}  // namespace

const Parametrization& adapter_parametrization() {
  static const Adapter kAdapter;
  return kAdapter;
}

}  // namespace elastiform
