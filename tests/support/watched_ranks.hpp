#pragma once

#include <functional>

#include "kernels/collectives/communicator.hpp"

namespace elastiform {

/// A rank whose messages a test sees before they begin; it may throw, and is then a rank that failed there.
class WatchedRanks final : public Communicator {
 public:
  struct Message {
    bool sends = false;
    int peer = 0, tag = 0;  // tag 0: the rank waits for it at once
    std::size_t bytes = 0;
  };
  WatchedRanks(Communicator& ranks, std::function<void(const Message&)> watch) : ranks_(ranks), watch_(std::move(watch)) {}
  int rank() const override { return ranks_.rank(); }
  int size() const override { return ranks_.size(); }
  bool overlaps() const override { return ranks_.overlaps(); }

 private:
  void do_send(int to, std::span<const std::byte> bytes) override {
    watch_({true, to, 0, bytes.size()});
    ranks_.send(to, bytes);
  }
  void do_receive(int from, std::span<std::byte> bytes) override {
    watch_({false, from, 0, bytes.size()});
    ranks_.receive(from, bytes);
  }
  Ticket do_start_send(int to, std::span<const std::byte> bytes, int tag) override {
    watch_({true, to, tag, bytes.size()});
    return ranks_.start_send(to, bytes, tag);
  }
  Ticket do_start_receive(int from, std::span<std::byte> bytes, int tag) override {
    watch_({false, from, tag, bytes.size()});
    return ranks_.start_receive(from, bytes, tag);
  }
  bool do_finished(Ticket ticket) override { return ranks_.finished(ticket); }
  void do_wait_for_any(std::span<const Ticket> tickets) override { ranks_.wait_for_any(tickets); }

  Communicator& ranks_;
  std::function<void(const Message&)> watch_;
};

}  // namespace elastiform
