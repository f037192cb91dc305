#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "supernet/data/data_options.hpp"
#include "supernet/data/data_source.hpp"
#include "supernet/tokenizers/tokenizer.hpp"

namespace elastiform {

/// The tokens of a text (TextFiles: in memory, mapped above 1 GiB), cut into three disjoint splits. Positions count tokens. A file: blocks of
/// split_block tokens drawn by Philox (seed 0: the splits of a text never change), training keeps one context away from blocks of the other
/// splits. A folder: whole files are dealt, sorted by name, links and hidden files left out.
class TextData final : public DataSource {
 public:
  /// `path` is the resolved location. Throws InputError when it cannot be read or is too small for `context`.
  TextData(const std::string& path, const DataOptions& options, int context);
  ~TextData() override;
  TextData(TextData&&) noexcept;

  std::int64_t size() const;                   // tokens
  const std::string& sha256() const override;  // of the text (folder: of names, sizes and contents); of tokens, of their ids
  const Tokenizer& tokenizer() const;
  const std::vector<Segment>& segments(Split split) const override;
  std::int64_t split_tokens(Split split) const;
  std::vector<std::int32_t> tokens(std::int64_t begin, std::int64_t end) const;  // positions of one segment
  std::uint8_t byte(std::int64_t position) const;                                // of the byte tokenizer alone
  const std::uint8_t* bytes() const;                                             // of the byte tokenizer alone, at their positions
  double bytes_per_token(const std::vector<Window>& windows) const override;

  /// Windows at places drawn uniformly from the train split.
  using DataSource::training_batch;
  void training_batch(std::uint64_t seed, std::uint64_t step, std::int64_t sequences, std::int64_t tokens, Batch& batch,
                      std::int64_t first = 0) const override;

  /// Windows that score a split: each segment by itself, windows of T inputs every `stride` tokens; of each window but the first of its
  /// segment only the targets that no window before has seen are counted. limit > 0: only the first `limit` segments of the split.
  std::vector<Window> scoring_windows(Split split, std::int64_t tokens, std::int64_t stride, std::int64_t limit) const override;
  /// Windows [first, first+count) as a batch; not counted targets are kIgnoredTarget, short windows are padded with ignored tokens.
  Batch scoring_batch(const std::vector<Window>& windows, std::int64_t first, std::int64_t count, std::int64_t tokens) const override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace elastiform
