#include "kernels/collectives/communicator.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <map>
#include <mutex>
#include <numeric>

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

}  // namespace elastiform
