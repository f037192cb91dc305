#pragma once

// How kernels see matrices: a pointer and a leading dimension, four elements of a row at a time. Four elements are one memory access where
// every operand is aligned for it, and several where not; what is computed of them, and in which order, is the same.
#include <algorithm>
#include <cstdint>
#include <string>

#include "kernels/cuda/gpu.hpp"
#include "kernels/view.hpp"

namespace elastiform::ELASTIFORM_GPU {

constexpr int kWarp = 32;  // lanes
constexpr int kFour = 4;   // elements that a lane handles at once

template <class T>
struct Strided {
  T* data = nullptr;    // nullptr: an operand that is not given
  std::int64_t ld = 0;  // elements from row to row
};

template <class T>
Strided<T> strided(View view) {
  return {view.empty() ? nullptr : view.row<T>(0), view.ld};
}
template <class T>
Strided<const T> strided(ConstView view) {
  return {view.empty() ? nullptr : view.row<T>(0), view.ld};
}

/// Whether groups of four columns of a view are aligned to their own size. A view that is not given is.
inline bool aligned(ConstView view) {
  const auto address = reinterpret_cast<std::uintptr_t>(view.data);
  return address % static_cast<std::uintptr_t>(kFour * bytes_of(view.dtype)) == 0 && (view.rows <= 1 || view.ld % kFour == 0);
}
template <class... Views>
bool all_aligned(const Views&... views) {
  return (aligned(ConstView(views)) && ...);
}

/// The rows and columns that an operation covers, and whether groups of four columns are aligned in all of its operands.
struct Extent {
  std::int64_t rows = 0, columns = 0;
  bool aligned = false;
};

template <class T>
struct alignas(kFour * sizeof(T)) Four {
  T element[kFour];
};

/// Columns `column` to column + 3 of a row in float32; 0 beyond the last column.
template <class T>
GPU_FUNCTION void load_four(float (&to)[kFour], Strided<const T> from, std::int64_t row, std::int64_t column, const Extent& extent) {
  const T* source = from.data + row * from.ld + column;
  if (extent.aligned && column + kFour <= extent.columns) {
    const Four<T> group = *reinterpret_cast<const Four<T>*>(source);
#pragma unroll
    for (int i = 0; i < kFour; ++i) to[i] = to_float(group.element[i]);
  } else {
#pragma unroll
    for (int i = 0; i < kFour; ++i) to[i] = column + i < extent.columns ? to_float(source[i]) : 0.0f;
  }
}
template <class T>
GPU_FUNCTION void load_four(float (&to)[kFour], Strided<T> from, std::int64_t row, std::int64_t column, const Extent& extent) {
  load_four(to, Strided<const T>{from.data, from.ld}, row, column, extent);
}

/// Stores what stands before the last column, rounded to T.
template <class T>
GPU_FUNCTION void store_four(Strided<T> to, std::int64_t row, std::int64_t column, const Extent& extent, const float (&from)[kFour]) {
  T* target = to.data + row * to.ld + column;
  if (extent.aligned && column + kFour <= extent.columns) {
    Four<T> group;
#pragma unroll
    for (int i = 0; i < kFour; ++i) group.element[i] = from_float<T>(from[i]);
    *reinterpret_cast<Four<T>*>(target) = group;
  } else {
#pragma unroll
    for (int i = 0; i < kFour; ++i)
      if (column + i < extent.columns) target[i] = from_float<T>(from[i]);
  }
}

/// body(row, column) for every group of four columns of a matrix, spread over a grid of over_groups().
template <class Body>
GPU_FUNCTION void for_each_group(std::int64_t rows, std::int64_t columns, const Body& body) {
  const std::int64_t row_step = static_cast<std::int64_t>(gridDim.y) * blockDim.y;
  const std::int64_t column_step = static_cast<std::int64_t>(gridDim.x) * blockDim.x * kFour;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.y) * blockDim.y + threadIdx.y; row < rows; row += row_step)
    for (std::int64_t column = (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kFour; column < columns;
         column += column_step)
      body(row, column);
}

constexpr std::int64_t kLargestGridY = 65535;  // blocks

/// A thread a group of four columns, in blocks of 256 threads as wide as the rows, or one of their powers of two.
inline Launch over_groups(const char* name, std::int64_t rows, std::int64_t columns, Stream stream) {
  constexpr unsigned int kThreads = 256;
  const std::int64_t groups = (columns + kFour - 1) / kFour;
  Launch l{.name = name, .grid = {}, .block = {}, .stream = stream};
  while (l.block.x < kThreads && l.block.x < groups) l.block.x *= 2;
  l.block.y = kThreads / l.block.x;
  l.grid.x = static_cast<unsigned int>((groups + l.block.x - 1) / l.block.x);
  l.grid.y = static_cast<unsigned int>(std::min((rows + l.block.y - 1) / l.block.y, kLargestGridY));
  return l;
}

/// Calls body.template operator()<T>() with the type that elements of an operand are stored in.
template <class Body>
void dispatch_storage(DType dtype, const Body& body) {
  switch (dtype) {
    case DType::float32: return body.template operator()<float>();
    case DType::bfloat16: return body.template operator()<BFloat16>();
    case DType::float16: return body.template operator()<Float16>();
    case DType::float64:
    case DType::uint8: break;
  }
  throw ShapeError(std::string(name_of(dtype)) + " in a kernel that computes in float32");
}

}  // namespace elastiform::ELASTIFORM_GPU
