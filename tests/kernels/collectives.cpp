#include "kernels/collectives/communicator.hpp"

#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <map>
#include <mutex>
#include <numeric>

#include "kernels/collectives/shared_sum.hpp"
#include "kernels/collectives/sum_tree.hpp"
#include "kernels/random.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/ranks.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

constexpr std::array<int, 9> kSizes{1, 2, 3, 4, 5, 6, 7, 8, 9};

/// Binary digits.
int digits(int n) { return static_cast<int>(std::bit_width(static_cast<unsigned>(n))); }

/// A summand whose sums depend on the order in which they are formed.
float summand(std::int64_t i) {
  RandomStream random(static_cast<std::uint64_t>(i), Purpose::test);
  return static_cast<float>(random.normal() * std::exp2(static_cast<double>(random.below(20))));
}

/// The tree as its definition says it, top down.
float tree_sum(std::int64_t begin, std::int64_t end) {
  if (end - begin == 1) return summand(begin);
  const std::int64_t half = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(end - begin))) / 2;
  return tree_sum(begin, begin + half) + tree_sum(begin + half, end);
}

/// The same by a rank of `ranks`; `messages` counts what it sent.
float sum_by(Communicator& ranks, std::int64_t n, int& messages) {
  SumTree tree(n, ranks.size(), ranks.rank());
  std::vector<float> slots(static_cast<std::size_t>(tree.slots()), NAN);
  const auto at = [&](int slot) -> float& { return slots.at(static_cast<std::size_t>(slot)); };
  const auto add = [&](int to, int from) {
    at(to) += at(from);
    at(from) = NAN;
  };
  float sum = 0;
  for (int repetition = 0; repetition < 2; ++repetition) {  // a tree serves again
    for (std::int64_t i = tree.first(); i < tree.first() + tree.count(); ++i) {
      at(tree.next_slot()) = summand(i);
      tree.push(add);
    }
    const int slot = tree.finish(
        add,
        [&](int from, int rank) {
          ranks.send(rank, std::as_bytes(std::span(&at(from), 1)));
          ++messages;
        },
        [&](int to, int rank) {
          float other = 0;
          ranks.receive(rank, std::as_writable_bytes(std::span(&other, 1)));
          at(to) += other;
        });
    if ((slot >= 0) != ranks.leads()) throw std::logic_error("the sum is not on rank 0");
    sum = ranks.leads() ? at(slot) : 0;
    broadcast(ranks, ranks, std::as_writable_bytes(std::span(&sum, 1)));
  }
  return sum;
}

}  // namespace

TEST_CASE("a sum tree gives the same bits on any number of ranks", "[kernels][collectives]") {
  const int size = GENERATE(from_range(kSizes));
  for (std::int64_t each = 1; each <= 9; ++each) {
    const std::int64_t n = size * each;
    CAPTURE(size, each);
    const float expected = tree_sum(0, n);
    std::mutex mutex;
    int right = 0, messages = 0;
    run_ranks(size, [&](Communicator& ranks) {
      int sent = 0;
      const float sum = sum_by(ranks, n, sent);
      const std::lock_guard lock(mutex);
      right += std::bit_cast<std::uint32_t>(sum) == std::bit_cast<std::uint32_t>(expected) ? 1 : 0;
      messages += sent;
    });
    CHECK(right == size);
    if (std::has_single_bit(static_cast<unsigned>(each))) CHECK(messages == 2 * (size - 1));  // each rank's part is one node
  }
}

TEST_CASE("the order of a sum tree matters, so its test can fail", "[kernels][collectives]") {
  float in_a_row = 0;
  for (std::int64_t i = 0; i < 9; ++i) in_a_row += summand(i);
  CHECK(in_a_row != tree_sum(0, 9));
  CHECK(in_a_row == Approx(tree_sum(0, 9)).epsilon(1e-4));
}

TEST_CASE("a sum tree of one rank holds as many slots as its number has binary digits", "[kernels][collectives]") {
  for (int n = 1; n <= 70; ++n) CHECK(SumTree(n, 1, 0).slots() == digits(n));
  CHECK(SumTree(32, 4, 1).slots() == 4);  // 8 summands that are one node
  for (int rank = 0; rank < 5; ++rank) CHECK(SumTree(35, 5, rank).slots() <= 6);
  CHECK_THROWS_AS(SumTree(6, 4, 0), std::logic_error);
  CHECK_THROWS_AS(SumTree(0, 1, 0), std::logic_error);
}

TEST_CASE("collectives do what they say on 1 to 9 ranks", "[kernels][collectives]") {
  const int size = GENERATE(from_range(kSizes));
  CAPTURE(size);
  std::mutex mutex;
  std::map<int, std::string> heard;
  std::vector<std::string> gathered;
  std::vector<std::vector<double>> shared;
  std::vector<bool> none, one;
  run_ranks(size, [&](Communicator& ranks) {
    const std::string mine(static_cast<std::size_t>(3 * ranks.rank()), static_cast<char>('a' + ranks.rank()));
    const std::string text = broadcast(ranks, ranks.leads() ? std::string(1000, 'x') : "nothing");
    const std::string empty = broadcast(ranks, ranks.leads() ? "" : "something");
    const std::vector<std::string> all = gather(ranks, mine);
    std::vector<double> values(static_cast<std::size_t>(2 * size), -1);
    for (int i = 0; i < 2; ++i) values[static_cast<std::size_t>(2 * ranks.rank() + i)] = 2 * ranks.rank() + i;
    share_parts(ranks, values);
    const bool nobody = any(ranks, false), the_last = any(ranks, ranks.rank() == size - 1);
    barrier(ranks);
    const std::lock_guard lock(mutex);
    heard[ranks.rank()] = text + empty;
    if (ranks.leads()) gathered = all;
    else CHECK(all.empty());
    shared.push_back(values);
    none.push_back(nobody), one.push_back(the_last);
  });
  REQUIRE(gathered.size() == static_cast<std::size_t>(size));
  std::vector<double> expected(static_cast<std::size_t>(2 * size));
  std::iota(expected.begin(), expected.end(), 0.0);
  for (int rank = 0; rank < size; ++rank) {
    CHECK(heard[rank] == std::string(1000, 'x'));
    CHECK(gathered[static_cast<std::size_t>(rank)] == std::string(static_cast<std::size_t>(3 * rank), static_cast<char>('a' + rank)));
    CHECK(shared[static_cast<std::size_t>(rank)] == expected);
    CHECK_FALSE(none[static_cast<std::size_t>(rank)]);
    CHECK(one[static_cast<std::size_t>(rank)]);
  }
}

TEST_CASE("a process by itself has collectives that cost nothing", "[kernels][collectives]") {
  Communicator& ranks = alone();
  CHECK(ranks.leads());
  CHECK(ranks.size() == 1);
  CHECK(broadcast(ranks, "text") == "text");
  CHECK(gather(ranks, "text") == std::vector<std::string>{"text"});
  CHECK(any(ranks, true));
  CHECK_FALSE(any(ranks, false));
  barrier(ranks);
  CHECK(ranks.sent_bytes() == 0);
}

TEST_CASE("whoever needs a rank that is gone is told which", "[kernels][collectives]") {
  std::mutex mutex;
  std::map<int, int> lost;  // rank -> whom it missed
  CHECK_THROWS_WITH(run_ranks(4,
                              [&](Communicator& ranks) {
                                if (ranks.rank() == 2) throw std::runtime_error("rank 2 fails");
                                try {
                                  barrier(ranks);
                                } catch (const RankLost& error) {
                                  const std::lock_guard lock(mutex);
                                  lost[ranks.rank()] = error.rank();
                                  throw;
                                }
                              }),
                    "rank 2 fails");
  CHECK(lost == std::map<int, int>{{0, 2}, {1, 0}, {3, 0}});
}

TEST_CASE("ranks that wait for each other and messages of another size are bugs that are named", "[kernels][collectives]") {
  std::byte byte{};
  const std::span<std::byte> bytes(&byte, 1);
  CHECK_THROWS_WITH(run_ranks(2, [&](Communicator& ranks) { ranks.send(1 - ranks.rank(), bytes); }), Contains("wait for each other"));
  CHECK_THROWS_WITH(run_ranks(2,
                              [&](Communicator& ranks) {
                                std::array<std::byte, 3> mine{};
                                if (ranks.leads()) ranks.send(1, mine);
                                else ranks.receive(0, std::span(mine).first(2));
                              }),
                    Contains("receives 2 bytes, rank 0 sends 3"));
  CHECK_THROWS_AS(run_ranks(2, [&](Communicator& ranks) { ranks.send(ranks.rank(), bytes); }), std::logic_error);
}

TEST_CASE("messages of one tag keep their order, and pass those of others", "[kernels][collectives]") {
  run_ranks(2, [&](Communicator& ranks) {
    const auto bytes_of = [](auto& value) { return std::as_writable_bytes(std::span(&value, 1)); };
    if (ranks.leads()) {
      std::array<int, 4> values{10, 11, 20, 5};
      std::vector<Link::Ticket> tickets;
      for (const int i : {0, 1}) tickets.push_back(ranks.start_send(1, bytes_of(values[static_cast<std::size_t>(i)]), 1));
      tickets.push_back(ranks.start_send(1, bytes_of(values[2]), 2));
      ranks.send(1, bytes_of(values[3]));
      for (const Link::Ticket ticket : tickets) {
        ranks.wait_for_any(std::span(&ticket, 1));
        if (!ranks.finished(ticket)) throw std::logic_error("waited for nothing");
      }
      return;
    }
    int plain = 0, first = 0, second = 0, other = 0;
    ranks.receive(0, bytes_of(plain));
    const Link::Ticket of_other = ranks.start_receive(0, bytes_of(other), 2);
    ranks.wait_for_any(std::span(&of_other, 1));
    const bool other_came = ranks.finished(of_other);
    for (int* const place : {&first, &second}) {
      const std::array<Link::Ticket, 1> tickets{ranks.start_receive(0, bytes_of(*place), 1)};
      ranks.wait_for_any(tickets);
      if (!ranks.finished(tickets[0])) throw std::logic_error("waited for nothing");
    }
    if (!other_came || plain != 5 || other != 20 || first != 10 || second != 11) throw std::logic_error("messages in another order");
  });
}

TEST_CASE("a message on its way is told from one that will never come", "[kernels][collectives]") {
  std::byte byte{};
  const std::span<std::byte> bytes(&byte, 1);
  CHECK_THROWS_WITH(run_ranks(2,
                              [&](Communicator& ranks) {
                                std::byte mine{};
                                const Link::Ticket ticket = ranks.start_receive(1 - ranks.rank(), std::span(&mine, 1), 1);
                                if (ranks.finished(ticket)) throw std::runtime_error("nobody sent it");
                                ranks.wait_for_any(std::span(&ticket, 1));
                              }),
                    Contains("wait for each other: 0 for a message of 1, 1 for a message of 0"));
  CHECK_THROWS_AS(run_ranks(2,
                            [&](Communicator& ranks) {
                              if (ranks.leads()) return;
                              const Link::Ticket ticket = ranks.start_send(0, bytes, 3);
                              ranks.wait_for_any(std::span(&ticket, 1));
                              ranks.finished(ticket);
                            }),
                  RankLost);
}

namespace {

/// One number a slot.
struct Floats final : SummedNumbers {
  std::vector<float> slots;
  float message = 0;
  explicit Floats(int count) : slots(static_cast<std::size_t>(count), NAN) {}
  float& at(int slot) { return slots.at(static_cast<std::size_t>(slot)); }
  void add(int to, int from) override { at(to) += at(from); }
  std::span<std::byte> packed(int slot) override {
    message = at(slot);
    return room();
  }
  std::span<std::byte> room() override { return std::as_writable_bytes(std::span(&message, 1)); }
  void add_received(int slot) override { at(slot) += message; }
  void copy_received(int slot) override { at(slot) = message; }
};

}  // namespace

TEST_CASE("sums that go on together give every rank the bits of the tree, in whatever order ranks come to them", "[kernels][collectives]") {
  const int size = GENERATE(from_range(kSizes)), each = GENERATE(1, 2, 3, 5);
  constexpr int kSums = 5;
  const std::int64_t n = size * each;
  CAPTURE(size, each);
  std::atomic<int> right{0};
  run_ranks(size, [&](Communicator& ranks) {
    std::vector<SharedSum> sums;
    for (int i = 0; i < kSums; ++i) sums.emplace_back(n, ranks, i + 1);
    std::vector<Floats> numbers(kSums, Floats(sums.front().tree().slots()));
    for (int repetition = 0; repetition < 2; ++repetition) {
      std::vector<bool> done(kSums, false);
      for (int begun = 0; begun < kSums; ++begun) {  // each rank begins with another one
        const std::size_t at = static_cast<std::size_t>((begun + ranks.rank()) % kSums);
        SharedSum& sum = sums[at];
        for (std::int64_t i = sum.tree().first(); i < sum.tree().first() + each; ++i) {
          numbers[at].at(sum.tree().next_slot()) = summand(i);
          sum.push(numbers[at]);
        }
        done[at] = sum.go_on(ranks, numbers[at]);
      }
      for (;;) {
        std::vector<Link::Ticket> awaited;
        for (std::size_t i = 0; i < kSums; ++i) {
          if (!done[i]) done[i] = sums[i].go_on(ranks, numbers[i]);
          if (!done[i]) awaited.push_back(sums[i].awaited());
        }
        if (awaited.empty()) break;
        ranks.wait_for_any(awaited);
      }
      for (std::size_t i = 0; i < kSums; ++i) right += numbers[i].at(sums[i].slot()) == tree_sum(0, n) ? 1 : 0;
    }
  });
  CHECK(right == 2 * size * kSums);
}

}  // namespace elastiform
