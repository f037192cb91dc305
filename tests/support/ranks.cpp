#include "tests/support/ranks.hpp"

#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/collectives/in_process.hpp"

namespace elastiform {

void run_ranks(int size, const std::function<void(Communicator&)>& body) {
  InProcessRanks ranks(size);
  std::mutex mutex;
  std::exception_ptr failure, lost;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank)
    threads.emplace_back([&, rank] {
      try {
        body(ranks.at(rank));
      } catch (const RankLost&) {
        const std::lock_guard lock(mutex);
        if (!lost) lost = std::current_exception();
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
      ranks.leave(rank);
    });
  for (std::thread& thread : threads) thread.join();
  if (failure) std::rethrow_exception(failure);
  if (lost) std::rethrow_exception(lost);
}

}  // namespace elastiform
