#include "supernet/data/token_shard.hpp"

#include <bit>
#include <cstring>
#include <fstream>
#include <vector>

#include "kernels/errors.hpp"
#include "supernet/storage/durable_file.hpp"

namespace elastiform {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are little-endian");

constexpr char kMagic[] = {'E', 'L', 'T', 'O', 'K', 'E', 'N', 'S'};
constexpr std::uint32_t kVersion = 1;
constexpr std::size_t kHashBytes = 32, kChunk = 1 << 20;
constexpr int kSmallVocabulary = 1 << 16;

/// "00ff…" → bytes.
std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return bytes;
}

template <class Id>
void copy_ids(const std::uint8_t* from, std::int64_t count, std::int32_t* into) {
  for (std::int64_t i = 0; i < count; ++i) {
    Id id = 0;
    std::memcpy(&id, from + i * static_cast<std::int64_t>(sizeof(Id)), sizeof(Id));
    into[i] = static_cast<std::int32_t>(id);
  }
}

}  // namespace

bool TokenShard::looks_like(const std::uint8_t* bytes, std::int64_t size) {
  return size >= static_cast<std::int64_t>(sizeof kMagic) && std::memcmp(bytes, kMagic, sizeof kMagic) == 0;
}

TokenShard TokenShard::read(const std::uint8_t* bytes, std::int64_t size, const std::string& tokenizer_sha256, const std::string& path) {
  if (size < static_cast<std::int64_t>(kHeaderBytes))
    throw InputError({path, "a token shard", "a file of " + std::to_string(size) + " bytes", ""});
  std::uint32_t version = 0, width = 0;
  std::uint64_t count = 0;
  std::memcpy(&version, bytes + 8, sizeof version);
  std::memcpy(&width, bytes + 12, sizeof width);
  std::memcpy(&count, bytes + 16, sizeof count);
  if (version != kVersion) throw InputError({path, "a token shard of version 1", std::to_string(version), ""});
  if (width != 2 && width != 4) throw InputError({path, "ids of 2 or 4 bytes", std::to_string(width), ""});
  const auto stored = (static_cast<std::uint64_t>(size) - kHeaderBytes) / width;
  if (count != stored || (static_cast<std::uint64_t>(size) - kHeaderBytes) % width != 0)
    throw InputError({path, std::to_string(count) + " ids", "bytes for " + std::to_string(stored), "the file is damaged"});
  if (from_hex(tokenizer_sha256) != std::string(reinterpret_cast<const char*>(bytes) + 24, kHashBytes))
    throw InputError({path, "tokens of data.tokenizer", "those of another tokenizer", "elastiform tokenize makes them anew"});
  return {.width = static_cast<int>(width), .count = static_cast<std::int64_t>(count), .ids = bytes + kHeaderBytes};
}

void TokenShard::copy(std::int64_t first, std::int64_t number, std::int32_t* into) const {
  if (width == 2) copy_ids<std::uint16_t>(ids + 2 * first, number, into);
  else copy_ids<std::uint32_t>(ids + 4 * first, number, into);
}

void write_token_shard(const std::string& path, std::span<const std::int32_t> ids, int vocabulary, const std::string& tokenizer_sha256) {
  const std::uint32_t width = vocabulary <= kSmallVocabulary ? 2 : 4;
  const std::uint64_t count = ids.size();
  write_durably(path, [&](const std::string& beside) {
    std::ofstream file(beside, std::ios::binary);
    file.write(kMagic, sizeof kMagic);
    file.write(reinterpret_cast<const char*>(&kVersion), sizeof kVersion);
    file.write(reinterpret_cast<const char*>(&width), sizeof width);
    file.write(reinterpret_cast<const char*>(&count), sizeof count);
    file << from_hex(tokenizer_sha256);
    std::vector<char> buffer;
    for (std::size_t done = 0; done < ids.size(); done += kChunk) {
      const std::span<const std::int32_t> part = ids.subspan(done, std::min(kChunk, ids.size() - done));
      buffer.resize(part.size() * width);
      for (std::size_t i = 0; i < part.size(); ++i) std::memcpy(buffer.data() + i * width, &part[i], width);  // the low bytes stand first
      file.write(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    }
    file.close();
    if (!file) throw InputError({path, "room for " + std::to_string(ids.size()) + " tokens", "an error while writing", ""});
  });
}

}  // namespace elastiform
