#pragma once

#include <cstdint>
#include <memory>
#include <new>

namespace elastiform::cpu {

/// The calling thread's block of at least `floats` floats, 64-byte aligned. Grows to the largest request and stays, so a steady step
/// allocates nothing; used within one serial task only, never across a wait.
inline float* attention_scratch(std::int64_t floats) {
  struct Free {
    void operator()(float* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  thread_local std::unique_ptr<float, Free> block;
  thread_local std::int64_t size = 0;
  if (floats > size) {
    block.reset(static_cast<float*>(::operator new (static_cast<std::size_t>(floats) * sizeof(float), std::align_val_t{64})));
    size = floats;
  }
  return block.get();
}

}  // namespace elastiform::cpu
