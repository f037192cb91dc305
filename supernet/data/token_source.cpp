#include "supernet/data/token_source.hpp"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "kernels/errors.hpp"
#include "supernet/data/token_shard.hpp"
#include "supernet/sha256.hpp"

namespace elastiform {
namespace {

/// Every byte is its own token.
class ByteTokens final : public TokenSource {
 public:
  ByteTokens(TextFiles text, const std::string& path) : text_(std::move(text)) {
    for (const TextFiles::File& file : text_.files()) {
      if (TokenShard::looks_like(text_.bytes() + file.begin, file.end - file.begin))
        throw InputError({text_.is_folder() ? path + "/" + file.name : path, "text, of which every byte is an id", "a token shard",
                          "set data.tokenizer to the tokenizer.json that made it"});
      files_.push_back({file.begin, file.end});
    }
  }
  bool is_folder() const override { return text_.is_folder(); }
  const std::vector<File>& files() const override { return files_; }
  std::int64_t size() const override { return text_.size(); }
  void copy(std::int64_t position, std::int64_t count, std::int32_t* into) const override {
    std::copy_n(text_.bytes() + position, count, into);
  }
  std::int64_t text_bytes(std::int64_t begin, std::int64_t end) const override { return end - begin; }
  std::string sha256() const override { return text_.sha256(); }
  const std::uint8_t* bytes() const override { return text_.bytes(); }

 private:
  TextFiles text_;
  std::vector<File> files_;
};

/// Ids that were made here, or that stand in shards.
class WordTokens final : public TokenSource {
 public:
  WordTokens(TextFiles text, const Tokenizer& tokenizer, const std::string& path)
      : text_(std::move(text)), tokenizer_sha256_(tokenizer.sha256()) {
    for (int id = 0; id < tokenizer.vocabulary(); ++id) lengths_.push_back(static_cast<std::int64_t>(tokenizer.text_of(id).size()));
    const auto& first = text_.files().front();
    const bool shards = TokenShard::looks_like(text_.bytes() + first.begin, first.end - first.begin);
    std::vector<TextFiles::File> in_order = text_.files();
    // A folder of shards is dealt in the order of its texts: "book.tokens" before "book-2.tokens".
    const auto text_name = [&](const TextFiles::File& file) { return shards ? without_suffix(file.name) : file.name; };
    std::sort(in_order.begin(), in_order.end(), [&](const auto& a, const auto& b) { return text_name(a) < text_name(b); });
    for (const TextFiles::File& file : in_order) {
      const std::string name = text_.is_folder() ? path + "/" + file.name : path;
      const std::uint8_t* bytes = text_.bytes() + file.begin;
      const std::int64_t size = file.end - file.begin;
      if (TokenShard::looks_like(bytes, size) != shards)
        throw InputError(
            {name, shards ? "a token shard, as the others of the folder" : "text, as the others of the folder", "the other", ""});
      parts_.push_back(shards ? TokenShard::read(bytes, size, tokenizer_sha256_, name) : encoded(bytes, size, tokenizer));
      names_.push_back(text_name(file));
      files_.push_back({size_, size_ + parts_.back().count});
      size_ += parts_.back().count;
    }
    if (size_ == 0) throw InputError({path, "tokens", "none", ""});
    check_ids(path);
  }

  bool is_folder() const override { return text_.is_folder(); }
  const std::vector<File>& files() const override { return files_; }
  std::int64_t size() const override { return size_; }
  void copy(std::int64_t position, std::int64_t count, std::int32_t* into) const override {
    const auto file = std::upper_bound(files_.begin(), files_.end(), position, [](std::int64_t at, const File& f) { return at < f.end; });
    parts_[static_cast<std::size_t>(file - files_.begin())].copy(position - file->begin, count, into);
  }
  std::int64_t text_bytes(std::int64_t begin, std::int64_t end) const override {
    std::int64_t bytes = 0;
    each_chunk(begin, end, [&](const std::vector<std::int32_t>& ids) {
      for (const std::int32_t id : ids) bytes += lengths_[static_cast<std::size_t>(id)];
    });
    return bytes;
  }
  std::string sha256() const override {
    Sha256 hash;
    hash.add(tokenizer_sha256_);
    for (std::size_t i = 0; i < files_.size(); ++i) {
      const File& file = files_[i];
      // The zero byte, which no name contains, keeps "a" + "bc" apart from "ab" + "c".
      if (is_folder()) hash.add(names_[i] + '\0' + std::to_string(file.end - file.begin) + '\0');
      each_chunk(file.begin, file.end,
                 [&](const std::vector<std::int32_t>& ids) { hash.add(ids.data(), ids.size() * sizeof ids.front()); });
    }
    return hash.hex();
  }

 private:
  static std::string without_suffix(const std::string& name) {
    const std::string suffix = TokenShard::kSuffix;
    const bool ends = name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0;
    return ends ? name.substr(0, name.size() - suffix.size()) : name;
  }

  TokenShard encoded(const std::uint8_t* bytes, std::int64_t size, const Tokenizer& tokenizer) {
    made_.push_back(tokenizer.encode({reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size)}));
    const std::vector<std::int32_t>& ids = made_.back();
    return {.width = 4, .count = static_cast<std::int64_t>(ids.size()), .ids = reinterpret_cast<const std::uint8_t*>(ids.data())};
  }

  template <class Each>
  void each_chunk(std::int64_t begin, std::int64_t end, Each&& each) const {
    constexpr std::int64_t kChunk = 1 << 16;
    std::vector<std::int32_t> ids;
    for (; begin < end; begin += kChunk) {
      ids.resize(static_cast<std::size_t>(std::min(kChunk, end - begin)));
      copy(begin, static_cast<std::int64_t>(ids.size()), ids.data());
      each(ids);
    }
  }

  // A network's table has a row for each id; nothing else checks what a shard says.
  void check_ids(const std::string& path) const {
    for (const File& file : files_)
      each_chunk(file.begin, file.end, [&](const std::vector<std::int32_t>& ids) {
        for (const std::int32_t id : ids)
          if (id < 0 || id >= static_cast<std::int32_t>(lengths_.size()))
            throw InputError({path, "ids below " + std::to_string(lengths_.size()), std::to_string(id), "the file is damaged"});
      });
  }

  TextFiles text_;
  std::string tokenizer_sha256_;
  std::vector<std::int64_t> lengths_;  // bytes by id
  std::vector<std::vector<std::int32_t>> made_;
  std::vector<TokenShard> parts_;
  std::vector<std::string> names_;
  std::vector<File> files_;
  std::int64_t size_ = 0;
};

}  // namespace

std::unique_ptr<TokenSource> open_tokens(const std::string& path, const Tokenizer& tokenizer) {
  TextFiles text(path);
  if (tokenizer.is_bytes()) return std::make_unique<ByteTokens>(std::move(text), path);
  return std::make_unique<WordTokens>(std::move(text), tokenizer, path);
}

}  // namespace elastiform
