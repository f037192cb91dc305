#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

namespace elastiform {

/// A file of token ids, 16 bits each where the vocabulary allows it, else 32: what `elastiform tokenize` writes, little-endian,
///   "ELTOKENS", u32 version = 1, u32 bytes of an id, u64 ids, SHA-256 of the tokenizer.json (32 bytes), the ids.
struct TokenShard {
  static constexpr std::size_t kHeaderBytes = 56;
  static constexpr const char* kSuffix = ".tokens";

  int width = 2;  // bytes of an id
  std::int64_t count = 0;
  const std::uint8_t* ids = nullptr;  // at any address; borrows

  /// Whether these bytes begin as a shard does.
  static bool looks_like(const std::uint8_t* bytes, std::int64_t size);
  /// Checks a whole file in memory; `path` is for messages.
  static TokenShard read(const std::uint8_t* bytes, std::int64_t size, const std::string& tokenizer_sha256, const std::string& path);
  /// Ids [first, first + count).
  void copy(std::int64_t first, std::int64_t count, std::int32_t* into) const;
};

/// Writes one durably.
void write_token_shard(const std::string& path, std::span<const std::int32_t> ids, int vocabulary, const std::string& tokenizer_sha256);

}  // namespace elastiform
