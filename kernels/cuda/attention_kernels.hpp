#pragma once

// The two ways of attention: in float32 for any head_dim (in bf16 with operands rounded on the way), and on tensor cores.
#include "kernels/cuda/launch.hpp"
#include "kernels/ops/attention.hpp"
#include "kernels/precision.hpp"

namespace elastiform::ELASTIFORM_GPU {

void attention_forward_f32(Stream stream, const AttentionForward& op, Precision precision);
void attention_forward_on_tensor_cores(Stream stream, const AttentionForward& op);

/// delta[heads, rows]: Σ over a head's columns of dout ∘ out.
void attention_backward_f32(Stream stream, const AttentionBackward& op, Precision precision, const float* delta);
void attention_backward_on_tensor_cores(Stream stream, const AttentionBackward& op, const float* delta);

}  // namespace elastiform::ELASTIFORM_GPU
