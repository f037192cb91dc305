#include "kernels/collectives/in_process.hpp"

#include <condition_variable>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

namespace elastiform {
namespace {

/// What one rank has on its way to another one: at most one message, in the sender's memory.
struct Slot {
  std::span<const std::byte> bytes;
  bool full = false;
};

/// What a rank waits for.
struct Wish {
  enum class What { nothing, taken, arrived } what = What::nothing;
  int peer = 0;
};

}  // namespace

struct InProcessRanks::State {
  std::vector<std::unique_ptr<Member>> members;
  std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  std::vector<Slot> slots;  // from · size + to
  std::vector<Wish> wishes;
  std::vector<bool> gone;
  std::string deadlock;  // who waits for whom; empty: nobody in vain

  explicit State(int size)
      : slots(static_cast<std::size_t>(size * size)), wishes(static_cast<std::size_t>(size)), gone(static_cast<std::size_t>(size), false) {}

  Slot& slot(int from, int to) { return slots[static_cast<std::size_t>(from) * wishes.size() + static_cast<std::size_t>(to)]; }
  bool is_gone(int rank) const { return gone[static_cast<std::size_t>(rank)]; }

  bool may_go_on(int rank) {
    const Wish& wish = wishes[static_cast<std::size_t>(rank)];
    if (wish.what == Wish::What::nothing) return true;
    // A message that was on its way when its sender left has arrived.
    if (wish.what == Wish::What::arrived ? slot(wish.peer, rank).full : !slot(rank, wish.peer).full) return true;
    return is_gone(wish.peer);
  }

  void find_deadlock() {
    std::string found;
    for (std::size_t rank = 0; rank < wishes.size(); ++rank) {
      if (gone[rank]) continue;
      if (may_go_on(static_cast<int>(rank))) return;
      found += (found.empty() ? "" : ", ") + std::to_string(rank) +
               (wishes[rank].what == Wish::What::arrived ? " for a message of " : " for its message to be taken by ") +
               std::to_string(wishes[rank].peer);
    }
    deadlock = found;  // empty when all are gone
  }

  void wait(std::unique_lock<std::mutex>& lock, int rank, Wish wish) {
    Wish& mine = wishes[static_cast<std::size_t>(rank)];
    mine = wish;
    find_deadlock();
    changed.notify_all();
    changed.wait(lock, [&] { return !deadlock.empty() || may_go_on(rank); });
    mine = {};
    if (!deadlock.empty()) throw std::logic_error("ranks wait for each other: " + deadlock);
  }

  void check(int rank, int peer) const {
    if (peer < 0 || peer >= static_cast<int>(wishes.size()) || peer == rank)
      throw std::logic_error("rank " + std::to_string(rank) + " of " + std::to_string(wishes.size()) + " and rank " + std::to_string(peer));
  }
};

class InProcessRanks::Member final : public Communicator {
 public:
  Member(State& state, int rank, int size) : state_(state), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }

 private:
  void do_send(int to, std::span<const std::byte> bytes) override {
    std::unique_lock lock(state_.mutex);
    state_.check(rank_, to);
    Slot& slot = state_.slot(rank_, to);
    slot = {bytes, true};
    state_.wait(lock, rank_, {Wish::What::taken, to});
    if (!slot.full) return;
    slot = {};
    throw RankLost(to, size_);
  }

  void do_receive(int from, std::span<std::byte> bytes) override {
    std::unique_lock lock(state_.mutex);
    state_.check(rank_, from);
    Slot& slot = state_.slot(from, rank_);
    state_.wait(lock, rank_, {Wish::What::arrived, from});
    if (!slot.full) throw RankLost(from, size_);
    if (slot.bytes.size() != bytes.size())
      throw std::logic_error("rank " + std::to_string(rank_) + " receives " + std::to_string(bytes.size()) + " bytes, rank " +
                             std::to_string(from) + " sends " + std::to_string(slot.bytes.size()));
    if (!bytes.empty()) std::memcpy(bytes.data(), slot.bytes.data(), bytes.size());
    slot = {};
    state_.changed.notify_all();
  }

  State& state_;
  int rank_, size_;
};

InProcessRanks::InProcessRanks(int size) : state_(std::make_unique<State>(size)) {
  for (int rank = 0; rank < size; ++rank) state_->members.push_back(std::make_unique<Member>(*state_, rank, size));
}
InProcessRanks::~InProcessRanks() = default;

Communicator& InProcessRanks::at(int rank) { return *state_->members[static_cast<std::size_t>(rank)]; }

void InProcessRanks::leave(int rank) {
  const std::lock_guard lock(state_->mutex);
  state_->gone[static_cast<std::size_t>(rank)] = true;
  state_->find_deadlock();
  state_->changed.notify_all();
}

}  // namespace elastiform
