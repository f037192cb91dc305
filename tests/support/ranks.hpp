#pragma once

#include <functional>

#include "kernels/collectives/communicator.hpp"

namespace elastiform {

/// Runs body(communicator of rank r) on a thread for each r, and returns when all are done. A rank that throws is gone for the others; what the
/// first one threw is rethrown, RankLost only when nothing else was thrown.
void run_ranks(int size, const std::function<void(Communicator&)>& body);

}  // namespace elastiform
