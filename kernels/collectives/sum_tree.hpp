#pragma once

#include <cstdint>
#include <vector>

#include "kernels/collectives/communicator.hpp"
#include "kernels/function_ref.hpp"

namespace elastiform {

/// Adds summands 0 … n-1 in one fixed binary tree, whoever has them: node (level, i) is the sum of summands [i·2^level, (i+1)·2^level) that
/// exist, so the bits of the sum depend on n alone. Of R ranks, R a divisor of n, each has n/R neighbouring summands; a node belongs to the
/// rank of its first summand. SumTree decides who adds what when; its caller keeps the numbers, in slots.
class SumTree {
 public:
  /// Throws std::logic_error when n is no multiple of the ranks, or 0.
  SumTree(std::int64_t summands, int ranks, int rank);

  /// Summands of this rank: [first(), first() + count()).
  std::int64_t first() const { return rank_ * count_; }
  std::int64_t count() const { return count_; }
  /// Slots in use at once, at most, by any rank: bit_width(n) where there is one, as a binary counter has digits.
  int slots() const { return slots_; }

  /// Where the next summand of this rank is to be put.
  int next_slot() const { return free_.back(); }
  /// It stands there. add(to, from): slot to += slot from.
  void push(FunctionRef<void(int to, int from)> add);

  /// What this rank has to do next between ranks, once all its summands are pushed: send a slot, or add to one what another rank sends.
  struct Exchange {
    enum class What { nothing, send, receive } what = What::nothing;
    int slot = 0, rank = 0;
  };
  Exchange exchange() const;
  /// That is done.
  void exchanged(FunctionRef<void(int to, int from)> add);
  /// When nothing is left to do: the slot of the whole sum on rank 0, -1 on the others. The next push() begins another sum.
  int end();

  /// All of it: send(slot, rank), and receive_added(slot, rank), which adds what comes to the slot.
  int finish(FunctionRef<void(int to, int from)> add, FunctionRef<void(int slot, int rank)> send,
             FunctionRef<void(int slot, int rank)> receive_added);

 private:
  struct Node {
    int level = 0;
    std::int64_t index = 0;
    int slot = 0;
  };
  std::int64_t begin_of(int level, std::int64_t index) const { return index << level; }
  int owner_of(int level, std::int64_t index) const { return static_cast<int>(begin_of(level, index) / count_); }
  bool exists(int level, std::int64_t index) const { return begin_of(level, index) < summands_; }
  void begin();
  /// The place in held_ of the node to be exchanged next; its size: none.
  std::size_t next_node() const;
  /// Joins a node with its left neighbour, if that is here too, and what comes of it, and so on.
  void settle(Node node, FunctionRef<void(int, int)> add);

  std::int64_t summands_, count_;
  int rank_ = 0, levels_ = 0, slots_ = 0;
  std::int64_t pushed_ = 0;
  std::vector<Node> held_;  // by their first summands
  std::vector<int> free_;
};

}  // namespace elastiform
