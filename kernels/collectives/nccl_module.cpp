// What the program looks for in the module of NCCL: experiments/elastiform/devices.cpp.
#include "kernels/collectives/nccl_link.hpp"
#include "kernels_stamp.hpp"

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED const char* elastiform_nccl_kernels() { return ELASTIFORM_KERNELS; }

EXPORTED elastiform::Link* elastiform_make_nccl_link(elastiform::Communicator& ranks, void* stream) {
  return new elastiform::ELASTIFORM_NCCL::NcclLink(ranks, stream);
}
