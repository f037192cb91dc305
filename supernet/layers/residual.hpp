#pragma once

#include "kernels/backend.hpp"
#include "supernet/layer_tensors.hpp"

namespace elastiform {

/// A branch's last product joins the residual stream: y = add + dropped(scale · (x·w + bias)), the fields those of `op` for rows r. Used inside
/// panels.
void join(Backend& backend, const DropoutPlace& dropout, const Matmul& op, Rows r);

/// Backward: the gradient at the product, of the one at y, d [N, C]. It is d itself where nothing was dropped, else in scratch.
ConstView branch_gradient(Backend& backend, const DropoutPlace& dropout, ConstView d, View scratch);
/// The scratch that takes, for a layer's tensors().
inline TensorShape branch_gradient_shape(const BlockShape& shape) { return {shape.dropout.is_on() ? shape.rows() : 0, shape.embed}; }

/// Dropout of x [N, C] in place.
void drop(Backend& backend, const DropoutPlace& dropout, View x);

}  // namespace elastiform
