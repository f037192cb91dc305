#pragma once

// Matrices in device memory whose element type, like their sizes, is known at run time.
#include <cstdint>
#include <string>
#include <type_traits>

#include "kernels/cuda/gpu.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// So many elements that one instruction loads or stores.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Vector {
  T items[kCount];
};
using Quad = Vector<float, 4>;
/// 16 bytes of shared memory: eight elements of 16 bits. What cp_async16 brings and a lane of ldmatrix points to.
using Chunk = Vector<std::uint32_t, 4>;
constexpr int kChunkElements = 8;

/// A matrix [rows, columns] that kernels read, `ld` elements from row to row.
struct Source {
  const void* data = nullptr;
  std::int64_t ld = 0;
  int rows = 0, columns = 0;
  DType dtype = DType::float32;
  bool vectors = false;  // every row begins at a multiple of 16 bytes
};

inline bool at_vectors(const void* data, std::int64_t ld, DType dtype) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && ld * bytes_of(dtype) % 16 == 0;
}
/// Sizes of one operation are counted in 32 bits, offsets in 64.
inline int size_of_matrix(std::int64_t size) {
  if (size < 0 || size > 1 << 30) throw ShapeError("a matrix on the device has " + std::to_string(size) + " rows or columns, at most 2^30");
  return static_cast<int>(size);
}
/// A matrix that kernels write.
struct Target {
  void* data = nullptr;
  std::int64_t ld = 0;
  DType dtype = DType::float32;
  bool vectors = false;
};

inline Source source_of(ConstView x) {
  if (x.dtype == DType::float64) throw ShapeError("float64 on the device");
  return {x.data, x.ld, size_of_matrix(x.rows), size_of_matrix(x.columns), x.dtype, at_vectors(x.data, x.ld, x.dtype)};
}

inline Target target_of(View x) {
  if (x.dtype == DType::float64) throw ShapeError("float64 on the device");
  return {x.data, x.ld, x.dtype, at_vectors(x.data, x.ld, x.dtype)};
}

GPU_FUNCTION float load_element(const void* data, std::int64_t at, DType dtype) {
  if (dtype == DType::float32) return static_cast<const float*>(data)[at];
  if (dtype == DType::bfloat16) return to_float(static_cast<const BFloat16*>(data)[at]);
  return to_float(static_cast<const Float16*>(data)[at]);
}

/// Two elements in one register, the first in the lower half.
template <class T>
GPU_FUNCTION std::uint32_t pack_pair(float first, float second) {
#ifdef __CUDACC__  // one instruction
  if constexpr (std::is_same_v<T, BFloat16>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
    return static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.x)) | static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.y)) << 16;
  } else {
    const __half2 pair = __floats2half2_rn(first, second);
    return static_cast<std::uint32_t>(__half_as_ushort(pair.x)) | static_cast<std::uint32_t>(__half_as_ushort(pair.y)) << 16;
  }
#else
  return static_cast<std::uint32_t>(from_float<T>(first).bits) | static_cast<std::uint32_t>(from_float<T>(second).bits) << 16;
#endif
}
template <class T>
GPU_FUNCTION float first_of_pair(std::uint32_t pair) {
  return to_float(T{static_cast<std::uint16_t>(pair & 0xffffu)});
}
template <class T>
GPU_FUNCTION float second_of_pair(std::uint32_t pair) {
  return to_float(T{static_cast<std::uint16_t>(pair >> 16)});
}

/// x = row[column … column + 4) of a float32 or narrower matrix, zeros outside it. column is a multiple of 4.
GPU_FUNCTION void load_four(const Source& s, int row, int column, float (&x)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) x[i] = 0;
  if (row >= s.rows || column >= s.columns) return;
  const std::int64_t at = row * s.ld + column;
  if (s.vectors && s.dtype == DType::float32 && column + 4 <= s.columns) {
    const Quad quad = *reinterpret_cast<const Quad*>(static_cast<const float*>(s.data) + at);
#pragma unroll
    for (int i = 0; i < 4; ++i) x[i] = quad.items[i];
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
    if (column + i < s.columns) x[i] = load_element(s.data, at + i, s.dtype);
}

template <class T, int kCount>
GPU_FUNCTION void store_elements_as(T* to, bool vectors, int count, const float (&x)[kCount]) {
  if (vectors && count >= kCount) {
    Vector<T, kCount> vector;
#pragma unroll
    for (int i = 0; i < kCount; ++i) vector.items[i] = from_float<T>(x[i]);
    *reinterpret_cast<Vector<T, kCount>*>(to) = vector;
    return;
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i)
    if (i < count) to[i] = from_float<T>(x[i]);
}
/// The first `count` of kCount neighbours of a row, rounded to its type. column is a multiple of kCount.
template <int kCount>
GPU_FUNCTION void store_elements(const Target& t, int row, int column, int count, const float (&x)[kCount]) {
  const std::int64_t at = row * t.ld + column;
  if (t.dtype == DType::float32) store_elements_as(static_cast<float*>(t.data) + at, t.vectors, count, x);
  else if (t.dtype == DType::bfloat16) store_elements_as(static_cast<BFloat16*>(t.data) + at, t.vectors, count, x);
  else store_elements_as(static_cast<Float16*>(t.data) + at, t.vectors, count, x);
}

}  // namespace elastiform::ELASTIFORM_GPU
