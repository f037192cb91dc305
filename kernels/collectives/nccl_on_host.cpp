#include "kernels/collectives/nccl_on_host.hpp"

#include <array>
#include <atomic>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "kernels/collectives/in_process.hpp"

namespace elastiform::nccl_on_host {
namespace {

struct Job {
  explicit Job(int size_) : size(size_), ranks(size_) {}
  const int size;
  InProcessRanks ranks;
  std::set<int> joined;
};

/// The jobs that have begun, by the number in their name.
class Jobs {
 public:
  std::uint64_t name() {
    const std::lock_guard lock(mutex_);
    return ++names_;
  }
  /// nullptr when a rank cannot join, with the reason.
  std::shared_ptr<Job> join(std::uint64_t name, int size, int rank, std::string& reason) {
    const std::lock_guard lock(mutex_);
    if (name == 0 || name > names_) reason = "a name that ncclGetUniqueId did not make";
    else if (rank < 0 || rank >= size) reason = "rank " + std::to_string(rank) + " of " + std::to_string(size);
    if (!reason.empty()) return nullptr;
    std::shared_ptr<Job>& job = jobs_[name];
    if (!job) job = std::make_shared<Job>(size);
    if (job->size != size) reason = "ranks that were told of " + std::to_string(job->size) + " and of " + std::to_string(size);
    else if (!job->joined.insert(rank).second) reason = "rank " + std::to_string(rank) + " joins twice";
    return reason.empty() ? job : nullptr;
  }

 private:
  std::mutex mutex_;
  std::uint64_t names_ = 0;
  std::map<std::uint64_t, std::shared_ptr<Job>> jobs_;
};

Jobs& jobs() {
  static Jobs all;
  return all;
}

void copy_on_host(cudaStream_t, void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); }
std::atomic<ReachMemory> reach{copy_on_host};

thread_local std::string last_error;

ncclResult_t refuse(ncclResult_t result, std::string reason) {
  last_error = std::move(reason);
  return result;
}

/// What goes before a message, so that both ends can be compared.
struct Header {
  std::uint64_t count = 0, type = 0;
  bool operator==(const Header&) const = default;
};

std::size_t bytes_of(const Header& header) { return header.count * (header.type == ncclFloat32 ? 4 : 1); }
std::string text(const Header& header) { return std::to_string(header.count) + " of type " + std::to_string(header.type); }

}  // namespace

struct CommunicatorOnHost {
  std::shared_ptr<Job> job;
  int rank = 0;
  cudaStream_t stream = nullptr;
  ncclResult_t failed = ncclSuccess;

  Communicator& ranks() { return job->ranks.at(rank); }

  /// Runs `exchange` if the call is a lawful one; what it throws becomes this communicator's error from then on.
  template <class Exchange>
  ncclResult_t run(int peer, const void* data, cudaStream_t queue, const Exchange& exchange) {
    if (failed != ncclSuccess) return refuse(failed, "an earlier call failed");
    if (peer < 0 || peer >= job->size || peer == rank)
      return refuse(ncclInvalidArgument,
                    "rank " + std::to_string(rank) + " of " + std::to_string(job->size) + " and rank " + std::to_string(peer));
    if (!data) return refuse(ncclInvalidArgument, "no memory");
    if (!queue) return refuse(ncclInvalidUsage, "the default stream, which waits for all others");
    if (stream && stream != queue) return refuse(ncclInvalidUsage, "another stream than before, and nothing orders the two");
    stream = queue;
    try {
      return failed = exchange();
    } catch (const RankLost& error) {
      return failed = refuse(ncclRemoteError, error.what());
    } catch (const std::logic_error& error) {
      return failed = refuse(ncclInvalidUsage, error.what());
    }
  }
};

void reach_memory(ReachMemory how) { reach = how; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  if (!id) return refuse(ncclInvalidArgument, "no memory");
  const std::uint64_t name = jobs().name();
  *id = {};
  std::memcpy(id->internal, &name, sizeof name);
  return ncclSuccess;
}

ncclResult_t ncclCommInitRank(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank) {
  std::uint64_t name = 0;
  std::memcpy(&name, id.internal, sizeof name);
  std::string reason;
  std::shared_ptr<Job> job = jobs().join(name, ranks, rank, reason);
  if (!comm || !job) return refuse(ncclInvalidArgument, comm ? reason : "no memory");
  auto made = std::make_unique<CommunicatorOnHost>();
  made->job = std::move(job);
  made->rank = rank;
  try {
    barrier(made->ranks());
  } catch (const std::exception& error) {
    return refuse(ncclRemoteError, error.what());
  }
  *comm = made.release();
  return ncclSuccess;
}

ncclResult_t ncclSend(const void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  if (!comm) return refuse(ncclInvalidArgument, "no communicator");
  return comm->run(peer, data, stream, [&] {
    const Header header{count, static_cast<std::uint64_t>(type)};
    comm->ranks().send(peer, std::as_bytes(std::span(&header, 1)));
    std::vector<std::byte> bytes(bytes_of(header));
    reach.load()(stream, bytes.data(), data, bytes.size());
    comm->ranks().send(peer, bytes);
    return ncclSuccess;
  });
}

ncclResult_t ncclRecv(void* data, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  if (!comm) return refuse(ncclInvalidArgument, "no communicator");
  return comm->run(peer, data, stream, [&] {
    const Header expected{count, static_cast<std::uint64_t>(type)};
    Header sent;
    comm->ranks().receive(peer, std::as_writable_bytes(std::span(&sent, 1)));
    if (sent != expected) {
      comm->job->ranks.leave(comm->rank);  // or its sender would wait for ever
      return refuse(ncclInvalidUsage, "rank " + std::to_string(peer) + " sends " + text(sent) + ", received are " + text(expected));
    }
    std::vector<std::byte> bytes(bytes_of(sent));
    comm->ranks().receive(peer, bytes);
    reach.load()(stream, data, bytes.data(), bytes.size());
    return ncclSuccess;
  });
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* result) {
  if (!comm || !result) return refuse(ncclInvalidArgument, "no communicator");
  *result = comm->failed;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  if (!comm) return refuse(ncclInvalidArgument, "no communicator");
  comm->job->ranks.leave(comm->rank);
  delete comm;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess: return "no error";
    case ncclInvalidArgument: return "invalid argument";
    case ncclInvalidUsage: return "invalid usage";
    case ncclRemoteError: return "a rank is gone";
    case ncclInProgress: return "in progress";
  }
  return "unknown result";
}

const char* ncclGetLastError(ncclComm_t) { return last_error.c_str(); }

}  // namespace elastiform::nccl_on_host
