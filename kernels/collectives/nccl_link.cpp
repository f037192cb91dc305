#include "kernels/collectives/nccl_link.hpp"

#include "kernels/collectives/nccl_api.hpp"

namespace elastiform::ELASTIFORM_NCCL {

struct NcclLink::State {
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;

  void check(ncclResult_t result, const std::string& what) const {
    if (result == ncclSuccess || result == ncclInProgress) return;
    const char* const detail = ncclGetLastError(comm);
    throw std::runtime_error("NCCL: " + what + ": " + ncclGetErrorString(result) + (detail && *detail ? std::string("; ") + detail : ""));
  }
};

NcclLink::NcclLink(Communicator& ranks, void* stream) : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.stream = static_cast<cudaStream_t>(stream);
  ncclUniqueId id{};
  if (ranks.leads()) s.check(ncclGetUniqueId(&id), "a name for the job");
  broadcast(ranks, ranks, std::as_writable_bytes(std::span(&id, 1)));
  s.check(ncclCommInitRank(&s.comm, ranks.size(), id, ranks.rank()), "start of rank " + std::to_string(ranks.rank()));
}

NcclLink::~NcclLink() {
  if (state_->comm) ncclCommAbort(state_->comm);
}

void NcclLink::check_queued() const {
  ncclResult_t result = ncclSuccess;
  state_->check(ncclCommGetAsyncError(state_->comm, &result), "state of the job");
  state_->check(result, "a message on its way");
}

void NcclLink::do_send(int to, std::span<const std::byte> bytes) {
  state_->check(ncclSend(bytes.data(), bytes.size(), ncclUint8, to, state_->comm, state_->stream),
                std::to_string(bytes.size()) + " bytes to rank " + std::to_string(to));
}

void NcclLink::do_receive(int from, std::span<std::byte> bytes) {
  state_->check(ncclRecv(bytes.data(), bytes.size(), ncclUint8, from, state_->comm, state_->stream),
                std::to_string(bytes.size()) + " bytes from rank " + std::to_string(from));
}

}  // namespace elastiform::ELASTIFORM_NCCL
