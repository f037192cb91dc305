#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace elastiform {

/// Bytes that belong together: contexts never cross from one stretch into another.
using ByteSpan = std::span<const std::uint8_t>;

/// Interpolated Kneser-Ney models over bytes with the three discounts of Chen and Goodman (1999, "modified"), of all orders up to
/// max_order at once: an order-n model predicts from n-1 bytes. Its highest level counts n-grams, every level below counts the distinct
/// bytes that precede a gram, and below one byte stands the uniform 1/256. Discounts come from the counts of counts; nothing is tuned.
class KneserNey {
 public:
  static constexpr int kMaxOrder = 8;  // grams are packed into 64 bits

  /// Throws std::logic_error unless 1 ≤ max_order ≤ kMaxOrder. Peak memory: about 16 bytes a byte of text and 24 a distinct gram.
  KneserNey(const std::vector<ByteSpan>& training, int max_order);

  int max_order() const { return static_cast<int>(highest_.size()); }
  /// Probability that `next` follows `context`, of which the last order-1 bytes are used, or fewer at the start of a stretch.
  double probability(int order, ByteSpan context, std::uint8_t next) const;
  /// Bits that bytes 1 … end-1 of a stretch cost, each given what stands before it in the same stretch.
  double bits(int order, ByteSpan stretch) const;
  /// Distinct grams that an order-n model keeps.
  std::int64_t grams(int order) const;

 private:
  // One level: grams of k bytes, sorted, with a count each, and where each context of k-1 bytes begins among them.
  struct Level {
    std::vector<std::uint64_t> grams, contexts;
    std::vector<std::uint32_t> counts, first;  // first has one more entry than contexts
    std::vector<double> total, left_over;      // per context: Σ counts, and Σ discounts / total
    std::array<double, 4> discount{};          // of counts 0, 1, 2 and 3 or more
    void finish();
    double blend(std::uint64_t context, std::uint8_t next, double lower) const;
  };
  static Level raw_level(const std::vector<ByteSpan>& training, int k);
  static Level continuation_level(const Level& longer, int k);

  std::vector<Level> highest_;  // [n-1]: raw counts, the top of an order-n model
  std::vector<Level> lower_;    // [k-1]: continuation counts of grams of k bytes
};

}  // namespace elastiform
