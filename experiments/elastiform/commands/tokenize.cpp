#include <fmt/core.h>

#include <algorithm>
#include <filesystem>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "kernels/errors.hpp"
#include "supernet/data/text_files.hpp"
#include "supernet/data/token_shard.hpp"
#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/new_file.hpp"
#include "supernet/tokenizers/tokenizer.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

/// `elastiform tokenize`: text to token shards, so that a run need not encode it each time it is opened.
class TokenizeCommand final : public Command {
 public:
  std::string_view name() const override { return "tokenize"; }
  std::string_view help() const override { return "Write a text as token shards of a tokenizer.json or tokenizer.model"; }
  std::string_view example() const override { return "elastiform tokenize kjv.txt --tokenizer smollm/tokenizer.json --to kjv.tokens"; }
  void declare(Options& options) override {
    options.positional("text", text_, "A file, or a folder of files");
    options.option("tokenizer", tokenizer_, "The place of a tokenizer.json or tokenizer.model (docs/imports.md)");
    options.option("to", to_, "File to write, or folder with one a file; nothing may be there");
  }
  int run(const CommonOptions& common) override {
    if (tokenizer_.empty()) throw InputError({"elastiform tokenize", "--tokenizer PATH/tokenizer.json", "none", ""});
    if (to_.empty()) throw InputError({"elastiform tokenize", "--to PATH", "none", ""});
    to_ = without_slash(to_);
    const Tokenizer tokenizer = Tokenizer::load(tokenizer_);
    const TextFiles text(text_);
    if (fs::exists(fs::symlink_status(to_))) throw InputError({to_, "nothing there yet", "something", "choose another path or remove it"});
    if (text.is_folder()) create_folder_durably(to_, [&](const std::string& beside) { write_all(text, tokenizer, beside); });
    else create_file_durably(to_, [&](const std::string& beside) { write(text, text.files().front(), tokenizer, beside); });
    print(text, tokenizer, common);
    return 0;
  }

 private:
  void write_all(const TextFiles& text, const Tokenizer& tokenizer, const std::string& folder) {
    for (const TextFiles::File& file : text.files()) {
      const std::string path = folder + "/" + file.name + TokenShard::kSuffix;
      fs::create_directories(fs::path(path).parent_path());
      write(text, file, tokenizer, path);
    }
  }

  void write(const TextFiles& text, const TextFiles::File& file, const Tokenizer& tokenizer, const std::string& path) {
    if (TokenShard::looks_like(text.bytes() + file.begin, file.end - file.begin))
      throw InputError({text.is_folder() ? text_ + "/" + file.name : text_, "text", "a token shard", "it is tokenized already"});
    const auto* begin = reinterpret_cast<const char*>(text.bytes() + file.begin);
    const std::vector<std::int32_t> ids = tokenizer.encode({begin, static_cast<std::size_t>(file.end - file.begin)});
    write_token_shard(path, ids, tokenizer.vocabulary(), tokenizer.sha256());
    tokens_ += static_cast<std::int64_t>(ids.size());
  }

  void print(const TextFiles& text, const Tokenizer& tokenizer, const CommonOptions& common) const {
    const double bytes_per_token = static_cast<double>(text.size()) / static_cast<double>(std::max<std::int64_t>(tokens_, 1));
    if (common.json)
      fmt::print("{}\n", JsonObject()
                             .add("path", to_)
                             .add("tokens", tokens_)
                             .add("vocabulary", static_cast<std::int64_t>(tokenizer.vocabulary()))
                             .add("bytes_per_token", bytes_per_token)
                             .text());
    else
      fmt::print("{}: {} tokens of {} ids, {:.3f} bytes of text a token\n", to_, grouped(tokens_), grouped(tokenizer.vocabulary()),
                 bytes_per_token);
  }

  std::string text_, tokenizer_, to_;
  std::int64_t tokens_ = 0;
};

}  // namespace

std::unique_ptr<Command> make_tokenize_command() { return std::make_unique<TokenizeCommand>(); }

}  // namespace elastiform
