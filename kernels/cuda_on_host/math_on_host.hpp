#pragma once

#include <math.h>  // the names of the global namespace: fmaf, expf, …

#include <cstdint>
#include <type_traits>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda_on_host/numbers.hpp"
#include "kernels/view.hpp"

// Arithmetic and small vectors of CUDA. Functions that are approximate there are exact to rounding here: results of the two agree within
// tolerances, never bit for bit.
namespace elastiform::ELASTIFORM_GPU {

template <class T>
static inline float to_float(T x) {
  if constexpr (std::is_same_v<T, BFloat16>) return host::float_of_bfloat16(x.bits);
  else if constexpr (std::is_same_v<T, Float16>) return host::float_of_float16(x.bits);
  else return x;
}
template <class T>
static inline T from_float(float x) {
  if constexpr (std::is_same_v<T, BFloat16>) return BFloat16{host::bfloat16_of(x)};
  else if constexpr (std::is_same_v<T, Float16>) return Float16{host::float16_of(x)};
  else return x;
}

static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline double rsqrt(double x) { return 1.0 / sqrt(x); }
static inline float __expf(float x) { return expf(x); }
static inline float __logf(float x) { return logf(x); }
static inline float __log2f(float x) { return log2f(x); }
static inline float __sinf(float x) { return sinf(x); }
static inline float __cosf(float x) { return cosf(x); }
static inline float __powf(float x, float y) { return powf(x, y); }
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __fdiv_rn(float x, float y) { return x / y; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
// nvcc may fuse a * b + c, but not through these.
static inline float __fadd_rn(float x, float y) { return x + y; }
static inline float __fsub_rn(float x, float y) { return x - y; }
static inline float __fmul_rn(float x, float y) { return x * y; }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline double __dadd_rn(double x, double y) { return x + y; }
static inline double __dmul_rn(double x, double y) { return x * y; }

static inline unsigned int __float_as_uint(float x) { return host::bits_of(x); }
static inline float __uint_as_float(unsigned int x) { return host::float_of_bits(x); }
static inline int __float_as_int(float x) { return static_cast<int>(host::bits_of(x)); }
static inline float __int_as_float(int x) { return host::float_of_bits(static_cast<std::uint32_t>(x)); }
static inline int __popc(unsigned int x) { return __builtin_popcount(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned int>(x)); }

/// Of one integer type, or float or double, which ignore a not-a-number.
template <class T>
static inline T min(T a, T b) {
  if constexpr (std::is_same_v<T, float>) return fminf(a, b);
  else if constexpr (std::is_same_v<T, double>) return fmin(a, b);
  else return b < a ? b : a;
}
template <class T>
static inline T max(T a, T b) {
  if constexpr (std::is_same_v<T, float>) return fmaxf(a, b);
  else if constexpr (std::is_same_v<T, double>) return fmax(a, b);
  else return a < b ? b : a;
}

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned int x, y;
};
struct alignas(16) uint4 {
  unsigned int x, y, z, w;
};
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static inline double2 make_double2(double x, double y) { return {x, y}; }
static inline int2 make_int2(int x, int y) { return {x, y}; }
static inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
static inline uint2 make_uint2(unsigned int x, unsigned int y) { return {x, y}; }
static inline uint4 make_uint4(unsigned int x, unsigned int y, unsigned int z, unsigned int w) { return {x, y, z, w}; }

}  // namespace elastiform::ELASTIFORM_GPU
