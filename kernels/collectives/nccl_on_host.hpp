#pragma once

#include <cstddef>

// A twin of NCCL on the host: the same names and rules, between threads of one process, in the order in which they are called. It holds callers
// to what the library leaves undefined: both ends of a message agree on count and type, a communicator keeps to one stream, no rank joins
// twice, none talks to itself, nothing is used after its end. A rule that is broken is an error that says which.
namespace elastiform::nccl_on_host {

struct ncclUniqueId {
  char internal[128];
};
using ncclComm_t = struct CommunicatorOnHost*;
using cudaStream_t = struct StreamOnHost*;
enum ncclResult_t { ncclSuccess = 0, ncclInvalidArgument = 4, ncclInvalidUsage = 5, ncclRemoteError = 6, ncclInProgress = 7 };
enum ncclDataType_t { ncclUint8 = 1, ncclFloat32 = 7 };

ncclResult_t ncclGetUniqueId(ncclUniqueId* id);
ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank);  // returns when all have come
ncclResult_t ncclSend(const void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclRecv(void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream);
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* result);
ncclResult_t ncclCommAbort(ncclComm_t comm);
const char* ncclGetErrorString(ncclResult_t result);
const char* ncclGetLastError(ncclComm_t comm);  // of this thread

/// How the twin reads and writes what messages are in, when it is the stream's turn: memcpy, until somebody says how a device's is reached.
using ReachMemory = void (*)(cudaStream_t stream, void* to, const void* from, std::size_t bytes);
void reach_memory(ReachMemory reach);

}  // namespace elastiform::nccl_on_host
