// How branches meet the residual stream, and scalar biases: elementwise, and sums over rows for the gradients of gains and shifts.
#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/strided.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

/// A vector along the columns, or one number for all of them; nullptr: what stands for it.
struct Broadcast {
  const float* data = nullptr;
  bool one = false;
};

Broadcast broadcast_of(ConstView view) { return {view.empty() ? nullptr : view.row<float>(0), view.columns == 1}; }

GPU_FUNCTION void load_broadcast(float (&to)[kFour], Broadcast from, float absent, std::int64_t column, const Extent& extent) {
  if (from.data && !from.one) return load_four(to, Strided<const float>{from.data, 0}, 0, column, extent);
  const float all = from.data ? from.data[0] : absent;
#pragma unroll
  for (int i = 0; i < kFour; ++i) to[i] = all;
}

struct AffineVectors {
  Broadcast gain, shift;
  Strided<const float> add;
  float scale = 1;
};

template <class Y, class X>
GPU_KERNEL affine_forward_kernel(Strided<Y> y, Strided<const X> x, AffineVectors op, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t c) {
    float v[kFour], gain[kFour], shift[kFour], add[kFour] = {};
    load_four(v, x, n, c, extent);
    load_broadcast(gain, op.gain, 1.0f, c, extent);
    load_broadcast(shift, op.shift, 0.0f, c, extent);
    if (op.add.data) load_four(add, op.add, n, c, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) v[i] = op.scale * gain[i] * v[i] + shift[i] + add[i];
    store_four(y, n, c, extent, v);
  });
}

template <class T>
GPU_KERNEL affine_backward_kernel(Strided<float> dx, Strided<const T> dy, AffineVectors op, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t c) {
    float v[kFour], gain[kFour], add[kFour] = {};
    load_four(v, dy, n, c, extent);
    load_broadcast(gain, op.gain, 1.0f, c, extent);
    if (op.add.data) load_four(add, op.add, n, c, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) v[i] = op.scale * gain[i] * v[i] + add[i];
    store_four(dx, n, c, extent, v);
  });
}

constexpr int kSumWarps = 8;  // of a block: each takes every eighth row
constexpr int kBlockColumns = kWarp * kFour;

/// Sums over all rows of scale · x ∘ dy and of dy, whichever has a place. A block covers 128 columns.
template <class T>
GPU_KERNEL affine_sums_kernel(float* dgain, float* dshift, Strided<const T> dy, Strided<const float> x, float scale, Extent extent) {
  const std::int64_t block_column = static_cast<std::int64_t>(blockIdx.x) * kBlockColumns, column = block_column + threadIdx.x * kFour;
  float of_gain[kFour] = {}, of_shift[kFour] = {};
  if (column < extent.columns)
#pragma unroll 4
    for (std::int64_t n = threadIdx.y; n < extent.rows; n += kSumWarps) {
      float upstream[kFour], value[kFour] = {};
      load_four(upstream, dy, n, column, extent);
      if (dgain) load_four(value, x, n, column, extent);
#pragma unroll
      for (int i = 0; i < kFour; ++i) {
        of_gain[i] = fmaf(scale * upstream[i], value[i], of_gain[i]);
        of_shift[i] += upstream[i];
      }
    }
  SHARED(float, of_warps, [2][kSumWarps][kBlockColumns]);
  for (int i = 0; i < kFour; ++i) {
    of_warps[0][threadIdx.y][threadIdx.x * kFour + i] = of_gain[i];
    of_warps[1][threadIdx.y][threadIdx.x * kFour + i] = of_shift[i];
  }
  __syncthreads();
  const int thread = static_cast<int>(threadIdx.y * kWarp + threadIdx.x), which = thread / kBlockColumns, at = thread % kBlockColumns;
  float* const to = which == 0 ? dgain : dshift;
  if (!to || block_column + at >= extent.columns) return;
  float total = of_warps[which][0][at];
  for (int w = 1; w < kSumWarps; ++w) total += of_warps[which][w][at];
  to[block_column + at] = total;
}
static_assert(kSumWarps * kWarp == 2 * kBlockColumns);  // a thread for each sum that it ends with

float* vector_or_null(View view) { return view.empty() ? nullptr : view.row<float>(0); }

/// One number stands where it stands: only vectors along the columns are read four at a time.
bool aligned_vector(ConstView view) { return view.columns == 1 || aligned(view); }

}  // namespace

void affine_forward(Stream stream, const AffineForward& op) {
  const Extent extent{op.x.rows, op.x.columns, all_aligned(op.y, op.x, op.add) && aligned_vector(op.gain) && aligned_vector(op.shift)};
  const AffineVectors vectors{broadcast_of(op.gain), broadcast_of(op.shift), strided<float>(op.add), static_cast<float>(op.scale)};
  dispatch_storage(op.y.dtype, [&]<class Y>() {
    dispatch_storage(op.x.dtype, [&]<class X>() {
      launch(over_groups(op.kName, extent.rows, extent.columns, stream), affine_forward_kernel<Y, X>, strided<Y>(op.y), strided<X>(op.x),
             vectors, extent);
    });
  });
}

void affine_backward(Stream stream, const AffineBackward& op) {
  const bool sums = !op.dgain.empty() || !op.dshift.empty();
  const Extent extent{op.dy.rows, op.dy.columns, all_aligned(op.dx, op.dy, op.x, op.add) && aligned_vector(op.gain)};
  const AffineVectors vectors{broadcast_of(op.gain), {}, strided<float>(op.add), static_cast<float>(op.scale)};
  dispatch_storage(op.dy.dtype, [&]<class T>() {
    if (sums) {  // first: dx may be the memory of dy
      const Launch l{.name = "affine_backward (sums)",
                     .grid = {static_cast<unsigned int>((extent.columns + kBlockColumns - 1) / kBlockColumns)},
                     .block = {kWarp, kSumWarps},
                     .stream = stream};
      launch(l, affine_sums_kernel<T>, vector_or_null(op.dgain), vector_or_null(op.dshift), strided<T>(op.dy), strided<float>(op.x),
             vectors.scale, extent);
    }
    if (!op.dx.empty())
      launch(over_groups(op.kName, extent.rows, extent.columns, stream), affine_backward_kernel<T>, strided<float>(op.dx),
             strided<T>(op.dy), vectors, extent);
  });
}

}  // namespace elastiform::ELASTIFORM_GPU
