#include "tests/support/cpu.hpp"

#include "kernels/cpu/bf16.hpp"
#include "kernels/cpu/bf16_tiles.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {

void for_each_bf16_kernel(const std::function<void()>& body) {
  if (precisions_here().back() != Precision::bf16) return;
  struct AllowAgain {  // a failed REQUIRE leaves by an exception
    ~AllowAgain() { cpu::allow_bf16_tiles(true); }
  } allow_again;
  if (cpu::has_bf16_tiles()) {
    INFO("AMX");
    body();
    cpu::allow_bf16_tiles(false);
  }
  body();
}

std::vector<Precision> precisions_here() {
  if (cpu::has_bf16()) return {Precision::f32, Precision::bf16};
  WARN("this CPU has no bf16 dot products: only f32 is tested");
  return {Precision::f32};
}

int threads_that_serve(int threads, const std::function<void(Backend&)>& call) {
  constexpr int kRepetitions = 5000;  // 44 were the most that were needed, at a load of 45 on 2 cores
  Cpu cpu(threads);
  call(cpu.backend);
  for (int i = 0; i < kRepetitions && cpu.pool.distinct_threads() > 0 && cpu.pool.distinct_threads() < threads; ++i) call(cpu.backend);
  return cpu.pool.distinct_threads();
}

}  // namespace elastiform
