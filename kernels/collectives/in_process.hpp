#pragma once

#include <memory>

#include "kernels/collectives/communicator.hpp"

namespace elastiform {

/// Logical ranks of one process, each served by a thread of its own: what tests run and what stands under host twins of device links.
/// A send returns when its message was taken, as the strictest of real links do, so whatever waits for itself there waits here; it is told
/// (std::logic_error naming who waits for whom) instead of hanging.
class InProcessRanks {
 public:
  explicit InProcessRanks(int size);
  ~InProcessRanks();
  InProcessRanks(const InProcessRanks&) = delete;
  InProcessRanks& operator=(const InProcessRanks&) = delete;

  Communicator& at(int rank);
  /// The rank is done, or failed: whoever waits for it, now or later, gets RankLost.
  void leave(int rank);

 private:
  class Member;
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace elastiform
