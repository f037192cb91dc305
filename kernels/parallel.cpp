#include "kernels/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "kernels/errors.hpp"

#ifdef ELASTIFORM_STD_THREADS
#include <condition_variable>
#else
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#endif

namespace elastiform {
namespace {

// The pool and slot whose loop the thread is in; pools may be nested (a parallel evaluator over serial backends).
struct Current {
  const void* pool = nullptr;
  int slot = 0;
};
thread_local Current current;

#ifdef ELASTIFORM_STD_THREADS

/// Runs work(slot) for every slot at the same time: slot 0 on the caller, the others on threads that live as long as the pool.
class Team {
 public:
  explicit Team(int threads) {
    for (int slot = 1; slot < threads; ++slot) workers_.emplace_back([this, slot] { serve(slot); });
  }
  ~Team() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  void run(FunctionRef<void(int)> work) {
    {
      const std::lock_guard lock(mutex_);
      work_ = &work;
      running_ = workers_.size();
      ++generation_;
    }
    wake_.notify_all();
    work(0);
    std::unique_lock lock(mutex_);
    done_.wait(lock, [&] { return running_ == 0; });
  }

 private:
  void serve(int slot) {
    for (std::uint64_t seen = 0;;) {
      const FunctionRef<void(int)>* work = nullptr;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
        if (stopping_) return;
        seen = generation_;
        work = work_;
      }
      (*work)(slot);
      const std::lock_guard lock(mutex_);
      if (--running_ == 0) done_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  const FunctionRef<void(int)>* work_ = nullptr;
  std::size_t running_ = 0;
  std::uint64_t generation_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> workers_;
};

#else

/// Runs work(slot) for every slot; TBB decides which thread takes which.
class Team {
 public:
  explicit Team(int threads) : threads_(threads), arena_(threads) {}

  void run(FunctionRef<void(int)> work) {
    arena_.execute([&] {
      tbb::parallel_for(
          0, threads_, [&](int slot) { work(slot); }, tbb::simple_partitioner{});
    });
  }

 private:
  // Of several controls alive the smallest wins, so every pool asks for the same bound and its arena sets its own size.
  tbb::global_control control_{tbb::global_control::max_allowed_parallelism, kMaxThreads};
  int threads_;
  tbb::task_arena arena_;
};

#endif

}  // namespace

struct ThreadPool::State {
  explicit State(int threads) : seen(static_cast<std::size_t>(threads)) {
    if (threads > 1) team = std::make_unique<Team>(threads);
  }

  void note_thread(int slot) {
    const std::thread::id id = std::this_thread::get_id();
    if (seen[static_cast<std::size_t>(slot)] == id) return;
    seen[static_cast<std::size_t>(slot)] = id;
    const std::lock_guard lock(mutex);
    threads.insert(id);
  }

  std::unique_ptr<Team> team;
  std::mutex one_loop;  // slots are only unique within one loop
  std::mutex mutex;     // guards threads and the first exception of a loop
  std::set<std::thread::id> threads;
  std::vector<std::thread::id> seen;  // by slot
};

ThreadPool::ThreadPool(int threads) : threads_(threads) {
  if (threads < 1 || threads > kMaxThreads)
    throw InputError(
        {.where = "threads", .expected = "1 to " + std::to_string(kMaxThreads), .found = std::to_string(threads), .remedy = ""});
  state_ = std::make_unique<State>(threads);
}

ThreadPool::~ThreadPool() = default;

void ThreadPool::for_each(std::int64_t count, FunctionRef<void(std::int64_t)> body, std::int64_t multiply_adds) const {
  if (count <= 0) return;
  if (!state_->team) {
    for (std::int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  if (current.pool == state_.get()) throw std::logic_error("ThreadPool: for_each called inside a body of the same pool");
  const std::lock_guard one_loop(state_->one_loop);
  std::atomic<std::int64_t> next{0};
  std::exception_ptr failure;
  // Workers take the next index when they are free: bodies of unequal cost (causal tiles, last panels) balance by themselves.
  const auto work = [&](int slot) {
    const Current outer = current;
    current = {state_.get(), slot};
    try {
      for (std::int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
        state_->note_thread(slot);
        body(i);
      }
    } catch (...) {
      next.store(count);
      const std::lock_guard lock(state_->mutex);
      if (!failure) failure = std::current_exception();
    }
    current = outer;
  };
  if (count == 1 || multiply_adds < kWorthWaking) work(0);
  else state_->team->run(work);
  if (failure) std::rethrow_exception(failure);
}

int ThreadPool::slot() const { return current.pool == state_.get() ? current.slot : 0; }

int ThreadPool::distinct_threads() const {
  if (!state_->team) return 1;
  const std::lock_guard lock(state_->mutex);
  // Over many loops TBB may send one worker in place of another.
  return static_cast<int>(std::min(state_->threads.size(), static_cast<std::size_t>(threads_)));
}

int default_threads() {
  const char* variable = std::getenv("ELASTIFORM_THREADS");
  if (!variable || !*variable) {
    const int machine = static_cast<int>(std::thread::hardware_concurrency());
    return machine < 1 ? 1 : machine > kMaxThreads ? kMaxThreads : machine;
  }
  char* end = nullptr;
  const long threads = std::strtol(variable, &end, 10);
  if (*end != '\0' || threads < 1 || threads > kMaxThreads)
    throw InputError({.where = "ELASTIFORM_THREADS",
                      .expected = "1 to " + std::to_string(kMaxThreads),
                      .found = "'" + std::string(variable) + "'",
                      .remedy = ""});
  return static_cast<int>(threads);
}

}  // namespace elastiform
