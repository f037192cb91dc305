#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "supernet/data/batch.hpp"
#include "supernet/tokenizers/tokenizer.hpp"

namespace elastiform {

enum class Split : std::uint8_t { train, search, report };
std::string_view name_of(Split split);
Split parse_split(std::string_view text);  // throws InputError

struct DataOptions {
  std::string text;                      // a file or a folder, relative to the recipe (or the run) or absolute; text or token shards
  std::string tokenizer = "bytes";       // 256 ids, id = byte value; or the place of a tokenizer.json, as text's
  std::vector<int> splits = {90, 5, 5};  // parts of train, search, report
  std::int64_t split_block = 16384;      // bytes; tokens, of another tokenizer
};

/// A stretch of the text that belongs to one split: positions [begin, end).
struct Segment {
  std::int64_t begin = 0, end = 0;
};

/// A window of at most T inputs for scoring, and how many of its first targets are not counted.
struct Window {
  std::int64_t begin = 0;   // first input
  std::int64_t length = 0;  // inputs; targets are begin+1 … begin+length
  std::int64_t skip = 0;    // targets not counted: they were counted by the window before
  std::int64_t segment = 0;
};

/// The tokens of a text (TextFiles: in memory, mapped above 1 GiB), cut into three disjoint splits. Positions count tokens. A file: blocks of
/// split_block tokens drawn by Philox (seed 0: the splits of a text never change), training keeps one context away from blocks of the other
/// splits. A folder: whole files are dealt, sorted by name, links and hidden files left out.
class TextData {
 public:
  /// `path` is the resolved location. Throws InputError when it cannot be read or is too small for `context`.
  TextData(const std::string& path, const DataOptions& options, int context);
  ~TextData();
  TextData(TextData&&) noexcept;

  std::int64_t size() const;          // tokens
  const std::string& sha256() const;  // of the text (folder: of names, sizes and contents); of tokens, of their ids
  const Tokenizer& tokenizer() const;
  const std::vector<Segment>& segments(Split split) const;
  std::int64_t split_tokens(Split split) const;
  std::vector<std::int32_t> tokens(std::int64_t begin, std::int64_t end) const;  // positions of one segment
  std::uint8_t byte(std::int64_t position) const;                                // of the byte tokenizer alone
  const std::uint8_t* bytes() const;                                             // of the byte tokenizer alone, at their positions
  /// Bytes of text that a counted target of these windows stands for, in the mean: what turns nats per token into bits per byte. 1 for bytes.
  double bytes_per_token(const std::vector<Window>& windows) const;

  /// Training batch of step t: B windows of T inputs at places drawn uniformly from the train split; a pure function of (seed, t).
  Batch training_batch(std::uint64_t seed, std::uint64_t step, std::int64_t sequences, std::int64_t tokens) const;
  /// Sequences [first, first + sequences) of step t, into a batch whose memory serves again: micro-batches of a step are its parts.
  void training_batch(std::uint64_t seed, std::uint64_t step, std::int64_t sequences, std::int64_t tokens, Batch& batch,
                      std::int64_t first = 0) const;

  /// Windows that score a split: each segment by itself, windows of T inputs every `stride` tokens; of each window but the first of its
  /// segment only the targets that no window before has seen are counted. limit > 0: only the first `limit` segments of the split.
  std::vector<Window> scoring_windows(Split split, std::int64_t tokens, std::int64_t stride, std::int64_t limit) const;
  /// Windows [first, first+count) as a batch; not counted targets are kIgnoredTarget, short windows are padded with ignored tokens.
  Batch scoring_batch(const std::vector<Window>& windows, std::int64_t first, std::int64_t count, std::int64_t tokens) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace elastiform
