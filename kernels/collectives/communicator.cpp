#include "kernels/collectives/communicator.hpp"

#include <algorithm>

namespace elastiform {
namespace {

class Alone final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }

 private:
  void do_send(int, std::span<const std::byte>) override { throw std::logic_error("a message of a process that is alone"); }
  void do_receive(int, std::span<std::byte>) override { throw std::logic_error("a message to a process that is alone"); }
};

template <class T>
std::span<std::byte> bytes_of(T& value) {
  return std::as_writable_bytes(std::span(&value, 1));
}

void send_text(Communicator& ranks, int to, const std::string& text) {
  std::uint64_t size = text.size();
  ranks.send(to, bytes_of(size));
  if (size > 0) ranks.send(to, std::as_bytes(std::span(text)));
}

std::string receive_text(Communicator& ranks, int from) {
  std::uint64_t size = 0;
  ranks.receive(from, bytes_of(size));
  std::string text(size, '\0');
  if (size > 0) ranks.receive(from, std::as_writable_bytes(std::span(text)));
  return text;
}

}  // namespace

RankLost::RankLost(int rank, int size)
    : std::runtime_error("rank " + std::to_string(rank) + " of 0 to " + std::to_string(size - 1) + " is gone"), rank_(rank) {}

void Link::send(int to, std::span<const std::byte> bytes) {
  do_send(to, bytes);
  sent_bytes_ += static_cast<std::int64_t>(bytes.size());
}

void Link::receive(int from, std::span<std::byte> bytes) { do_receive(from, bytes); }

Link::Ticket Link::start_send(int to, std::span<const std::byte> bytes, int tag) {
  sent_bytes_ += static_cast<std::int64_t>(bytes.size());
  return do_start_send(to, bytes, tag);
}

Link::Ticket Link::start_receive(int from, std::span<std::byte> bytes, int tag) { return do_start_receive(from, bytes, tag); }

void Link::wait_for_any(std::span<const Ticket> tickets) {
  if (std::find(tickets.begin(), tickets.end(), kAtOnce) == tickets.end()) do_wait_for_any(tickets);
}

Link::Ticket Link::do_start_send(int to, std::span<const std::byte> bytes, int /*tag*/) {
  do_send(to, bytes);
  return kAtOnce;
}

Link::Ticket Link::do_start_receive(int from, std::span<std::byte> bytes, int /*tag*/) {
  do_receive(from, bytes);
  return kAtOnce;
}

bool Link::do_finished(Ticket) { throw std::logic_error("a ticket of another link"); }
void Link::do_wait_for_any(std::span<const Ticket>) { throw std::logic_error("no message to wait for"); }

Communicator& alone() {
  static Alone process;  // it never sends, so nothing in it changes
  return process;
}

void barrier(Communicator& ranks) { static_cast<void>(any(ranks, false)); }

void broadcast(const Communicator& ranks, Link& link, std::span<std::byte> bytes) {
  const int rank = ranks.rank(), size = ranks.size();
  if (bytes.empty()) return;
  for (int known = 1; known < size; known *= 2) {  // ranks below `known` have them
    if (rank < known) {
      if (rank + known < size) link.send(rank + known, bytes);
    } else if (rank < 2 * known) {
      link.receive(rank - known, bytes);
    }
  }
}

std::string broadcast(Communicator& ranks, std::string text) {
  std::uint64_t size = text.size();
  broadcast(ranks, ranks, bytes_of(size));
  text.resize(size);
  broadcast(ranks, ranks, std::as_writable_bytes(std::span(text)));
  return text;
}

void share_parts(Communicator& ranks, std::span<double> values) {
  const std::size_t size = static_cast<std::size_t>(ranks.size());
  if (size == 1 || values.empty()) return;
  if (values.size() % size != 0) throw std::logic_error("share_parts: the parts are not equal");
  const auto part = [&](int rank) { return values.subspan(static_cast<std::size_t>(rank) * (values.size() / size), values.size() / size); };
  if (ranks.leads()) {
    for (int other = 1; other < ranks.size(); ++other) ranks.receive(other, std::as_writable_bytes(part(other)));
  } else {
    ranks.send(0, std::as_bytes(part(ranks.rank())));
  }
  broadcast(ranks, ranks, std::as_writable_bytes(values));
}

std::vector<std::string> gather(Communicator& ranks, const std::string& text) {
  if (!ranks.leads()) {
    send_text(ranks, 0, text);
    return {};
  }
  std::vector<std::string> texts{text};
  for (int other = 1; other < ranks.size(); ++other) texts.push_back(receive_text(ranks, other));
  return texts;
}

bool any(Communicator& ranks, bool value) {
  std::byte found{static_cast<unsigned char>(value)};
  if (ranks.leads()) {
    for (int other = 1; other < ranks.size(); ++other) {
      std::byte its{};
      ranks.receive(other, bytes_of(its));
      found |= its;
    }
  } else {
    ranks.send(0, bytes_of(found));
  }
  broadcast(ranks, ranks, bytes_of(found));
  return found != std::byte{0};
}

}  // namespace elastiform
