#include "kernels/collectives/mpi.hpp"

#include <dlfcn.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <ctime>
#include <utility>
#include <vector>

#include "kernels/collectives/mpi_functions.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

/// What the ranks of a machine know of each other, in memory that they share and that begins as zeros.
struct Machine {
  struct Rank {
    std::atomic<int> process, rank, ended;
  };
  std::atomic<int> reported;
  Rank ranks[(MpiFunctions::kMachineBytes - 64) / sizeof(Rank)];
};
static_assert(sizeof(Machine) <= MpiFunctions::kMachineBytes && std::atomic<int>::is_always_lock_free);
constexpr int kMostRanks = static_cast<int>(std::size(Machine{}.ranks));

bool is_alive(int process) noexcept { return ::kill(process, 0) == 0 || errno != ESRCH; }

}  // namespace

std::optional<Launch> launched() {
  const auto number = [](const char* name) -> std::optional<int> {
    const char* const text = std::getenv(name);
    return text && *text ? std::optional(std::max(0, std::atoi(text))) : std::nullopt;
  };
  // Open MPI; MPICH and Slurm; whoever speaks PMIx alone.
  for (const auto& [processes, rank] : {std::pair{"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"}, {"PMI_SIZE", "PMI_RANK"}})
    if (const auto said = number(processes)) return Launch{*said, number(rank).value_or(0)};
  if (const auto rank = number("PMIX_RANK")) return Launch{number("SLURM_NTASKS").value_or(0), *rank};
  return std::nullopt;
}

/// What is left of a message on its way.
struct MpiRanks::Message {
  int peer = 0, tag = 0;
  const std::byte* sent = nullptr;  // of the two one is set
  std::byte* received = nullptr;
  std::size_t bytes = 0;
  enum class State { free, on_its_way, ended } state = State::free;
};

// The job that this thread started; others have none.
thread_local const void* state_of_this_thread = nullptr;

struct MpiRanks::State {
  const MpiFunctions* mpi = nullptr;
  Machine* machine = nullptr;     // nullptr: MPI has ended, or processes of this machine cannot see each other
  int size = 0;                   // of the ranks that are watched
  std::vector<Message> messages;  // by ticket, which is also the number of its request

  const Machine::Rank& at(int i) const { return machine->ranks[i]; }
};

MpiRanks::MpiRanks(const std::string& module) : state_(std::make_unique<State>()) {
  State& s = *state_;
  state_of_this_thread = state_.get();
  // Global: some versions of MPI load parts of themselves that look for their symbols there.
  void* const library = ::dlopen(module.c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (!library)
    throw InputError({"mpirun", "a program that was built with MPI (apt-get install libopenmpi-dev openmpi-bin, then ./dev build)",
                      std::string(::dlerror()), "without mpirun it needs none"});
  const auto start = reinterpret_cast<StartMpi>(::dlsym(library, kStartMpi));
  if (!start) throw std::logic_error(module + " has no " + kStartMpi);
  char reason[256] = "";
  s.mpi = start(reason, sizeof reason);
  if (!s.mpi) throw std::runtime_error(std::string("MPI cannot be started: ") + reason);

  Machine* const machine = static_cast<Machine*>(s.mpi->machine_memory);
  if (s.mpi->machine_rank < kMostRanks) {
    Machine::Rank& mine = machine->ranks[s.mpi->machine_rank];
    mine.rank = s.mpi->rank;
    mine.process = static_cast<int>(::getpid());
  }
  check(s.mpi->barrier());
  s.size = std::min(s.mpi->machine_ranks, kMostRanks);
  s.machine = machine;
  // In containers of their own processes have numbers that mean nothing to others.
  for (int i = 0; i < s.size; ++i)
    if (!is_alive(s.at(i).process)) s.machine = nullptr;
  check(s.mpi->barrier());  // nobody ends before everybody has looked
}

MpiRanks::~MpiRanks() = default;

int MpiRanks::rank() const { return state_->mpi->rank; }
int MpiRanks::size() const { return state_->mpi->size; }
int MpiRanks::machine_ranks() const { return state_->mpi->machine_ranks; }
int MpiRanks::machine_rank() const { return state_->mpi->machine_rank; }

int MpiRanks::lost_rank() const noexcept {
  const State& s = *state_;
  for (int i = 0; s.machine && i < s.size; ++i)
    if (s.at(i).ended == 0 && !is_alive(s.at(i).process)) return s.at(i).rank;
  return -1;
}

bool MpiRanks::claim_report() noexcept { return !state_->machine || state_->machine->reported.exchange(1) == 0; }
bool MpiRanks::report_claimed() const noexcept { return state_->machine && state_->machine->reported != 0; }

bool MpiRanks::leader_is_alive() const noexcept {
  const State& s = *state_;
  for (int i = 0; s.machine && i < s.size; ++i)
    if (s.at(i).rank == 0) return is_alive(s.at(i).process);
  return false;
}

void MpiRanks::end() {
  State& s = *state_;
  if (s.machine) s.machine->ranks[s.mpi->machine_rank].ended = 1;
  s.machine = nullptr;  // its memory goes with MPI
  check(s.mpi->end());
}

void MpiRanks::abort(int status) noexcept {
  state_->mpi->abort(status);
  ::_exit(status);
}

void MpiRanks::check(int error) const {
  if (error == 0) return;
  if (const int lost = lost_rank(); lost >= 0) throw RankLost(lost, size());
  char text[256] = "";
  state_->mpi->error_text(error, text, sizeof text);
  throw std::runtime_error(std::string("MPI: ") + text);
}

MpiRanks::Ticket MpiRanks::start(const Message& message) {
  std::vector<Message>& all = state_->messages;
  const auto free = std::find_if(all.begin(), all.end(), [](const Message& one) { return one.state == Message::State::free; });
  const Ticket ticket = static_cast<Ticket>(free - all.begin());
  if (free == all.end()) all.emplace_back();
  all[static_cast<std::size_t>(ticket)] = message;
  all[static_cast<std::size_t>(ticket)].state = Message::State::on_its_way;
  start_piece(ticket);
  return ticket;
}

void MpiRanks::start_piece(Ticket ticket) {
  if (state_of_this_thread != state_.get()) throw std::logic_error("MPI is used by another thread than the one that started it");
  const Message& m = state_->messages[static_cast<std::size_t>(ticket)];
  const int count = static_cast<int>(std::min<std::size_t>(m.bytes, MpiFunctions::kMostBytes));
  check(m.sent ? state_->mpi->start_send(ticket, m.peer, m.sent, count, m.tag)
               : state_->mpi->start_receive(ticket, m.peer, m.received, count, m.tag));
}

bool MpiRanks::has_ended(Ticket ticket) {
  Message& m = state_->messages[static_cast<std::size_t>(ticket)];
  if (m.state == Message::State::ended) return true;
  int done = 0;
  check(state_->mpi->test(ticket, &done));
  if (!done) return false;
  const std::size_t piece = std::min<std::size_t>(m.bytes, MpiFunctions::kMostBytes);
  m.bytes -= piece;
  if (m.bytes > 0) {
    if (m.sent) m.sent += piece;
    else m.received += piece;
    start_piece(ticket);
    return false;
  }
  m.state = Message::State::ended;
  // Memory of another process is read in place: had it died in between, MPI may call the message received all the same.
  if (m.received)
    if (const int lost = lost_rank(); lost >= 0) throw RankLost(lost, size());
  return true;
}

bool MpiRanks::do_finished(Ticket ticket) {
  if (!has_ended(ticket)) return false;
  state_->messages[static_cast<std::size_t>(ticket)].state = Message::State::free;
  return true;
}

void MpiRanks::do_wait_for_any(std::span<const Ticket> tickets) {
  // Awake while an answer can be near; then asleep between looks, so that ranks which compute have the cores.
  constexpr int kAwake = 2000, kBetweenChecks = 200;
  constexpr timespec kNap{0, 50'000};
  for (int looks = 0, naps = 0;;) {
    for (const Ticket ticket : tickets)
      if (has_ended(ticket)) return;
    looks += static_cast<int>(tickets.size());  // many messages are no reason to be awake for longer
    if (looks < kAwake) {
      ::sched_yield();
      continue;
    }
    looks = kAwake;
    ::nanosleep(&kNap, nullptr);
    if (++naps % kBetweenChecks != 0) continue;
    if (const int lost = lost_rank(); lost >= 0) throw RankLost(lost, size());
  }
}

namespace {
constexpr int kPlainTag = 0;
std::byte no_bytes{};  // an empty message has an address too
}  // namespace

MpiRanks::Ticket MpiRanks::do_start_send(int to, std::span<const std::byte> bytes, int tag) {
  return start({.peer = to, .tag = tag, .sent = bytes.empty() ? &no_bytes : bytes.data(), .bytes = bytes.size()});
}

MpiRanks::Ticket MpiRanks::do_start_receive(int from, std::span<std::byte> bytes, int tag) {
  return start({.peer = from, .tag = tag, .received = bytes.empty() ? &no_bytes : bytes.data(), .bytes = bytes.size()});
}

void MpiRanks::finish(Ticket ticket) {
  do_wait_for_any({&ticket, 1});
  do_finished(ticket);
}

void MpiRanks::do_send(int to, std::span<const std::byte> bytes) { finish(do_start_send(to, bytes, kPlainTag)); }
void MpiRanks::do_receive(int from, std::span<std::byte> bytes) { finish(do_start_receive(from, bytes, kPlainTag)); }

}  // namespace elastiform
