#include <algorithm>
#include <functional>
#include <string>

#include "kernels/errors.hpp"
#include "supernet/parametrizations/methods.hpp"

namespace elastiform {
namespace {

constexpr int kMaxRank = 4096;

double scale_of(const Tuning& tuning) { return tuning.alpha / tuning.rank; }

/// LoRA (arXiv 2106.09685): a target is W + s·A·B with s = alpha/rank; A [in, rank] and B [rank, out] learn, W is frozen. A's rows follow
/// W's and B's columns W's, so a slice of the sum is the sum of slices, and merging before slicing changes no bit.
/// Forward and the gradient of inputs multiply by the sum, which costs 2·in·out·rank FLOPs a pass whatever N is; the gradients of A and B go
/// through u = x·A and du = s·dy·Bᵀ, [N, rank], so dW is never formed.
class Lora final : public Parametrization {
 public:
  bool trains(Role) const override { return false; }
  void check(const ModelConfig& model) const override {
    const Tuning& tuning = model.tuning;
    const auto refuse = [](const char* what, std::string expected, std::string found) {
      throw InputError({std::string("tune: ") + what, std::move(expected), std::move(found), ""});
    };
    if (tuning.rank < 1 || tuning.rank > kMaxRank) refuse("rank", "1 to " + std::to_string(kMaxRank), std::to_string(tuning.rank));
    if (!(tuning.alpha > 0 && tuning.alpha <= 1e6)) refuse("alpha", "above 0 and at most 1000000", std::to_string(tuning.alpha));
    const std::vector<int>& ranks = tuning.ranks;
    const bool ascends = std::adjacent_find(ranks.begin(), ranks.end(), std::greater_equal<>()) == ranks.end();
    if (!ranks.empty() && (ranks.size() < 2 || !ascends || ranks.front() < 1 || ranks.back() != tuning.rank)) {
      std::string found;
      for (const int rank : ranks) found += (found.empty() ? "" : ", ") + std::to_string(rank);
      refuse("ranks", "two or more, ascending from 1 or more", found);
    }
    check_targets(model);
  }
  bool has_targets() const override { return true; }
  bool has_rank() const override { return true; }
  AddedTensors added(const ModelConfig&) const override {
    return {{.suffix = ".lora_a", .role = Role::low_rank, .rows = Side::in, .columns = Side::rank},
            {.suffix = ".lora_b", .role = Role::zero, .rows = Side::rank, .columns = Side::out}};
  }
  bool forms_weight() const override { return true; }
  void effective(Backend& backend, const ModelConfig& model, const WeightSlice& w, const GradientSlice& result) const override {
    const ConstView a = w.added[0], b = w.added[1];
    backend.panels(a.rows, [&](Rows r) {
      backend.matmul({.y = result.weight[r], .x = a[r], .w = b, .bias = {}, .add = w.weight[r], .scale = scale_of(model.tuning)});
    });
  }
  bool reads_input() const override { return true; }
  std::array<std::int64_t, 2> scratch_columns(const ModelConfig& model, std::int64_t) const override {
    return {model.tuning.rank, model.tuning.rank};
  }
  void added_gradients(Backend& backend, const ModelConfig& model, const LinearBackward& op) const override {
    const ConstView a = op.w.added[0], b = op.w.added[1];
    const View u = op.scratch[0].slice(op.x.rows, a.columns), du = op.scratch[1].slice(op.x.rows, a.columns);
    const double scale = op.scale * scale_of(model.tuning);
    backend.panels(op.x.rows, [&](Rows r) {
      backend.matmul({.y = u[r], .x = op.x[r], .w = a, .bias = {}, .add = {}});
      backend.matmul_dx({.dx = du[r], .dy = op.dy[r], .w = b, .add = {}, .scale = scale});
    });
    backend.matmul_dw({.dw = op.dw.added[1], .dbias = {}, .x = u, .dy = op.dy, .scale = scale, .accumulate = op.accumulate});
    backend.matmul_dw({.dw = op.dw.added[0], .dbias = {}, .x = op.x, .dy = du, .accumulate = op.accumulate});
  }
};

}  // namespace

const Parametrization& lora_parametrization() {
  static const Lora kLora;
  return kLora;
}

}  // namespace elastiform
