#include "supernet/parametrizations/methods.hpp"

namespace elastiform {
namespace {

/// SSF (arXiv 2210.08823): the output z of a target becomes gamma ∘ z + beta; gamma and beta [1, out] learn. That is W ∘ gamma and
/// b ∘ gamma + beta. Where the model has no biases there is no beta, so that what it merges into is still such a model. The gradient of
/// gamma needs z, which is computed again: as many FLOPs as the gradient of W, but of its bytes none.
class Ssf final : public Parametrization {
 public:
  bool trains(Role) const override { return false; }
  void check(const ModelConfig& model) const override { check_targets(model); }
  bool has_targets() const override { return true; }
  AddedTensors added(const ModelConfig& model) const override {
    AddedTensors tensors{{.suffix = ".ssf_gamma", .role = Role::gain, .columns = Side::out}};
    if (model.biases) tensors.push_back({.suffix = ".ssf_beta", .role = Role::bias, .columns = Side::out});
    return tensors;
  }
  int backward_products() const override { return 2; }
  bool forms_weight() const override { return true; }
  bool forms_bias(const ModelConfig& model) const override { return model.biases; }
  void effective(Backend& backend, const ModelConfig& model, const WeightSlice& w, const GradientSlice& result) const override {
    const ConstView gamma = w.added[0];
    backend.panels(w.weight.rows, [&](Rows r) { backend.hadamard({.y = result.weight[r], .a = w.weight[r], .b = gamma}); });
    if (!model.biases) return;
    backend.panels(1, [&](Rows) { backend.hadamard({.y = result.bias, .a = w.bias, .b = gamma}); });
    backend.add(result.bias, w.added[1]);
  }
  bool reads_input() const override { return true; }
  std::array<std::int64_t, 2> scratch_columns(const ModelConfig&, std::int64_t out) const override { return {out, 0}; }
  void added_gradients(Backend& backend, const ModelConfig& model, const LinearBackward& op) const override {
    const View z = op.scratch[0].slice(op.dy.rows, op.dy.columns);
    backend.panels(op.x.rows, [&](Rows r) {
      backend.matmul({.y = z[r], .x = op.x[r], .w = op.w.stored_weight, .bias = op.w.stored_bias, .add = {}});
      backend.hadamard({.y = z[r], .a = op.dy[r], .b = z[r]});
    });
    backend.matmul_dw({.dw = {}, .dbias = op.dw.added[0], .x = {}, .dy = z, .scale = op.scale, .accumulate = op.accumulate});
    if (!model.biases) return;
    backend.matmul_dw({.dw = {}, .dbias = op.dw.added[1], .x = {}, .dy = op.dy, .scale = op.scale, .accumulate = op.accumulate});
  }
};

}  // namespace

const Parametrization& ssf_parametrization() {
  static const Ssf kSsf;
  return kSsf;
}

}  // namespace elastiform
