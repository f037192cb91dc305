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
  begin();
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

// Every rank goes through the levels upwards and through each from left to right, so messages have one order that all keep to, and no two
// ranks wait for each other.
std::size_t SumTree::next_node() const {
  std::size_t lowest = held_.size();
  for (std::size_t i = 0; i < held_.size(); ++i)
    if (held_[i].level < levels_ && (lowest == held_.size() || held_[i].level < held_[lowest].level)) lowest = i;
  return lowest;
}

SumTree::Exchange SumTree::exchange() const {
  if (pushed_ != count_) throw std::logic_error("SumTree: fewer summands than this rank has");
  const std::size_t at = next_node();
  if (at == held_.size()) return {};
  const Node& node = held_[at];
  // The left neighbour of an odd one is another rank's, or settle() had joined them; the right one of an even one too.
  if (node.index % 2 == 1) return {Exchange::What::send, node.slot, owner_of(node.level, node.index - 1)};
  return {Exchange::What::receive, node.slot, owner_of(node.level, node.index + 1)};
}

void SumTree::exchanged(FunctionRef<void(int, int)> add) {
  const auto at = held_.begin() + static_cast<std::ptrdiff_t>(next_node());
  const Node node = *at;
  held_.erase(at);
  if (node.index % 2 == 1) free_.push_back(node.slot);
  else settle({node.level + 1, node.index / 2, node.slot}, add);  // its right neighbour is not here, so nothing stood behind it
}

int SumTree::end() {
  const int sum = rank_ == 0 ? held_.back().slot : -1;
  begin();
  return sum;
}

// Slots are taken in one order in every sum, whatever sums there were before: parts of a sum that skip one stay together.
void SumTree::begin() {
  pushed_ = 0;
  held_.clear();
  free_.clear();
  for (int slot = slots_; slot-- > 0;) free_.push_back(slot);
}

int SumTree::finish(FunctionRef<void(int, int)> add, FunctionRef<void(int, int)> send, FunctionRef<void(int, int)> receive_added) {
  for (;;) {
    const Exchange next = exchange();
    if (next.what == Exchange::What::nothing) return end();
    next.what == Exchange::What::send ? send(next.slot, next.rank) : receive_added(next.slot, next.rank);
    exchanged(add);
  }
}

}  // namespace elastiform
