#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "supernet/data/text_files.hpp"
#include "supernet/tokenizers/tokenizer.hpp"

namespace elastiform {

/// The token ids of a text, file by file. Positions count tokens (bytes, of the byte tokenizer); between two files there may be positions that
/// belong to none.
class TokenSource {
 public:
  struct File {
    std::int64_t begin = 0, end = 0;
  };
  virtual ~TokenSource() = default;
  virtual bool is_folder() const = 0;
  virtual const std::vector<File>& files() const = 0;  // sorted by name
  virtual std::int64_t size() const = 0;               // tokens of all files
  /// Ids [position, position + count) of one file.
  virtual void copy(std::int64_t position, std::int64_t count, std::int32_t* into) const = 0;
  virtual std::int64_t text_bytes(std::int64_t begin, std::int64_t end) const = 0;  // that these tokens stand for
  /// Of bytes: the text's SHA-256. Of tokens: over every file's name and ids, and the tokenizer, the same from a text and from its shards.
  virtual std::string sha256() const = 0;
  virtual const std::uint8_t* bytes() const { return nullptr; }  // of the byte tokenizer, at their positions
};

/// `path`: a text, which is encoded here and now, or token shards of the same tokenizer (token_shard.hpp). Throws InputError.
std::unique_ptr<TokenSource> open_tokens(const std::string& path, const Tokenizer& tokenizer);

}  // namespace elastiform
