#pragma once

#include <array>
#include <cstdint>

namespace elastiform {

/// What a random number is for. Part of the counter, so no two uses ever share a number. Values are stored in files: append only.
enum class Purpose : std::uint32_t {
  initialization = 1,
  batch = 2,
  subnet = 3,
  split = 4,
  search = 5,
  sample = 6,
  generation = 7,
  bootstrap = 8,
  activation = 9,
  weight_rounding = 10,
  dropout = 20,
  kept_tokens = 21,
  masked_patches = 22,
  test = 99,
};

// Multipliers and Weyl increments of Random123's Philox4x32.
inline constexpr std::uint32_t kPhiloxMultiplier0 = 0xD2511F53, kPhiloxMultiplier1 = 0xCD9E8D57;
inline constexpr std::uint32_t kPhiloxWeyl0 = 0x9E3779B9, kPhiloxWeyl1 = 0xBB67AE85;
inline constexpr int kPhiloxRounds = 10;

/// Philox4x32-10 (Salmon et al., SC 2011): 128 random bits as a pure function of a 128-bit counter and a 64-bit key.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

/// A stream of random numbers named by (seed, purpose, step, index). Two equal names give equal streams on every machine;
/// nothing has to be saved to resume one. step < 2^40, index < 2^24.
class RandomStream {
 public:
  RandomStream(std::uint64_t seed, Purpose purpose, std::uint64_t step = 0, std::uint32_t index = 0);

  std::uint32_t next_u32();
  std::uint64_t next_u64();
  /// Uniform over 0 … n-1 without bias; n ≥ 1.
  std::uint64_t below(std::uint64_t n);
  /// Uniform in [0, 1), 53 bits.
  double uniform();
  /// Standard normal (Box-Muller; the second value is kept).
  double normal();

 private:
  std::array<std::uint32_t, 4> counter_{};
  std::array<std::uint32_t, 2> key_{};
  std::array<std::uint32_t, 4> words_{};
  unsigned used_ = 4;
  double spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace elastiform
