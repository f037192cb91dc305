#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "supernet/data/batch.hpp"

namespace elastiform {

enum class Split : std::uint8_t { train, search, report };
constexpr std::size_t kSplits = 3;
std::string_view name_of(Split split);
Split parse_split(std::string_view text);  // throws InputError

/// A stretch that belongs to one split: positions [begin, end). Of text tokens; an image is a segment of its own.
struct Segment {
  std::int64_t begin = 0, end = 0;
};

/// A window of at most T inputs for scoring, and how many of its first targets are not counted. An image is a window with one target.
struct Window {
  std::int64_t begin = 0;   // first input
  std::int64_t length = 0;  // inputs; targets are begin+1 … begin+length
  std::int64_t skip = 0;    // targets not counted: they were counted by the window before
  std::int64_t segment = 0;
};

/// Data in three disjoint splits: what training draws batches from and evaluation scores windows of.
class DataSource {
 public:
  virtual ~DataSource() = default;
  virtual const std::string& sha256() const = 0;
  virtual const std::vector<Segment>& segments(Split split) const = 0;

  /// Training batch of step t: B sequences of T inputs; a pure function of (seed, t).
  Batch training_batch(std::uint64_t seed, std::uint64_t step, std::int64_t sequences, std::int64_t tokens) const;
  /// Sequences [first, first + sequences) of step t, into a batch whose memory serves again: micro-batches of a step are its parts.
  virtual void training_batch(std::uint64_t seed, std::uint64_t step, std::int64_t sequences, std::int64_t tokens, Batch& batch,
                              std::int64_t first = 0) const = 0;

  /// Windows that score a split; limit > 0: only the first `limit` segments of it.
  virtual std::vector<Window> scoring_windows(Split split, std::int64_t tokens, std::int64_t stride, std::int64_t limit) const = 0;
  /// Windows [first, first+count) as a batch.
  virtual Batch scoring_batch(const std::vector<Window>& windows, std::int64_t first, std::int64_t count, std::int64_t tokens) const = 0;

  /// Bytes of text that a counted target of these windows stands for, in the mean: what turns nats per token into bits per byte. 1 where a
  /// token is a byte, and of images.
  virtual double bytes_per_token(const std::vector<Window>&) const { return 1; }
};

}  // namespace elastiform
