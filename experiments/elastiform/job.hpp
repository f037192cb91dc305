#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/collectives/communicator.hpp"

namespace elastiform {

class MpiRanks;

/// The processes that run one command together: this one, or those that mpirun started. One leads: it reads the command line, and calls the
/// others, who wait, to the same command when there is something to share. One line says why a job failed, whichever process found out.
class Job {
 public:
  /// Loads MPI when a launcher started several processes. InputError when that cannot be.
  Job();
  ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  Communicator& ranks();
  int machine_ranks() const;  // processes of the job on this machine
  int machine_rank() const;   // this one's number among them

  /// Followers wait here; returns the status to end with when the leader came to its end without them, nullopt when it called them.
  std::optional<int> wait_for_leader();
  /// The leader: from now on followers run the same command, in step with it.
  void call_followers();

  /// What is to be done when a rank dies, behind "rank 2 of 4 was lost": at most 300 characters.
  void say_when_lost(const std::string& remedy);

  int end(int status);                            // in order; returns the status
  int fail(const std::string& line, int status);  // prints `error: line` if nobody has, and takes the other ranks along
  int lose(int rank);                             // the same for a rank that is gone; status 1

 private:
  std::unique_ptr<MpiRanks> mpi_;  // nullptr: one process
  bool followers_called_ = false;
};

/// Every rank names what must be equal on all (what it is, its value); InputError on rank 0 for the first that is not.
void require_equal(Communicator& ranks, const std::vector<std::pair<std::string, std::string>>& values);

/// What Ctrl-C does, for whoever is told to stop another way.
void interrupt();

}  // namespace elastiform
