#include "kernels/collectives/shared_sum.hpp"

namespace elastiform {

SharedSum::SharedSum(std::int64_t summands, const Communicator& ranks, int tag)
    : ranks_(ranks), tree_(summands, ranks.size(), ranks.rank()), tag_(tag) {}

void SharedSum::push(SummedNumbers& numbers) {
  tree_.push([&](int to, int from) { numbers.add(to, from); });
}

bool SharedSum::go_on(Link& link, SummedNumbers& numbers) {
  for (;;) {
    if (waits_ && !link.finished(ticket_)) return false;
    if (waits_) arrived(numbers);
    waits_ = false;
    if (!start(link, numbers)) break;
  }
  stage_ = Stage::summing;
  return true;
}

void SharedSum::send(Link& link, int to, std::span<const std::byte> bytes) {
  ticket_ = link.start_send(to, bytes, tag_);
  waits_ = true, receives_ = false;
}

void SharedSum::receive(Link& link, int from, std::span<std::byte> bytes) {
  ticket_ = link.start_receive(from, bytes, tag_);
  waits_ = receives_ = true;
}

bool SharedSum::start(Link& link, SummedNumbers& numbers) {
  if (stage_ == Stage::returning) return start_returning(link, numbers);
  const SumTree::Exchange next = tree_.exchange();
  if (next.what == SumTree::Exchange::What::send) {
    const std::span<const std::byte> bytes = numbers.packed(next.slot);
    sent_bytes_ += static_cast<std::int64_t>(bytes.size());
    send(link, next.rank, bytes);
  } else if (next.what == SumTree::Exchange::What::receive) {
    receive(link, next.rank, numbers.room());
  } else {
    slot_ = tree_.end();
    stage_ = Stage::returning;
    known_ = 1;
    if (slot_ >= 0 && ranks_.size() > 1) sum_ = numbers.packed(slot_);
    if (slot_ < 0) slot_ = tree_.next_slot();
    return start_returning(link, numbers);
  }
  return true;
}

bool SharedSum::start_returning(Link& link, SummedNumbers& numbers) {
  const int rank = ranks_.rank(), size = ranks_.size();
  for (; known_ < size; known_ *= 2) {
    if (rank >= 2 * known_ || (rank < known_ && rank + known_ >= size)) continue;
    if (rank < known_) send(link, rank + known_, sum_);
    else receive(link, rank - known_, numbers.room());
    known_ *= 2;
    return true;
  }
  return false;
}

void SharedSum::arrived(SummedNumbers& numbers) {
  if (stage_ == Stage::returning) {
    if (!receives_) return;
    sum_ = numbers.room();
    numbers.copy_received(slot_);
    return;
  }
  if (receives_) numbers.add_received(tree_.exchange().slot);
  tree_.exchanged([&](int to, int from) { numbers.add(to, from); });
}

}  // namespace elastiform
