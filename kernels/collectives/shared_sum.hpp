#pragma once

#include "kernels/collectives/communicator.hpp"
#include "kernels/collectives/sum_tree.hpp"

namespace elastiform {

/// The numbers of a SharedSum: in slots, and in the memory that its messages are in.
struct SummedNumbers {
  virtual ~SummedNumbers() = default;
  virtual void add(int to, int from) = 0;             // slot to += slot from
  virtual std::span<std::byte> packed(int slot) = 0;  // a slot as a message
  virtual std::span<std::byte> room() = 0;            // for a message that is received; one is on its way at a time
  virtual void add_received(int slot) = 0;            // to a slot, what came
  virtual void copy_received(int slot) = 0;           // into a slot, what came
};

/// A sum of SumTree and its way back to all ranks, as broadcast() goes: one message after the other, while its rank does other things. Ranks
/// may have several at once, each with a tag of its own.
class SharedSum {
 public:
  SharedSum(std::int64_t summands, const Communicator& ranks, int tag);

  const SumTree& tree() const { return tree_; }
  /// The next summand of this rank stands in tree().next_slot(). After its last one go_on() may be called.
  void push(SummedNumbers& numbers);
  /// As far as it can without waiting. True: the sum stands in slot(), and the next push() begins another one. `link` connects the ranks,
  /// and is the same until then.
  bool go_on(Link& link, SummedNumbers& numbers);
  /// What go_on() needs, when it has said false.
  Link::Ticket awaited() const { return ticket_; }
  int slot() const { return slot_; }
  std::int64_t sent_bytes() const { return sent_bytes_; }  // so far, towards the sum

 private:
  enum class Stage { summing, returning };
  /// The next message; false: none is left.
  bool start(Link& link, SummedNumbers& numbers);
  bool start_returning(Link& link, SummedNumbers& numbers);
  void send(Link& link, int to, std::span<const std::byte> bytes);
  void receive(Link& link, int from, std::span<std::byte> bytes);
  void arrived(SummedNumbers& numbers);

  const Communicator& ranks_;
  SumTree tree_;
  int tag_, slot_ = -1;
  Stage stage_ = Stage::summing;
  std::int64_t sent_bytes_ = 0;
  int known_ = 1;  // returning: ranks below it have the sum
  bool waits_ = false, receives_ = false;
  Link::Ticket ticket_ = 0;
  std::span<const std::byte> sum_;  // returning: as a message
};

}  // namespace elastiform
