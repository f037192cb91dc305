#pragma once

// Inline PTX, each beside the name of its twin for the host: the only file with asm. Fragment layouts are those of the PTX manual,
// "Matrix multiply-accumulate operation using mma instruction", m16n8k16.
#include <cstdint>

#include "kernels/cuda/launch.hpp"

#ifdef __CUDACC__
namespace elastiform::ELASTIFORM_GPU {

/// 16 bytes from global to shared memory, both 16-byte aligned; of them the first `bytes` (0 … 16), zeros after. Arrives when
/// cp_async_wait<N> says that all but the last N committed groups have, and a barrier has let the other threads know.
GPU_FUNCTION void cp_async16(void* shared, const void* global, int bytes = 16) {
  const unsigned int to = static_cast<unsigned int>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(global), "r"(bytes) : "memory");
}
GPU_FUNCTION void cp_async_commit() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
template <int N>
GPU_FUNCTION void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

/// Four 8x8 matrices of 16-bit elements from shared memory; lane i gives the address of row i % 8 of matrix i / 8, 16-byte aligned.
/// r[j] receives of matrix j row lane / 4, columns 2·(lane % 4) and the next; _trans: of its transpose.
GPU_FUNCTION void ldmatrix_x4(std::uint32_t (&r)[4], const void* shared) {
  const unsigned int from = static_cast<unsigned int>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}
GPU_FUNCTION void ldmatrix_x4_trans(std::uint32_t (&r)[4], const void* shared) {
  const unsigned int from = static_cast<unsigned int>(__cvta_generic_to_shared(shared));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(from)
               : "memory");
}

/// d[16x8] += a[16x16] · b[16x8] with products of bfloat16 or float16 (T) and sums in float32.
template <class T>
GPU_FUNCTION void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1) {
  if constexpr (std::is_same_v<T, BFloat16>)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace elastiform::ELASTIFORM_GPU
#else
#include "kernels/cuda_on_host/ptx_on_host.hpp"  // their twins
#endif
