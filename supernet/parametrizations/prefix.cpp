#include <string>

#include "kernels/errors.hpp"
#include "supernet/parametrizations/methods.hpp"

namespace elastiform {
namespace {

constexpr int kMaxKeys = 1024;

/// Prefix tuning (arXiv 2101.00190, without its network that makes the vectors): keys and values of each attention in front of those of the
/// tokens, which alone learn. Keys are not rotated; columns follow the KV groups. While training and scoring they take the places of rows that
/// blocks process for nothing (supernet/layers/attention.cpp), so costs count these; generation begins with them in its cache.
class Prefix final : public Parametrization {
 public:
  bool trains(Role) const override { return false; }
  void check(const ModelConfig& model) const override {
    const int keys = model.tuning.keys;
    if (keys < 1 || keys > kMaxKeys) throw InputError({"tune: keys", "1 to " + std::to_string(kMaxKeys), std::to_string(keys), ""});
  }
  bool merges() const override { return false; }
  bool has_keys() const override { return true; }
};

}  // namespace

const Parametrization& prefix_parametrization() {
  static const Prefix kPrefix;
  return kPrefix;
}

}  // namespace elastiform
