#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "kernels/cuda_on_host/gpu_on_host.hpp"

// Twins of the instructions in kernels/cuda/ptx.hpp, which describes them. What a lane reads and writes in memory happens in these inline
// functions, so that the sanitizers see it as the kernel's.
namespace elastiform::ELASTIFORM_GPU {

/// Spoils its destination until it is waited for: a wait that comes too early finds NaN.
static inline void cp_async16(void* shared, const void* global, int bytes = 16, const char* file = __builtin_FILE(),
                              int line = __builtin_LINE()) {
  host::check_shared(shared, 16, "cp.async", {file, line});
  if (bytes < 0 || bytes > 16) host::fail("cp.async in %s:%d: %d of 16 bytes", file, line, bytes);
  if (reinterpret_cast<std::uintptr_t>(global) % 16 != 0)
    host::fail("cp.async in %s:%d: an address of global memory is no multiple of 16", file, line);
  std::memset(shared, 0xff, 16);
  host::begin_async_copy({shared, global, bytes}, {file, line});
}
static inline void cp_async_commit() { host::commit_async_copies(); }
template <int N>
void cp_async_wait(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  for (int due = host::async_copies_due(N, {file, line}); due > 0; --due) {
    const host::AsyncCopy copy = host::next_async_copy();
    unsigned char sixteen[16] = {};
    if (copy.bytes > 0) std::memcpy(sixteen, copy.from, static_cast<std::size_t>(copy.bytes));
    std::memcpy(copy.to, sixteen, sizeof sixteen);
  }
}

namespace host {
static inline void load_four(std::uint32_t (&r)[4], const void* shared, bool transposed, Site site) {
  check_shared(shared, 16, "ldmatrix", site);
  std::uint16_t row[8];
  std::memcpy(row, shared, sizeof row);
  load_matrices(row, transposed, r, site);
}
}  // namespace host
static inline void ldmatrix_x4(std::uint32_t (&r)[4], const void* shared, const char* file = __builtin_FILE(),
                               int line = __builtin_LINE()) {
  host::load_four(r, shared, false, {file, line});
}
static inline void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* shared, const char* file = __builtin_FILE(),
                                     int line = __builtin_LINE()) {
  host::load_four(r, shared, true, {file, line});
}

/// Products are exact; a sum adds them to d in the order of the inner index, each time rounded to float32.
template <class T>
void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, const char* file = __builtin_FILE(),
                  int line = __builtin_LINE()) {
  static_assert(std::is_same_v<T, BFloat16> || std::is_same_v<T, Float16>);
  host::multiply(d, a, b0, b1, std::is_same_v<T, Float16>, {file, line});
}

}  // namespace elastiform::ELASTIFORM_GPU
