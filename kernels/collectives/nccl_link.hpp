#pragma once

#include <memory>

#include "kernels/collectives/communicator.hpp"

// Compiled twice: ELASTIFORM_NCCL=nccl with the library, into a module, and ELASTIFORM_NCCL=nccl_on_host with its twin on the host, for tests.
namespace elastiform::ELASTIFORM_NCCL {

/// Carries bytes between the devices of ranks, each rank with a device of its own. Messages are queued in `stream`, a cudaStream_t: what comes
/// later in that stream finds them sent or received, and the host does not wait. Ranks find each other through `ranks`, which stays in charge
/// of whether they are alive.
class NcclLink final : public Link {
 public:
  /// Called by every rank. Throws std::runtime_error with what NCCL says, then and at every message.
  NcclLink(Communicator& ranks, void* stream);
  /// Gives up what is still queued, so that nothing waits for a rank that is gone. In order, all of it is done before: synchronize the stream.
  ~NcclLink() override;
  NcclLink(const NcclLink&) = delete;
  NcclLink& operator=(const NcclLink&) = delete;

  void check_queued() const override;

 private:
  void do_send(int to, std::span<const std::byte> bytes) override;
  void do_receive(int from, std::span<std::byte> bytes) override;

  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace elastiform::ELASTIFORM_NCCL
