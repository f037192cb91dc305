#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kernels/collectives/communicator.hpp"

namespace elastiform {

/// What a launcher of MPI (mpirun, srun) says in the environment of a process that it starts.
struct Launch {
  int processes = 0;  // of the job; 0: it does not say
  int rank = 0;
};
/// nullopt when no launcher started this process.
std::optional<Launch> launched();

/// The processes of an MPI job. A rank that waits for another one looks whether the others on its machine are alive, and throws RankLost
/// when one is not. Made once a process and never again, and used by the thread that made it alone.
class MpiRanks final : public Communicator {
 public:
  /// Loads `module` (mpi_module.cpp) and starts MPI. Throws InputError that says what is missing.
  explicit MpiRanks(const std::string& module);
  ~MpiRanks() override;
  MpiRanks(const MpiRanks&) = delete;
  MpiRanks& operator=(const MpiRanks&) = delete;

  int rank() const override;
  int size() const override;
  int machine_ranks() const;  // on this machine
  int machine_rank() const;   // among them
  bool overlaps() const override { return true; }

  // What a signal handler may ask too:
  /// A rank of this machine that died without end(); -1: none.
  int lost_rank() const noexcept;
  /// Whether this process is the one that shall say why the job ends: the first that asks, of those on this machine.
  bool claim_report() noexcept;
  bool report_claimed() const noexcept;
  bool leader_is_alive() const noexcept;  // false too when rank 0 is on another machine

  /// Ends MPI in order: every rank has to call it, and nothing may follow.
  void end();
  /// Asks the launcher to end all ranks, at once.
  [[noreturn]] void abort(int status) noexcept;

 private:
  void do_send(int to, std::span<const std::byte> bytes) override;
  void do_receive(int from, std::span<std::byte> bytes) override;
  Ticket do_start_send(int to, std::span<const std::byte> bytes, int tag) override;
  Ticket do_start_receive(int from, std::span<std::byte> bytes, int tag) override;
  bool do_finished(Ticket ticket) override;
  void do_wait_for_any(std::span<const Ticket> tickets) override;
  void check(int error) const;

  struct Message;
  Ticket start(const Message& message);
  void start_piece(Ticket ticket);
  bool has_ended(Ticket ticket);
  void finish(Ticket ticket);  // waits
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace elastiform
