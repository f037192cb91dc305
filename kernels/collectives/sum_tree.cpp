#include "kernels/collectives/sum_tree.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace elastiform {

SumTree::SumTree(std::int64_t summands, int ranks, int rank) : summands_(summands), count_(ranks > 0 ? summands / ranks : 0) {
  if (count_ < 1 || summands % ranks != 0)
    throw std::logic_error("SumTree: " + std::to_string(summands) + " summands of " + std::to_string(ranks) + " ranks");
  while (std::int64_t{1} << levels_ < summands) ++levels_;
  // Which slots are taken depends on n, R and the rank only: a rehearsal by each of them counts.
  const int most = static_cast<int>(std::min<std::int64_t>(count_, 2 * levels_ + 2));
  for (int slot = most; slot-- > 0;) free_.push_back(slot);
  held_.reserve(free_.size());
  for (rank_ = 0; rank_ < ranks; ++rank_) {
    for (std::int64_t i = 0; i < count_; ++i) {
      slots_ = std::max(slots_, static_cast<int>(held_.size()) + 1);
      push([](int, int) {});
    }
    for (const Node& node : held_) free_.push_back(node.slot);
    held_.clear();
    pushed_ = 0;
  }
  rank_ = rank;
  free_.clear();
  for (int slot = slots_; slot-- > 0;) free_.push_back(slot);
}

void SumTree::push(FunctionRef<void(int, int)> add) {
  if (pushed_ == count_) throw std::logic_error("SumTree: more summands than this rank has");
  const int slot = free_.back();
  free_.pop_back();
  settle({0, first() + pushed_++, slot}, add);
}

void SumTree::settle(Node node, FunctionRef<void(int, int)> add) {
  for (;; ++node.level, node.index /= 2) {
    if (node.level == levels_) break;
    const bool left = node.index % 2 == 0;
    if (left && !exists(node.level, node.index + 1)) continue;  // nothing to add: it is its parent
    const bool neighbour = !left && !held_.empty() && held_.back().level == node.level && held_.back().index == node.index - 1;
    if (!neighbour) break;
    add(held_.back().slot, node.slot);
    free_.push_back(node.slot);
    node.slot = held_.back().slot;
    held_.pop_back();
  }
  held_.push_back(node);
}

int SumTree::finish(FunctionRef<void(int, int)> add, FunctionRef<void(int, int)> send, FunctionRef<void(int, int)> receive_added) {
  if (pushed_ != count_) throw std::logic_error("SumTree: fewer summands than this rank has");
  pushed_ = 0;
  // Every rank goes through the levels upwards and through each from left to right, so messages have one order that all keep to, and no two
  // ranks wait for each other.
  for (int level = 0; level < levels_; ++level) {
    for (std::size_t i = 0; i < held_.size();) {
      const Node node = held_[i];
      if (node.level != level) {
        ++i;
        continue;
      }
      if (node.index % 2 == 1) {  // the left neighbour is another rank's, or settle() had joined them
        send(node.slot, owner_of(level, node.index - 1));
        free_.push_back(node.slot);
        held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
      } else {
        // Its right neighbour begins behind this rank's summands, so nothing stands behind it here.
        receive_added(node.slot, owner_of(level, node.index + 1));
        held_.pop_back();
        settle({level + 1, node.index / 2, node.slot}, add);
      }
    }
  }
  if (rank_ != 0) return -1;
  const int sum = held_.back().slot;
  held_.clear();
  free_.push_back(sum);
  return sum;
}

}  // namespace elastiform
