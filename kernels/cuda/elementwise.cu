// Activations, rotary positions, and what moves and scales matrices: every element on its own, so bits depend on no order.
#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/kernels.hpp"
#include "kernels/cuda/strided.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

GPU_FUNCTION float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <class T>
GPU_KERNEL swiglu_forward_kernel(Strided<T> y, Strided<const T> gate, Strided<const T> up, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t f) {
    float g[kFour], u[kFour];
    load_four(g, gate, n, f, extent);
    load_four(u, up, n, f, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) u[i] *= g[i] * sigmoid(g[i]);
    store_four(y, n, f, extent, u);
  });
}

template <class T>
GPU_KERNEL swiglu_backward_kernel(Strided<T> dgate, Strided<T> dup, Strided<const T> dy, Strided<const T> gate, Strided<const T> up,
                                  Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t f) {
    float upstream[kFour], g[kFour], u[kFour];
    load_four(upstream, dy, n, f, extent);  // all loads before a store: an output may be the memory of dy or of gate
    load_four(g, gate, n, f, extent);
    load_four(u, up, n, f, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) {
      const float s = sigmoid(g[i]), silu = g[i] * s, slope = fmaf(silu, 1.0f - s, s);
      g[i] = upstream[i] * u[i] * slope;
      u[i] = upstream[i] * silu;
    }
    store_four(dup, n, f, extent, u);
    store_four(dgate, n, f, extent, g);
  });
}

constexpr float kRootTwoOverPi = 0.797884560802865356f, kCubic = 0.044715f, kRootHalf = 0.707106781186547524f;
constexpr float kNormalPeak = 0.398942280401432678f;  // 1/√(2π)

/// 2u with u = √(2/π)·(x + 0.044715x³): (1 + tanh u)/2 = sigmoid(2u), one exp and one division.
GPU_FUNCTION float twice_inner(float x) { return x * fmaf(x * x, 2 * kRootTwoOverPi * kCubic, 2 * kRootTwoOverPi); }

/// The normal distribution function; erfc keeps the left tail, where 1 + erf cancels.
GPU_FUNCTION float normal_cdf(float x) { return 0.5f * erfcf(-x * kRootHalf); }

template <Gelu kKind>
GPU_FUNCTION float gelu(float x) {
  return x * (kKind == Gelu::tanh ? sigmoid(twice_inner(x)) : normal_cdf(x));
}

template <Gelu kKind>
GPU_FUNCTION float gelu_slope(float x) {
  // Beyond |x| = 100 the products below are 0 whatever x² is, as long as it is finite.
  const float square = fminf(x * x, 1e4f);
  if (kKind == Gelu::erf) return fmaf(x * kNormalPeak, expf(-0.5f * square), normal_cdf(x));
  const float s = sigmoid(twice_inner(x));
  return fmaf(s * (1.0f - s) * x, fmaf(square, 6 * kRootTwoOverPi * kCubic, 2 * kRootTwoOverPi), s);
}

template <class T, Gelu kKind>
GPU_KERNEL gelu_forward_kernel(Strided<T> y, Strided<const T> x, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t f) {
    float v[kFour];
    load_four(v, x, n, f, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) v[i] = gelu<kKind>(v[i]);
    store_four(y, n, f, extent, v);
  });
}

template <class T, Gelu kKind>
GPU_KERNEL gelu_backward_kernel(Strided<T> dx, Strided<const T> dy, Strided<const T> x, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t f) {
    float upstream[kFour], v[kFour];
    load_four(upstream, dy, n, f, extent);
    load_four(v, x, n, f, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) v[i] = upstream[i] * gelu_slope<kKind>(v[i]);
    store_four(dx, n, f, extent, v);
  });
}

template <class T>
GPU_KERNEL hadamard_kernel(Strided<float> y, Strided<const T> a, Strided<const float> b, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t f) {
    float v[kFour], w[kFour];
    load_four(v, a, n, f, extent);
    load_four(w, b, n, f, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) v[i] *= w[i];
    store_four(y, n, f, extent, v);
  });
}

/// A thread turns four pairs of one head. first_row is below period; turn is 1, or -1 to turn back.
template <class T>
GPU_KERNEL rope_kernel(Strided<T> x, Strided<const float> cosine, Strided<const float> sine, std::int64_t rows, std::int64_t heads,
                       Extent half, std::uint32_t first_row, std::uint32_t period, std::int64_t offset, float turn) {
  const std::uint32_t groups = static_cast<std::uint32_t>((half.columns + kFour - 1) / kFour);  // of a half head
  for_each_group(rows, heads * groups * kFour, [&](std::int64_t n, std::int64_t column) {
    const std::uint32_t group = static_cast<std::uint32_t>(column / kFour), head = group / groups;
    const std::int64_t i = static_cast<std::int64_t>(group - head * groups) * kFour;
    const std::int64_t position = (first_row + static_cast<std::uint32_t>(n)) % period + offset;
    const Strided<T> first{x.data + head * 2 * half.columns, x.ld}, second{first.data + half.columns, x.ld};
    float a[kFour], b[kFour], cos[kFour], sin[kFour];
    load_four(a, first, n, i, half);
    load_four(b, second, n, i, half);
    load_four(cos, cosine, position, i, half);
    load_four(sin, sine, position, i, half);
#pragma unroll
    for (int j = 0; j < kFour; ++j) {
      const float s = turn * sin[j], old = a[j];
      a[j] = fmaf(-b[j], s, old * cos[j]);
      b[j] = fmaf(old, s, b[j] * cos[j]);
    }
    store_four(first, n, i, half, a);
    store_four(second, n, i, half, b);
  });
}

template <class T>
GPU_KERNEL zero_kernel(Strided<T> x, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t c) {
    const float zeros[kFour] = {};
    store_four(x, n, c, extent, zeros);
  });
}

template <class T>
GPU_KERNEL scale_kernel(Strided<T> x, float factor, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t c) {
    float v[kFour];
    load_four(v, x, n, c, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) v[i] *= factor;
    store_four(x, n, c, extent, v);
  });
}

GPU_KERNEL add_kernel(Strided<float> to, Strided<const float> from, float factor, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t c) {
    float sum[kFour], v[kFour];
    load_four(sum, to, n, c, extent);
    load_four(v, from, n, c, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) sum[i] = fmaf(factor, v[i], sum[i]);
    store_four(to, n, c, extent, sum);
  });
}

GPU_KERNEL multiply_kernel(Strided<float> to, Strided<const float> from, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t c) {
    float product[kFour], v[kFour];
    load_four(product, to, n, c, extent);
    load_four(v, from, n, c, extent);
#pragma unroll
    for (int i = 0; i < kFour; ++i) product[i] *= v[i];
    store_four(to, n, c, extent, product);
  });
}

template <class To, class From>
GPU_KERNEL copy_kernel(Strided<To> to, Strided<const From> from, Extent extent) {
  for_each_group(extent.rows, extent.columns, [&](std::int64_t n, std::int64_t c) {
    float v[kFour];
    load_four(v, from, n, c, extent);
    store_four(to, n, c, extent, v);
  });
}

template <class... Views>
Extent extent_of(ConstView view, const Views&... others) {
  return {view.rows, view.columns, all_aligned(view, others...)};
}

Launch over(const char* name, const Extent& extent, Stream stream) { return over_groups(name, extent.rows, extent.columns, stream); }

}  // namespace

void swiglu_forward(Stream stream, const SwigluForward& op) {
  const Extent extent = extent_of(op.y, op.gate, op.up);
  dispatch_storage(op.y.dtype, [&]<class T>() {
    launch(over(op.kName, extent, stream), swiglu_forward_kernel<T>, strided<T>(op.y), strided<T>(op.gate), strided<T>(op.up), extent);
  });
}

void swiglu_backward(Stream stream, const SwigluBackward& op) {
  const Extent extent = extent_of(op.dy, op.dgate, op.dup, op.gate, op.up);
  dispatch_storage(op.dy.dtype, [&]<class T>() {
    launch(over(op.kName, extent, stream), swiglu_backward_kernel<T>, strided<T>(op.dgate), strided<T>(op.dup), strided<T>(op.dy),
           strided<T>(op.gate), strided<T>(op.up), extent);
  });
}

void gelu_forward(Stream stream, const GeluForward& op) {
  const Extent extent = extent_of(op.y, op.x);
  dispatch_storage(op.y.dtype, [&]<class T>() {
    const auto kernel = op.kind == Gelu::tanh ? gelu_forward_kernel<T, Gelu::tanh> : gelu_forward_kernel<T, Gelu::erf>;
    launch(over(op.kName, extent, stream), kernel, strided<T>(op.y), strided<T>(op.x), extent);
  });
}

void gelu_backward(Stream stream, const GeluBackward& op) {
  const Extent extent = extent_of(op.dx, op.dy, op.x);
  dispatch_storage(op.dx.dtype, [&]<class T>() {
    const auto kernel = op.kind == Gelu::tanh ? gelu_backward_kernel<T, Gelu::tanh> : gelu_backward_kernel<T, Gelu::erf>;
    launch(over(op.kName, extent, stream), kernel, strided<T>(op.dx), strided<T>(op.dy), strided<T>(op.x), extent);
  });
}

void hadamard(Stream stream, const Hadamard& op) {
  const Extent extent{op.y.rows, op.y.columns, all_aligned(op.y, op.a, op.b)};
  Strided<const float> b = strided<float>(op.b);
  if (op.b.rows == 1) b.ld = 0;
  dispatch_storage(op.a.dtype, [&]<class T>() {
    launch(over(op.kName, extent, stream), hadamard_kernel<T>, strided<float>(op.y), strided<T>(op.a), b, extent);
  });
}

void rope(Stream stream, const Rope& op) {
  const std::int64_t half = op.cosine.columns, heads = op.x.columns / (2 * half), groups = (half + kFour - 1) / kFour;
  const Extent extent{op.cosine.rows, half, half % kFour == 0 && all_aligned(op.x, op.cosine, op.sine)};
  const auto first_row = static_cast<std::uint32_t>(op.first_row % op.period), period = static_cast<std::uint32_t>(op.period);
  dispatch_storage(op.x.dtype, [&]<class T>() {
    launch(over_groups(op.kName, op.x.rows, heads * groups * kFour, stream), rope_kernel<T>, strided<T>(op.x), strided<float>(op.cosine),
           strided<float>(op.sine), op.x.rows, heads, extent, first_row, period, op.offset, op.inverse ? -1.0f : 1.0f);
  });
}

void zero(Stream stream, View x) {
  const Extent extent = extent_of(x);
  dispatch_storage(x.dtype, [&]<class T>() { launch(over("zero", extent, stream), zero_kernel<T>, strided<T>(x), extent); });
}

void scale(Stream stream, View x, double factor) {
  const Extent extent = extent_of(x);
  dispatch_storage(x.dtype, [&]<class T>() {
    launch(over("scale", extent, stream), scale_kernel<T>, strided<T>(x), static_cast<float>(factor), extent);
  });
}

void add(Stream stream, View to, ConstView from, double factor) {
  const Extent extent = extent_of(to, from);
  launch(over("add", extent, stream), add_kernel, strided<float>(to), strided<float>(from), static_cast<float>(factor), extent);
}

void multiply(Stream stream, View to, ConstView from) {
  const Extent extent = extent_of(to, from);
  launch(over("multiply", extent, stream), multiply_kernel, strided<float>(to), strided<float>(from), extent);
}

void copy(Stream stream, View to, ConstView from) {
  const Extent extent = extent_of(to, from);
  dispatch_storage(to.dtype, [&]<class To>() {
    dispatch_storage(from.dtype, [&]<class From>() {
      launch(over("copy", extent, stream), copy_kernel<To, From>, strided<To>(to), strided<From>(from), extent);
    });
  });
}

void round_to_bf16(Stream stream, const float* from, BFloat16* to, std::int64_t count) {
  copy(stream, view_of(to, 1, count, count), view_of(from, 1, count, count));
}

}  // namespace elastiform::ELASTIFORM_GPU
