#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace elastiform {

/// Another rank is gone: it died, or gave up. Nothing that all ranks take part in can be finished.
class RankLost : public std::runtime_error {
 public:
  RankLost(int rank, int size);
  int rank() const { return rank_; }

 private:
  int rank_;
};

/// Carries bytes between ranks, both of them in the memory that the link is made for: the host's, or a device's. Every sum and broadcast
/// is made of these two, so one more kind of link is one more class.
class Link {
 public:
  virtual ~Link() = default;
  /// Messages from one rank to another arrive in the order they were sent; receive() asks for as many bytes as the next one has. Both return
  /// when `bytes` may be used by whatever comes next on the memory's device. Throw RankLost.
  void send(int to, std::span<const std::byte> bytes);
  void receive(int from, std::span<std::byte> bytes);
  std::int64_t sent_bytes() const { return sent_bytes_; }  // so far

  // Messages that are on their way while their rank goes on. Those of one tag, from 1 on, arrive in their order, and apart from those of other
  // tags and of the two above. `bytes` are the message's until finished() has said true; a rank receives one message at a time of a rank
  // and a tag. A link that has no such messages does each at once.
  using Ticket = int;
  Ticket start_send(int to, std::span<const std::byte> bytes, int tag);
  Ticket start_receive(int from, std::span<std::byte> bytes, int tag);
  /// Does not wait. After true the ticket is void.
  bool finished(Ticket ticket) { return ticket == kAtOnce || do_finished(ticket); }
  /// Returns when finished() of one of them says true.
  void wait_for_any(std::span<const Ticket> tickets);
  /// Whether messages are on their way while their rank goes on.
  virtual bool overlaps() const { return false; }
  /// Throws if a message that was queued before has failed meanwhile.
  virtual void check_queued() const {}

 protected:
  static constexpr Ticket kAtOnce = -1;

 private:
  virtual void do_send(int to, std::span<const std::byte> bytes) = 0;
  virtual void do_receive(int from, std::span<std::byte> bytes) = 0;
  virtual Ticket do_start_send(int to, std::span<const std::byte> bytes, int tag);
  virtual Ticket do_start_receive(int from, std::span<std::byte> bytes, int tag);
  virtual bool do_finished(Ticket ticket);
  virtual void do_wait_for_any(std::span<const Ticket> tickets);
  std::int64_t sent_bytes_ = 0;
};

/// The processes (in tests: threads) that work on one run together, as one of them sees it; a link between their host memories. Every rank
/// does the same in the same order. Rank 0 leads: it alone writes files and prints. Used by one thread of its rank.
class Communicator : public Link {
 public:
  virtual int rank() const = 0;
  virtual int size() const = 0;
  bool leads() const { return rank() == 0; }
};

/// That of a process by itself.
Communicator& alone();

// Called by every rank, as all functions below.

/// Returns when every rank has called it.
void barrier(Communicator& ranks);

/// Rank 0's bytes to all, down a binary tree. `link` connects the ranks of `ranks`.
void broadcast(const Communicator& ranks, Link& link, std::span<std::byte> bytes);
std::string broadcast(Communicator& ranks, std::string text);

/// values holds an equal part for each rank, in the order of ranks; a rank fills its own, and all have all of them afterwards.
void share_parts(Communicator& ranks, std::span<double> values);

/// Rank 0 gets the texts of all ranks in their order, the others nothing.
std::vector<std::string> gather(Communicator& ranks, const std::string& text);

/// Whether it is true on some rank: the same answer everywhere.
bool any(Communicator& ranks, bool value);

}  // namespace elastiform
