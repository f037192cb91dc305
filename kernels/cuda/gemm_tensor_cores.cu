#include "kernels/cuda/gemm_tensor_cores.hpp"

namespace elastiform::ELASTIFORM_GPU {

void multiply_on_tensor_cores(Stream stream, const Product& p) {
  const bool convert_a = p.a.dtype != DType::bfloat16, convert_b = p.b.dtype != DType::bfloat16;
  if (convert_a && convert_b) start_tensor_gemm<BFloat16, true, true>(stream, p);
  else if (convert_a) start_tensor_gemm<BFloat16, true, false>(stream, p);
  else if (convert_b) start_tensor_gemm<BFloat16, false, true>(stream, p);
  else start_tensor_gemm<BFloat16, false, false>(stream, p);
}

}  // namespace elastiform::ELASTIFORM_GPU
