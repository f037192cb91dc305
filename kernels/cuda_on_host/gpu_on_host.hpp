#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <tuple>
#include <type_traits>
#include <utility>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda_on_host/device_calls.hpp"
#include "kernels/cuda_on_host/math_on_host.hpp"
#include "kernels/cuda_on_host/pointers.hpp"
#include "kernels/cuda_on_host/streams.hpp"
#include "kernels/view.hpp"

// The names of gpu.hpp for g++ and clang: CUDA's functions as calls of a runtime that runs the threads of a block as fibers.
#define GPU_KERNEL static void
#define GPU_FUNCTION static inline
#define SHARED(T, name, dimensions) auto& name = ::elastiform::ELASTIFORM_GPU::host::shared<T dimensions>([] {}, #name)
#define DYN_SHARED(T, name) T* const name = static_cast<T*>(::elastiform::ELASTIFORM_GPU::host::dynamic_shared())
#define __launch_bounds__(...)  // what it promises shows on a GPU only
#define __align__(bytes) alignas(bytes)

namespace elastiform::ELASTIFORM_GPU {

constexpr unsigned int kFullMask = 0xffffffffu;
constexpr int warpSize = 32;

inline constexpr const Dim3& threadIdx = host::thread_index;
inline constexpr const Dim3& blockIdx = host::block_index;
inline constexpr const Dim3& blockDim = host::block_dimensions;
inline constexpr const Dim3& gridDim = host::grid_dimensions;

namespace host {

/// Declaration is the type of a lambda: another one at each SHARED and in each instance of a template around it.
template <class Array, class Declaration>
Array& shared(Declaration /*unused*/, const char* name) {
  static char key;
  return *static_cast<Array*>(shared_array(&key, sizeof(Array), alignof(Array), name));
}

template <class T>
T shuffle_any(WarpOperation kind, unsigned int mask, T value, int argument, int width, Site site) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = shuffle(kind, mask, bits, argument, width, site);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace host

// The last two parameters name the place in the kernel.
static inline void __syncthreads(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { host::block_barrier({file, line}); }
static inline void __syncwarp(unsigned int mask = kFullMask, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  host::warp_barrier(mask, {file, line});
}
template <class T>
T __shfl_sync(unsigned int mask, T value, int lane, int width = warpSize, const char* file = __builtin_FILE(),
              int line = __builtin_LINE()) {
  return host::shuffle_any(host::WarpOperation::shuffle, mask, value, lane, width, {file, line});
}
template <class T>
T __shfl_up_sync(unsigned int mask, T value, unsigned int delta, int width = warpSize, const char* file = __builtin_FILE(),
                 int line = __builtin_LINE()) {
  return host::shuffle_any(host::WarpOperation::shuffle_up, mask, value, static_cast<int>(delta), width, {file, line});
}
template <class T>
T __shfl_down_sync(unsigned int mask, T value, unsigned int delta, int width = warpSize, const char* file = __builtin_FILE(),
                   int line = __builtin_LINE()) {
  return host::shuffle_any(host::WarpOperation::shuffle_down, mask, value, static_cast<int>(delta), width, {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned int mask, T value, int lane_mask, int width = warpSize, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  return host::shuffle_any(host::WarpOperation::shuffle_xor, mask, value, lane_mask, width, {file, line});
}
static inline unsigned int __ballot_sync(unsigned int mask, int vote, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return host::ballot(mask, vote != 0, {file, line});
}
static inline int __any_sync(unsigned int mask, int vote, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return host::ballot(mask, vote != 0, {file, line}) != 0 ? 1 : 0;
}
static inline int __all_sync(unsigned int mask, int vote, const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return host::ballot(mask, vote != 0, {file, line}) == mask ? 1 : 0;
}

// Atomics order nothing, as on a GPU; a fence does. Each returns what was there.
static inline void __threadfence() { host::fence(); }
static inline void __threadfence_block() { host::fence(); }
template <class T>
T atomicAdd(T* p, std::type_identity_t<T> value) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8);
  if constexpr (std::is_integral_v<T>) {
    return __atomic_fetch_add(p, value, __ATOMIC_RELAXED);
  } else {
    T old;
    __atomic_load(p, &old, __ATOMIC_RELAXED);
    for (T sum = old + value; !__atomic_compare_exchange(p, &old, &sum, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED);) sum = old + value;
    return old;
  }
}
template <class T>
T atomicExch(T* p, std::type_identity_t<T> value) {
  T old;
  __atomic_exchange(p, &value, &old, __ATOMIC_RELAXED);
  return old;
}
template <class T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>);
  __atomic_compare_exchange(p, &expected, &value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}
template <class T>
T atomicMax(T* p, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>);
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (old < value && !__atomic_compare_exchange_n(p, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}
template <class T>
T atomicMin(T* p, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>);
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (value < old && !__atomic_compare_exchange_n(p, &old, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, std::type_identity_t<T> value) {
  *p = value;
}

namespace host {

/// A launch that waits in its stream, with its arguments.
template <class... Parameters>
class KernelWork final : public Work {
 public:
  KernelWork(const Launch& launch, void (*kernel)(Parameters...), Parameters... arguments)
      : Work(launch), kernel_(kernel), arguments_(arguments...) {}
  void run() override { run_grid(launch(), {this, &call, &begin_, &end_}); }
  void check_pointers() const override {
    int number = 0;
    const auto check = [&](const auto& argument) {
      ++number;
      for_each_pointer(argument, [&](const void* pointer) { check_pointer(launch(), number, pointer); });
    };
    std::apply([&](const auto&... argument) { (check(argument), ...); }, arguments_);
  }

 private:
  static void call(const void* work) {
    const auto& self = *static_cast<const KernelWork*>(work);
    std::apply(self.kernel_, self.arguments_);
  }
  void (*kernel_)(Parameters...);
  std::tuple<Parameters...> arguments_;
  char begin_ = 0, end_ = 0;  // addresses that order memory
};

}  // namespace host

/// Puts the kernel into its stream. Throws DeviceError for sizes that a GPU refuses and for pointers to other memory than the device's;
/// what goes wrong inside is thrown by whoever waits for the stream.
template <class... Parameters, class... Arguments>
void launch(const Launch& l, void (*kernel)(Parameters...), Arguments&&... arguments) {
  static_assert((... && !std::is_reference_v<Parameters>), "what a reference refers to would be gone when the kernel runs");
  host::check(l);
  auto work = std::make_unique<host::KernelWork<Parameters...>>(l, kernel, static_cast<Parameters>(arguments)...);
  work->check_pointers();
  host::enqueue(l.stream, std::move(work));
}

}  // namespace elastiform::ELASTIFORM_GPU
