// CudaBackend's matrix products: the device's library where it is as general as the operation, else our kernels.
#include "kernels/arena.hpp"
#include "kernels/cuda/cuda_backend.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

constexpr std::int64_t kScratchAlignment = 256;

/// Bytes of a matrix in two-byte elements, rows padded to what tensor cores like.
std::int64_t rounded_bytes(ConstView x) {
  return (x.rows * padded_ld(x.rows, x.columns) * bytes_of(DType::bfloat16) + kScratchAlignment - 1) / kScratchAlignment *
         kScratchAlignment;
}

std::int64_t scaled_bias_bytes(ConstView bias) { return bias.columns * bytes_of(DType::float32); }

bool is_rounded_first(ConstView x, Precision precision) { return precision == Precision::bf16 && x.dtype == DType::float32; }

}  // namespace

// The library adds a bias of c's type after it has scaled: scale · (A·B + bias) takes scale · bias, and a c in bfloat16 the bias' shadow. More
// of a block it cannot take over: its GELU is tanh's alone and would have to know the next operation, and its sums of dy's columns are
// written unscaled, where ours are scaled, added to what is there, and not rounded first.
bool CudaBackend::multiply_with_library(View c, const Factors& factors, ConstView bias, ConstView add, double scale) {
  if (!library_ || (!add.empty() && add.dtype != c.dtype)) return false;
  if (!bias.empty() && c.dtype != DType::float32) bias = weight(bias);
  const bool scales_bias = !bias.empty() && scale != 1;
  if (!bias.empty() && (bias.dtype != c.dtype || (scales_bias && c.dtype != DType::float32))) return false;
  ConstView a = factors.a, b = factors.b;
  std::int64_t bytes = scales_bias ? scaled_bias_bytes(bias) : 0;
  for (const ConstView& x : {a, b}) bytes += is_rounded_first(x, precision_) ? rounded_bytes(x) : 0;
  std::byte* scratch = bytes > 0 ? scratch_.at_least(bytes) : nullptr;
  if (prepares_) return true;
  for (ConstView* x : {&a, &b}) {
    if (!is_rounded_first(*x, precision_)) continue;
    const View rounded{scratch, x->rows, x->columns, padded_ld(x->rows, x->columns), DType::bfloat16};
    ELASTIFORM_GPU::copy(stream_, rounded, *x);
    scratch += rounded_bytes(*x);
    *x = rounded;
  }
  if (a.dtype != b.dtype) return false;
  if (scales_bias) {
    const View scaled{scratch, 1, bias.columns, bias.columns, DType::float32};
    ELASTIFORM_GPU::copy(stream_, scaled, bias);
    ELASTIFORM_GPU::scale(stream_, scaled, scale);
    bias = scaled;
  }
  GemmCall call;
  call.M = c.rows, call.N = c.columns, call.K = factors.a_along_k ? a.columns : a.rows;
  call.a = a.data, call.a_ld = a.ld, call.a_transposed = !factors.a_along_k;
  call.b = b.data, call.b_ld = b.ld, call.b_transposed = factors.b_along_k;
  call.c = c.data, call.c_ld = c.ld;
  call.type = a.dtype, call.c_type = c.dtype;
  call.alpha = static_cast<float>(scale);
  if (!bias.empty()) call.bias = bias.data;
  if (!add.empty()) call.add = add.data, call.add_ld = add.ld, call.beta = 1;
  return library_->multiply(stream_, call);
}

void CudaBackend::do_matmul(const Matmul& op) {
  settle();  // before the weight's shadow becomes fresh
  Matmul product = op;
  product.w = weight(op.w);
  const bool runs = begin(op.y);
  if (op.y.size() == 0) return;
  if (multiply_with_library(op.y, {op.x, product.w, true, op.transposed}, op.bias, op.add, op.scale) || !runs) return;
  ELASTIFORM_GPU::matmul(stream_, product, precision_);
}

void CudaBackend::do_matmul_dx(const MatmulDx& op) {
  settle();
  MatmulDx product = op;
  product.w = weight(op.w);
  const bool runs = begin(op.dx);
  if (op.dx.size() == 0) return;
  if (multiply_with_library(op.dx, {op.dy, product.w, true, !op.transposed}, {}, op.add, op.scale) || !runs) return;
  ELASTIFORM_GPU::matmul_dx(stream_, product, precision_);
}

void CudaBackend::do_matmul_dw(const MatmulDw& op) {
  if (op.dw.empty()) {
    if (begin(op.dbias)) ELASTIFORM_GPU::bias_gradient(stream_, op);
    return;
  }
  const bool runs = begin(op.dw, op.dbias);
  if (op.dw.size() == 0) return;
  const ConstView left = op.transposed ? op.dy : op.x, right = op.transposed ? op.x : op.dy;
  const ConstView add = op.accumulate ? ConstView(op.dw) : ConstView{};
  const bool done = multiply_with_library(op.dw, {left, right, false, false}, {}, add, op.scale);
  if (done && runs) return ELASTIFORM_GPU::bias_gradient(stream_, op);
  std::byte* const scratch = scratch_.at_least(matmul_dw_scratch_bytes(op));
  if (runs) ELASTIFORM_GPU::matmul_dw(stream_, op, precision_, scratch);
}

}  // namespace elastiform::ELASTIFORM_GPU
