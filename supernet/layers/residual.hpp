#pragma once

#include "kernels/backend.hpp"
#include "supernet/layer_tensors.hpp"
#include "supernet/search_space.hpp"
#include "supernet/weight_slice.hpp"

namespace elastiform {

/// What the residual rule adds to a branch; empty: nothing. gate [1, 1] or [1, C], skip [1, C], shifts [1, 1]: of the branch's input, of
/// what its activation takes (feed-forward networks), of what its last product takes.
template <class V>
struct BasicResidualSlices {
  V gate, skip, input, activation, output;
};

/// A branch's weights that stand where it leaves and meets the residual stream.
template <class V>
struct BasicBranchEnds {
  BasicNormSlice<V> norm;
  BasicResidualSlices<V> residual;
  BasicLinearSlice<V> out;
};
using BranchEnds = BasicBranchEnds<ConstView>;
using BranchEndGradients = BasicBranchEnds<View>;

/// Whole matrices that a branch's ends keep; rows 0: absent. `branch`, where the rule does not fuse, is F(x) itself as dropout leaves it, or
/// with a norm after it what that norm takes.
struct EndTensors {
  View branch;      // [N, C]
  View rstd, mean;  // [1, N]
};

/// The two ends of a branch as the model's ResidualForm has them, and their backward passes: y = after(α · ω ∘ x + s · γ ∘ F(before(x))). In
/// training dropout is the last thing that F does.
class Residual {
 public:
  /// depth: blocks of the subnet.
  Residual(const ModelConfig& model, int depth, const DropoutPlace& dropout = {});

  // Rows of what a layer keeps for its ends; 0: absent.
  static std::int64_t input_rows(const ModelConfig& model, std::int64_t N);   // what its first products take, if that is not x
  static std::int64_t branch_rows(const ModelConfig& model, std::int64_t N);  // EndTensors::branch
  static std::int64_t norm_rows(const ModelConfig& model);                    // rstd
  static std::int64_t mean_rows(const ModelConfig& model);
  /// What backward needs for the ends: sums of the norm's gain or of the input's shift per panel, of the norm's bias, of the gate or the
  /// skip gain, the gradient at the last product where it is not that at y, and a panel's gradient at the first products' input.
  enum Scratch { kDGain, kDBias, kDGate, kDBranch, kPanel, kScratch };
  static void add_scratch(const ModelConfig& model, const BackendTraits& traits, const BlockShape& shape, LayerTensors& tensors);

  // Inside panels. Rows r of x in h, as the first products take them: h is written and returned, or x's rows are.
  ConstView enter(Backend& backend, const BranchEnds& w, View h, const EndTensors& t, ConstView x, Rows r) const;
  /// x += shift; nothing where there is none.
  static void shift(Backend& backend, View x, ConstView shift);
  /// Rows r of y from `last`, those that the last product takes; `branch`: rows r of EndTensors::branch, or a panel in its place.
  void leave(Backend& backend, const BranchEnds& w, View y, View branch, const EndTensors& t, ConstView x, ConstView last, Rows r) const;
  /// Rows r of `branch` again.
  void branch_again(Backend& backend, const BranchEnds& w, View branch, ConstView x, ConstView last, Rows r) const;
  /// Rows r of y again, from whole `branch` where the rule does not fuse.
  void leave_again(Backend& backend, const BranchEnds& w, View y, const EndTensors& t, ConstView x, ConstView last, Rows r) const;
  /// The statistics of a norm after the branch again, with whole `branch`; `panel` is scratch.
  void statistics_again(Backend& backend, const BranchEnds& w, const EndTensors& t, const PanelScratch& panel) const;

  /// The gradient at the last product's result, before dropout: scale · d.
  struct LastGradient {
    ConstView d;
    double scale = 1;
  };
  /// From d, the gradient at y. With a norm after the branch d is overwritten by the gradient before it.
  LastGradient leave_backward(Backend& backend, const BranchEnds& w, const BranchEndGradients& dw, const BackwardTensors& scratch,
                              const EndTensors& t, View d, bool accumulate) const;
  /// Inside panels: rows r of d become the gradient at x, of which dh, at the first products' input, is a part.
  void enter_backward(Backend& backend, const BranchEnds& w, const BackwardTensors& scratch, const EndTensors& t, View d, ConstView dh,
                      ConstView x, Rows r) const;
  /// Inside panels: sums of dx, the gradient behind a shift, into row r.panel of partials; nothing where these are empty.
  static void sum_shift(Backend& backend, View partials, ConstView dx, Rows r);
  /// Adds panels' sums to a gradient; nothing where that is empty: absent or frozen.
  static void sum_learning(Backend& backend, View sum, ConstView partials);
  /// After these panels: their sums become gradients.
  void sum_ends(Backend& backend, const BranchEndGradients& dw, const BackwardTensors& scratch, bool accumulate) const;

 private:
  /// Dropout of x, which begins with row r.first, in place.
  void drop(Backend& backend, View x, Rows r) const {
    if (dropout_.is_on()) dropout_.apply(backend, x, x, {}, r.first);
  }
  void sum_norm(Backend& backend, const BranchEndGradients& dw, const BackwardTensors& scratch, bool accumulate) const;
  const ModelConfig& model_;
  const ResidualForm& form_;
  double scale_;  // s
  DropoutPlace dropout_;
};

}  // namespace elastiform
