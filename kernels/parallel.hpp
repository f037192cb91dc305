#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/function_ref.hpp"

namespace elastiform {

constexpr int kMaxThreads = 256;  // of a pool
/// Multiply-adds that one core does in about the time that waking another takes, some 5 us.
constexpr std::int64_t kWorthWaking = 32'768;

/// The only way to use threads. TBB in the product; a small std::thread pool where ELASTIFORM_STD_THREADS is defined (the TSan
/// preset: Debian's TBB is not instrumented). A pool of one thread runs plain loops on the caller.
class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const { return threads_; }

  /// Runs body(0) … body(count-1), each once, in any order and on any worker; returns when all are done. The first exception is
  /// rethrown on the caller. A body must not call back into the same pool. Results must not depend on who runs which index.
  /// `multiply_adds`: of all bodies, where the caller knows; the caller alone runs too few of them, and one body, as waking workers takes
  /// longer.
  void for_each(std::int64_t count, FunctionRef<void(std::int64_t)> body, std::int64_t multiply_adds = kWorthWaking) const;

  /// Index of the calling worker inside for_each, 0 … size()-1; no two bodies that run at the same time share one.
  int slot() const;

  /// How many distinct threads, at most size(), have run a body since construction: lets a test see that N threads really worked.
  int distinct_threads() const;

 private:
  struct State;
  int threads_;
  std::unique_ptr<State> state_;
};

/// Threads to use when the user names none: the machine's, or ELASTIFORM_THREADS.
int default_threads();

}  // namespace elastiform
