#include "kernels/cuda/gemm_tensor_cores.hpp"

namespace elastiform::ELASTIFORM_GPU {

void multiply_float16_on_tensor_cores(Stream stream, const Product& p) {
  if (p.a.dtype != DType::float16) start_tensor_gemm<Float16, true, false>(stream, p);
  else if (p.b.dtype != DType::float16) start_tensor_gemm<Float16, false, true>(stream, p);
  else start_tensor_gemm<Float16, false, false>(stream, p);
}

}  // namespace elastiform::ELASTIFORM_GPU
