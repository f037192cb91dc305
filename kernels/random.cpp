#include "kernels/random.hpp"

#include <cmath>
#include <numbers>
#include <stdexcept>

namespace elastiform {
namespace {

constexpr std::uint32_t low(std::uint64_t x) { return static_cast<std::uint32_t>(x); }
constexpr std::uint32_t high(std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); }

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const std::uint64_t product0 = std::uint64_t{kPhiloxMultiplier0} * c[0];
    const std::uint64_t product1 = std::uint64_t{kPhiloxMultiplier1} * c[2];
    c = {high(product1) ^ c[1] ^ key[0], low(product1), high(product0) ^ c[3] ^ key[1], low(product0)};
    key[0] += kPhiloxWeyl0;
    key[1] += kPhiloxWeyl1;
  }
  return c;
}

RandomStream::RandomStream(std::uint64_t seed, Purpose purpose, std::uint64_t step, std::uint32_t index) {
  if (step >> 40 != 0 || index >> 24 != 0) throw std::logic_error("RandomStream: step needs 40 bits and index 24 at most");
  key_ = {low(seed), high(seed)};
  // counter_[0] numbers the blocks of this stream; the other three words are its name.
  counter_ = {0, low(step), high(step) << 24 | index, static_cast<std::uint32_t>(purpose)};
}

std::uint32_t RandomStream::next_u32() {
  if (used_ == words_.size()) {
    words_ = philox4x32(counter_, key_);
    // A wrap would repeat the stream from its start.
    if (++counter_[0] == 0) throw std::logic_error("RandomStream: more than 2^34 numbers taken from one stream");
    used_ = 0;
  }
  return words_[used_++];
}

std::uint64_t RandomStream::next_u64() {
  const std::uint64_t upper = next_u32();
  return upper << 32 | next_u32();
}

std::uint64_t RandomStream::below(std::uint64_t n) {
  if (n == 0) throw std::logic_error("RandomStream::below(0)");
  // 2^64 mod n values at the bottom would be drawn once too often; at most every second draw is rejected.
  const std::uint64_t surplus = (0 - n) % n;
  std::uint64_t draw = next_u64();
  while (draw < surplus) draw = next_u64();
  return draw % n;
}

double RandomStream::uniform() { return static_cast<double>(next_u64() >> 11) * 0x1p-53; }

double RandomStream::normal() {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  const double u = 1 - uniform();  // (0, 1]: the logarithm stays finite
  const double radius = std::sqrt(-2 * std::log(u));
  const double angle = 2 * std::numbers::pi * uniform();
  spare_ = radius * std::sin(angle);
  has_spare_ = true;
  return radius * std::cos(angle);
}

}  // namespace elastiform
