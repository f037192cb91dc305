#include "kernels/cuda/library_gemm.hpp"

namespace elastiform::ELASTIFORM_GPU {

std::unique_ptr<LibraryGemm> make_library_gemm() { return nullptr; }  // our kernels are what is to be tested

}  // namespace elastiform::ELASTIFORM_GPU
