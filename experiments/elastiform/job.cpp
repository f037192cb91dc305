#include "experiments/elastiform/job.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <string_view>

#include "kernels/collectives/mpi.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

/// A line of memory that is there already: a signal handler may neither allocate nor print.
class Line {
 public:
  Line& add(std::string_view text) {
    const std::size_t count = std::min(text.size(), text_.size() - size_);
    std::memcpy(text_.data() + size_, text.data(), count);
    size_ += count;
    return *this;
  }
  Line& add(int number) {
    size_ = static_cast<std::size_t>(std::to_chars(text_.data() + size_, text_.data() + text_.size(), number).ptr - text_.data());
    return *this;
  }
  void write() const {
    for (std::size_t done = 0; done < size_;) {
      const auto written = ::write(STDERR_FILENO, text_.data() + done, size_ - done);
      if (written < 0 && errno != EINTR) return;
      done += static_cast<std::size_t>(std::max<ssize_t>(written, 0));
    }
  }

 private:
  std::array<char, 512> text_{};
  std::size_t size_ = 0;
};

// What the handler below needs; a handler has no arguments of its own.
std::atomic<MpiRanks*> watched{nullptr};
std::array<char, 300> remedy{};
std::atomic<std::size_t> remedy_size{0};

constexpr timespec kNap{0, 10'000'000};

/// One process of a machine says which rank is gone: the leader, unless it is the one or does not come to it in half a second.
void report_lost(MpiRanks& ranks, int lost) noexcept {
  for (int naps = 0; !ranks.leads() && ranks.leader_is_alive() && !ranks.report_claimed() && naps < 50; ++naps) ::nanosleep(&kNap, nullptr);
  if (!ranks.claim_report()) return;
  Line line;
  line.add("error: rank ").add(lost).add(" of ").add(ranks.size()).add(" was lost, so the others end");
  if (const std::size_t size = remedy_size) line.add("; ").add({remedy.data(), size});
  line.add("\n").write();
}

// A launcher that sees a process die tells the others to end, and kills them a second later. The same signal is its Ctrl-C.
extern "C" void note_termination(int) {
  const int error = errno;
  MpiRanks* const ranks = watched;
  const int lost = ranks ? ranks->lost_rank() : -1;
  if (lost >= 0) {
    report_lost(*ranks, lost);
    ::_exit(1);  // files are whole at every moment
  }
  interrupt();
  errno = error;
}

std::string module_path() {
  std::error_code error;
  return std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "elastiform_mpi.so";
}

}  // namespace

Job::Job() {
  const std::optional<Launch> launch = launched();
  if (!launch || launch->processes == 1) return;
  auto mpi = std::make_unique<MpiRanks>(module_path());
  if (launch->processes != 0 && mpi->size() != launch->processes)
    throw InputError({"mpirun", "the launcher of the MPI that the program was built with",
                      fmt::format("one that starts {} processes which find only {} of them", launch->processes, mpi->size()), ""});
  if (mpi->size() == 1) {
    mpi->end();
    return;
  }
  mpi_ = std::move(mpi);
  watched = mpi_.get();
  std::signal(SIGTERM, note_termination);
  if (!mpi_->leads() && std::freopen("/dev/null", "w", stdout) == nullptr) throw std::runtime_error("/dev/null cannot be opened");
}

Job::~Job() { watched = nullptr; }

Communicator& Job::ranks() { return mpi_ ? static_cast<Communicator&>(*mpi_) : alone(); }
int Job::machine_ranks() const { return mpi_ ? mpi_->machine_ranks() : 1; }
int Job::machine_rank() const { return mpi_ ? mpi_->machine_rank() : 0; }

namespace {
constexpr int kCalled = -1;  // no exit status
}

std::optional<int> Job::wait_for_leader() {
  if (!mpi_ || mpi_->leads()) return std::nullopt;
  int word = 0;
  broadcast(*mpi_, *mpi_, std::as_writable_bytes(std::span(&word, 1)));
  followers_called_ = word == kCalled;
  return followers_called_ ? std::nullopt : std::optional(end(word));
}

void Job::call_followers() {
  if (!mpi_ || !mpi_->leads() || followers_called_) return;
  int word = kCalled;
  broadcast(*mpi_, *mpi_, std::as_writable_bytes(std::span(&word, 1)));
  followers_called_ = true;
}

void Job::say_when_lost(const std::string& text) {
  const std::size_t size = std::min(text.size(), remedy.size());
  remedy_size = 0;
  std::memcpy(remedy.data(), text.data(), size);
  remedy_size = size;
}

int Job::end(int status) {
  if (!mpi_) return status;
  if (mpi_->leads() && !followers_called_) broadcast(*mpi_, *mpi_, std::as_writable_bytes(std::span(&status, 1)));
  watched = nullptr;
  mpi_->end();
  return status;
}

int Job::fail(const std::string& line, int status) {
  std::fflush(stdout);
  const bool mine = !mpi_ || mpi_->claim_report();
  if (mine) fmt::print(stderr, "error: {}{}\n", mpi_ && !mpi_->leads() ? fmt::format("rank {}: ", mpi_->rank()) : "", line);
  if (!mpi_) return status;
  try {
    if (mpi_->leads() && !followers_called_) return end(status);
  } catch (const std::exception&) {
    // A follower is gone too: then the launcher ends the rest.
  }
  watched = nullptr;  // those who end now were not lost
  mpi_->abort(status);
}

int Job::lose(int rank) {
  std::fflush(stdout);
  report_lost(*mpi_, rank);
  // The launcher has seen the death too and ends everybody, mostly within this time; asked to, it says the same in many more words.
  for (int naps = 0; naps < 300; ++naps) ::nanosleep(&kNap, nullptr);
  mpi_->abort(1);
}

void require_equal(Communicator& ranks, const std::vector<std::pair<std::string, std::string>>& values) {
  for (const auto& [what, mine] : values) {
    const std::vector<std::string> all = gather(ranks, mine);
    for (std::size_t rank = 1; rank < all.size(); ++rank)
      if (all[rank] != mine)
        throw InputError({fmt::format("rank {}: {}", rank, what), mine + " as on rank 0", all[rank],
                          "processes that share a run need the same files, program and instruction set (ELASTIFORM_ISA)"});
  }
}

}  // namespace elastiform
