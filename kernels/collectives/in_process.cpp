#include "kernels/collectives/in_process.hpp"

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace elastiform {
namespace {

/// A message on its way. It has a copy of its bytes: whoever sent them may be gone before they are taken.
struct Message {
  std::vector<std::byte> bytes;
  bool taken = false;
};

/// What one rank has begun to send or to receive.
struct Begun {
  enum class What { nothing, send, receive } what = What::nothing;
  int peer = 0, tag = 0;
  std::shared_ptr<Message> message;  // sent
  std::span<std::byte> bytes;        // received
};

}  // namespace

struct InProcessRanks::State {
  std::vector<std::unique_ptr<Member>> members;
  std::mutex mutex;  // guards what follows
  std::condition_variable changed;
  std::map<std::array<int, 3>, std::deque<std::shared_ptr<Message>>> sent;  // from, to, tag
  std::vector<std::vector<Begun>> begun;                                    // by rank and ticket
  std::vector<std::span<const Link::Ticket>> wishes;                        // what a rank waits for: one of these
  std::vector<bool> gone;
  std::string deadlock;  // who waits for whom; empty: nobody in vain

  explicit State(int size)
      : begun(static_cast<std::size_t>(size)), wishes(static_cast<std::size_t>(size)), gone(static_cast<std::size_t>(size), false) {}

  bool is_gone(int rank) const { return gone[static_cast<std::size_t>(rank)]; }
  Begun& at(int rank, Link::Ticket ticket) { return begun[static_cast<std::size_t>(rank)][static_cast<std::size_t>(ticket)]; }
  std::deque<std::shared_ptr<Message>>& arriving(int rank, const Begun& one) { return sent[{one.peer, rank, one.tag}]; }

  /// Whether finish() has something to say of it. A message that was on its way when its sender left has arrived.
  bool has_ended(int rank, const Begun& one) {
    return (one.what == Begun::What::receive ? !arriving(rank, one).empty() : one.message->taken) || is_gone(one.peer);
  }

  bool may_go_on(int rank) {
    const auto& wish = wishes[static_cast<std::size_t>(rank)];
    return wish.empty() || std::any_of(wish.begin(), wish.end(), [&](Link::Ticket ticket) { return has_ended(rank, at(rank, ticket)); });
  }

  void find_deadlock() {
    std::string found;
    for (int rank = 0; rank < static_cast<int>(wishes.size()); ++rank) {
      if (is_gone(rank)) continue;
      if (may_go_on(rank)) return;
      std::string mine;
      for (const Link::Ticket ticket : wishes[static_cast<std::size_t>(rank)]) {
        const Begun& one = at(rank, ticket);
        mine += (mine.empty() ? std::to_string(rank) : " or") +
                (one.what == Begun::What::receive ? " for a message of " : " for its message to be taken by ") + std::to_string(one.peer);
      }
      found += (found.empty() ? "" : ", ") + mine;
    }
    deadlock = found;  // empty when all are gone
  }

  void check(int rank, int peer) const {
    if (peer < 0 || peer >= static_cast<int>(wishes.size()) || peer == rank)
      throw std::logic_error("rank " + std::to_string(rank) + " of " + std::to_string(wishes.size()) + " and rank " + std::to_string(peer));
  }

  Link::Ticket begin(int rank, Begun one) {
    check(rank, one.peer);
    std::vector<Begun>& all = begun[static_cast<std::size_t>(rank)];
    for (const Begun& other : all)
      if (one.what == Begun::What::receive && other.what == one.what && other.peer == one.peer && other.tag == one.tag)
        throw std::logic_error("rank " + std::to_string(rank) + " receives two messages of rank " + std::to_string(one.peer) + " at once");
    if (one.what == Begun::What::send) sent[{rank, one.peer, one.tag}].push_back(one.message);
    changed.notify_all();
    const auto free = std::find_if(all.begin(), all.end(), [](const Begun& other) { return other.what == Begun::What::nothing; });
    const Link::Ticket ticket = static_cast<Link::Ticket>(free - all.begin());
    if (free == all.end()) all.push_back(std::move(one));
    else *free = std::move(one);
    return ticket;
  }

  /// Of one that has ended.
  void finish(int rank, Link::Ticket ticket) {
    const Begun one = std::exchange(at(rank, ticket), {});
    if (one.what == Begun::What::send) {
      if (!one.message->taken) throw RankLost(one.peer, static_cast<int>(wishes.size()));
      return;
    }
    auto& messages = arriving(rank, one);
    if (messages.empty()) throw RankLost(one.peer, static_cast<int>(wishes.size()));
    const std::shared_ptr<Message> message = messages.front();
    if (message->bytes.size() != one.bytes.size())
      throw std::logic_error("rank " + std::to_string(rank) + " receives " + std::to_string(one.bytes.size()) + " bytes, rank " +
                             std::to_string(one.peer) + " sends " + std::to_string(message->bytes.size()));
    messages.pop_front();
    if (!one.bytes.empty()) std::memcpy(one.bytes.data(), message->bytes.data(), one.bytes.size());
    message->taken = true;
    changed.notify_all();
  }

  void wait(std::unique_lock<std::mutex>& lock, int rank, std::span<const Link::Ticket> tickets) {
    auto& wish = wishes[static_cast<std::size_t>(rank)];
    wish = tickets;
    find_deadlock();
    changed.notify_all();
    changed.wait(lock, [&] { return !deadlock.empty() || may_go_on(rank); });
    wish = {};
    if (!deadlock.empty()) throw std::logic_error("ranks wait for each other: " + deadlock);
  }
};

class InProcessRanks::Member final : public Communicator {
 public:
  Member(State& state, int rank, int size) : state_(state), rank_(rank), size_(size) {}
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  bool overlaps() const override { return true; }

 private:
  static constexpr int kPlainTag = 0;

  void do_send(int to, std::span<const std::byte> bytes) override { finish(do_start_send(to, bytes, kPlainTag)); }
  void do_receive(int from, std::span<std::byte> bytes) override { finish(do_start_receive(from, bytes, kPlainTag)); }

  Ticket do_start_send(int to, std::span<const std::byte> bytes, int tag) override {
    const std::lock_guard lock(state_.mutex);
    auto message = std::make_shared<Message>();
    message->bytes.assign(bytes.begin(), bytes.end());
    return state_.begin(rank_, {Begun::What::send, to, tag, std::move(message), {}});
  }

  Ticket do_start_receive(int from, std::span<std::byte> bytes, int tag) override {
    const std::lock_guard lock(state_.mutex);
    return state_.begin(rank_, {Begun::What::receive, from, tag, nullptr, bytes});
  }

  bool do_finished(Ticket ticket) override {
    const std::lock_guard lock(state_.mutex);
    if (!state_.has_ended(rank_, state_.at(rank_, ticket))) return false;
    state_.finish(rank_, ticket);
    return true;
  }

  void do_wait_for_any(std::span<const Ticket> tickets) override {
    std::unique_lock lock(state_.mutex);
    state_.wait(lock, rank_, tickets);
  }

  void finish(Ticket ticket) {
    do_wait_for_any({&ticket, 1});
    do_finished(ticket);
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
