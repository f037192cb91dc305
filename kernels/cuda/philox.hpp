#pragma once

// Random numbers in kernels: the same bits as kernels/random.hpp.
#include <cstdint>

#include "kernels/cuda/gpu.hpp"
#include "kernels/random.hpp"

namespace elastiform::ELASTIFORM_GPU {

struct PhiloxKey {
  std::uint32_t low = 0, high = 0;
};
inline PhiloxKey philox_key(std::uint64_t seed) { return {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)}; }

struct PhiloxCounter {
  std::uint32_t word[4];
};

GPU_FUNCTION void philox(std::uint32_t (&words)[4], PhiloxCounter c, PhiloxKey key) {
#pragma unroll
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t product0 = std::uint64_t{kPhiloxMultiplier0} * c.word[0];
    const std::uint64_t product1 = std::uint64_t{kPhiloxMultiplier1} * c.word[2];
    c = {{static_cast<std::uint32_t>(product1 >> 32) ^ c.word[1] ^ key.low, static_cast<std::uint32_t>(product1),
          static_cast<std::uint32_t>(product0 >> 32) ^ c.word[3] ^ key.high, static_cast<std::uint32_t>(product0)}};
    key.low += kPhiloxWeyl0;
    key.high += kPhiloxWeyl1;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = c.word[i];
}

}  // namespace elastiform::ELASTIFORM_GPU
