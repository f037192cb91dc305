#include "kernels/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

#include "kernels/errors.hpp"
#include "tests/support/catch.hpp"

using namespace elastiform;

TEST_CASE("for_each runs every index once, on any number of threads", "[kernels]") {
  const int threads = GENERATE(1, 2, 3, 8);
  const std::int64_t count = GENERATE(0, 1, 7, 1000);
  CAPTURE(threads, count);
  const ThreadPool pool(threads);
  std::vector<std::atomic<int>> runs(static_cast<std::size_t>(count));
  pool.for_each(count, [&](std::int64_t i) { ++runs[static_cast<std::size_t>(i)]; });
  for (const auto& n : runs) REQUIRE(n == 1);
}

TEST_CASE("slots are inside the pool's size and never shared by two bodies at once", "[kernels]") {
  const ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  std::atomic<bool> shared{false}, outside{false};
  pool.for_each(2000, [&](std::int64_t) {
    const int slot = pool.slot();
    if (slot < 0 || slot >= 4) {
      outside = true;
      return;
    }
    if (inside[static_cast<std::size_t>(slot)]++ != 0) shared = true;
    std::this_thread::yield();
    --inside[static_cast<std::size_t>(slot)];
  });
  CHECK_FALSE(outside);
  CHECK_FALSE(shared);
  CHECK(pool.slot() == 0);
}

TEST_CASE("a pool of N threads works with N distinct threads", "[kernels]") {
  const int threads = GENERATE(1, 2, 8);
  CAPTURE(threads);
  const ThreadPool pool(threads);
  // Bodies stay until all N are inside; the bound only ends a test that fails.
  std::atomic<int> arrived{0};
  pool.for_each(threads, [&](std::int64_t) {
    ++arrived;
    for (int patience = 0; arrived < threads && patience < 20'000'000; ++patience) std::this_thread::yield();
  });
  CHECK(arrived == threads);
  CHECK(pool.distinct_threads() == threads);
}

TEST_CASE("bodies of little work wake nobody: they run on the caller", "[kernels]") {
  const ThreadPool pool(4);
  constexpr std::int64_t kCount = 500;
  std::vector<std::thread::id> ran(kCount);
  std::vector<int> slots(kCount, -1);
  pool.for_each(
      kCount,
      [&](std::int64_t i) {
        for (int patience = 0; patience < 200; ++patience) std::this_thread::yield();  // long enough for a worker that was woken to come
        ran[static_cast<std::size_t>(i)] = std::this_thread::get_id();
        slots[static_cast<std::size_t>(i)] = pool.slot();
      },
      kWorthWaking - 1);
  CHECK(std::ranges::count(ran, std::this_thread::get_id()) == kCount);
  CHECK(std::ranges::count(slots, 0) == kCount);
  CHECK(pool.distinct_threads() == 1);
}

TEST_CASE("one body alone runs on the caller", "[kernels]") {
  const ThreadPool pool(4);
  const std::thread::id caller = std::this_thread::get_id();
  int elsewhere = 0;
  for (int i = 0; i < 500; ++i) pool.for_each(1, [&](std::int64_t) { elsewhere += std::this_thread::get_id() != caller; });
  CHECK(elsewhere == 0);
  CHECK(pool.distinct_threads() == 1);
}

TEST_CASE("what runs on the caller refuses the same pool inside, and passes exceptions on", "[kernels]") {
  const ThreadPool pool(3);
  CHECK_THROWS_AS(pool.for_each(1, [&](std::int64_t) { pool.for_each(1, [](std::int64_t) {}); }), std::logic_error);
  CHECK_THROWS_WITH(pool.for_each(1, [](std::int64_t) { throw std::runtime_error("alone"); }), "alone");
  std::atomic<int> runs{0};
  pool.for_each(50, [&](std::int64_t) { ++runs; });
  CHECK(runs == 50);
}

TEST_CASE("a small pool does not narrow another one", "[kernels]") {
  const ThreadPool small(2), large(4);
  std::atomic<int> arrived{0};
  large.for_each(4, [&](std::int64_t) {
    ++arrived;
    for (int patience = 0; arrived < 4 && patience < 20'000'000; ++patience) std::this_thread::yield();
  });
  CHECK(large.distinct_threads() == 4);
}

TEST_CASE("the first exception of a loop arrives at its caller, and the pool still works", "[kernels]") {
  const int threads = GENERATE(1, 4);
  const ThreadPool pool(threads);
  CHECK_THROWS_WITH(pool.for_each(100,
                                  [](std::int64_t i) {
                                    if (i == 13) throw std::runtime_error("thirteen");
                                  }),
                    "thirteen");
  std::atomic<int> runs{0};
  pool.for_each(50, [&](std::int64_t) { ++runs; });
  CHECK(runs == 50);
}

TEST_CASE("serial pools work inside the bodies of a parallel one; the same pool refuses", "[kernels]") {
  const ThreadPool outer(3);
  std::atomic<int> runs{0}, refused{0};
  outer.for_each(6, [&](std::int64_t) {
    const ThreadPool inner(1);
    inner.for_each(5, [&](std::int64_t) { runs += inner.slot() == 0; });
    try {
      outer.for_each(1, [](std::int64_t) {});
    } catch (const std::logic_error&) {
      ++refused;
    }
  });
  CHECK(runs == 30);
  CHECK(refused == 6);
}

TEST_CASE("impossible numbers of threads are refused", "[kernels]") {
  CHECK_THROWS_AS(ThreadPool(0), InputError);
  CHECK_THROWS_AS(ThreadPool(100000), InputError);
  const char* before = std::getenv("ELASTIFORM_THREADS");
  const std::string saved = before ? before : "";
  for (const char* bad : {"0", "-2", "four", "2x", "999999"}) {
    CAPTURE(bad);
    setenv("ELASTIFORM_THREADS", bad, 1);
    CHECK_THROWS_AS(default_threads(), InputError);
  }
  setenv("ELASTIFORM_THREADS", "3", 1);
  CHECK(default_threads() == 3);
  before ? setenv("ELASTIFORM_THREADS", saved.c_str(), 1) : unsetenv("ELASTIFORM_THREADS");
}
