// A module in the place of elastiform_cuda.so, for tests/experiments/device.cpp: as MODULE_KERNELS says it was built from these kernels or from
// others; without, it is something else altogether. It makes no backend.
#include "kernels/backend.hpp"
#include "kernels_stamp.hpp"

#define EXPORTED extern "C" __attribute__((visibility("default")))

#ifdef MODULE_KERNELS
EXPORTED const char* elastiform_cuda_kernels() { return MODULE_KERNELS; }
EXPORTED elastiform::Backend* elastiform_make_cuda_backend(elastiform::Precision /*precision*/, bool /*with_library*/,
                                                           elastiform::LinkMaker /*links*/, int /*process*/) {
  return nullptr;
}
#endif
