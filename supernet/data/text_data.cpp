#include "supernet/data/text_data.hpp"

#include <algorithm>
#include <array>
#include <stdexcept>

#include "kernels/errors.hpp"
#include "kernels/ops/loss.hpp"
#include "kernels/random.hpp"
#include "supernet/data/splits.hpp"
#include "supernet/data/token_source.hpp"

namespace elastiform {
namespace {

using Segments = std::array<std::vector<Segment>, kSplits>;

// More blocks than this (16 GiB at 64 KiB) make lists, not statistics.
constexpr std::int64_t kMaxBlocks = 1 << 24;

void check_options(const DataOptions& options) {
  check_splits(options.splits);
  if (options.split_block < 2)
    throw InputError({.where = "data.split_block",
                      .expected = std::string("at least 2 ") + (options.tokenizer == "bytes" ? "bytes" : "tokens"),
                      .found = std::to_string(options.split_block),
                      .remedy = ""});
}

Segments split_folder(const std::string& path, const TokenSource& text, const DataOptions& options) {
  const std::vector<TokenSource::File>& files = text.files();
  if (files.size() < kSplits)
    throw InputError({.where = path,
                      .expected = "a folder of at least 3 files, one for each split",
                      .found = std::to_string(files.size()),
                      .remedy = "name the file itself to split it by blocks"});
  const std::vector<Split> owner = deal(static_cast<std::int64_t>(files.size()), options.splits);
  Segments segments;
  for (std::size_t i = 0; i < files.size(); ++i)
    if (files[i].end - files[i].begin >= 2) segments[index_of(owner[i])].push_back({files[i].begin, files[i].end});
  return segments;
}

Segments split_file(const std::string& path, std::int64_t size, const DataOptions& options, int context, const std::string& unit) {
  const std::int64_t block = options.split_block, whole = size / block;
  if (whole < static_cast<std::int64_t>(kSplits))
    throw InputError({.where = path,
                      .expected = "at least 3 blocks of " + std::to_string(block) + " " + unit + ", one for each split",
                      .found = std::to_string(size) + " " + unit,
                      .remedy = "use a longer text or a smaller data.split_block"});
  if (whole > kMaxBlocks)
    throw InputError({.where = path,
                      .expected = "at most " + std::to_string(kMaxBlocks) + " blocks",
                      .found = std::to_string(whole),
                      .remedy = "use a larger data.split_block"});
  std::vector<Split> owner = deal(whole, options.splits);
  if (size % block != 0) owner.push_back(Split::train);
  const auto count = static_cast<std::int64_t>(owner.size());
  Segments segments;
  for (std::int64_t i = 0; i < count;) {
    const Split split = owner[static_cast<std::size_t>(i)];
    std::int64_t end = i + 1;
    // Held-out blocks are scored one by one; neighbours in the train split form one segment.
    if (split == Split::train)
      while (end < count && owner[static_cast<std::size_t>(end)] == split) ++end;
    Segment segment{i * block, std::min(end * block, size)};
    if (split == Split::train) {
      // One context of distance: no training window sees or predicts a byte that a held-out block's window also sees.
      if (i > 0) segment.begin += context;
      if (end < count) segment.end -= context;
    }
    if (segment.end - segment.begin >= 2) segments[index_of(split)].push_back(segment);
    i = end;
  }
  return segments;
}

/// first[i] = windows of T inputs that begin in the segments before i; a window has T + 1 bytes of one segment.
std::vector<std::int64_t> count_starts(const std::vector<Segment>& segments, std::int64_t tokens) {
  std::vector<std::int64_t> first = {0};
  for (const Segment& s : segments) first.push_back(first.back() + std::max<std::int64_t>(0, s.end - s.begin - tokens));
  return first;
}

}  // namespace

struct TextData::Impl {
  Tokenizer tokenizer;
  std::unique_ptr<TokenSource> text;
  std::string sha256;
  Segments segments;
  std::int64_t positions = 0;  // end of the last file
  std::int64_t context = 0;
  std::vector<std::int64_t> starts;  // count_starts of the train split for windows of `context`
};

TextData::TextData(const std::string& path, const DataOptions& options, int context) {
  check_options(options);
  if (context < 1) throw InputError({.where = "context", .expected = "at least 1 token", .found = std::to_string(context), .remedy = ""});
  impl_ = std::unique_ptr<Impl>(new Impl{.tokenizer = Tokenizer::named(options.tokenizer),
                                         .text = {},
                                         .sha256 = {},
                                         .segments = {},
                                         .positions = 0,
                                         .context = context,
                                         .starts = {}});
  Impl& d = *impl_;
  d.text = open_tokens(path, d.tokenizer);
  const std::string unit = d.tokenizer.is_bytes() ? "bytes" : "tokens";
  d.positions = d.text->files().back().end;
  d.segments = d.text->is_folder() ? split_folder(path, *d.text, options) : split_file(path, d.text->size(), options, context, unit);
  d.starts = count_starts(d.segments[index_of(Split::train)], context);
  if (d.starts.back() == 0)
    throw InputError(
        {.where = path,
         .expected = "a train split with a stretch of " + std::to_string(context + 1) + " " + unit + " (context + 1)",
         .found = "none",
         .remedy = d.text->is_folder() ? "use longer files" : "use a longer text, a larger data.split_block or a smaller context"});
  for (const Split split : {Split::search, Split::report})
    if (segments(split).empty())
      throw InputError({.where = path,
                        .expected = "at least 2 " + unit + " in the " + std::string(name_of(split)) + " split",
                        .found = "none",
                        .remedy = "use more or longer files"});
  d.sha256 = d.text->sha256();
}

TextData::~TextData() = default;
TextData::TextData(TextData&&) noexcept = default;

std::int64_t TextData::size() const { return impl_->text->size(); }
const std::string& TextData::sha256() const { return impl_->sha256; }
const Tokenizer& TextData::tokenizer() const { return impl_->tokenizer; }
const std::vector<Segment>& TextData::segments(Split split) const { return impl_->segments[index_of(split)]; }

std::int64_t TextData::split_tokens(Split split) const {
  std::int64_t tokens = 0;
  for (const Segment& s : segments(split)) tokens += s.end - s.begin;
  return tokens;
}

std::vector<std::int32_t> TextData::tokens(std::int64_t begin, std::int64_t end) const {
  if (begin < 0 || end < begin || end > impl_->positions) throw std::logic_error("TextData::tokens: no such positions");
  std::vector<std::int32_t> ids(static_cast<std::size_t>(end - begin));
  if (!ids.empty()) impl_->text->copy(begin, end - begin, ids.data());
  return ids;
}

std::uint8_t TextData::byte(std::int64_t position) const {
  if (position < 0 || position >= impl_->positions) throw std::logic_error("TextData::byte: no such position");
  return bytes()[position];
}

const std::uint8_t* TextData::bytes() const {
  const std::uint8_t* bytes = impl_->text->bytes();
  if (bytes == nullptr) throw std::logic_error("TextData::bytes: tokens that are no bytes");
  return bytes;
}

double TextData::bytes_per_token(const std::vector<Window>& windows) const {
  if (impl_->tokenizer.is_bytes()) return 1;
  std::int64_t bytes = 0, count = 0;
  for (const Window& window : windows) {
    const std::int64_t first = window.begin + 1 + window.skip, end = window.begin + 1 + window.length;
    bytes += impl_->text->text_bytes(first, end);
    count += end - first;
  }
  return count > 0 && bytes > 0 ? static_cast<double>(bytes) / static_cast<double>(count) : 1;
}

void TextData::training_batch(std::uint64_t seed, std::uint64_t step, std::int64_t sequences, std::int64_t tokens, Batch& batch,
                              std::int64_t first_sequence) const {
  if (sequences < 1 || tokens < 1) throw std::logic_error("TextData::training_batch: needs at least one sequence of one token");
  const std::vector<Segment>& train = segments(Split::train);
  const std::vector<std::int64_t> other = tokens == impl_->context ? std::vector<std::int64_t>{} : count_starts(train, tokens);
  const std::vector<std::int64_t>& first = other.empty() ? impl_->starts : other;
  if (first.back() == 0)
    throw InputError({.where = "training text",
                      .expected = "a stretch of " + std::to_string(tokens + 1) + " tokens in the train split",
                      .found = "none",
                      .remedy = "use a longer text or shorter sequences"});
  batch.sequences = sequences;
  batch.tokens = tokens;
  batch.inputs.resize(static_cast<std::size_t>(batch.rows()));
  batch.targets.resize(static_cast<std::size_t>(batch.rows()));
  for (std::int64_t b = 0; b < sequences; ++b) {
    // A stream of its own for each sequence: any share of the batch can be drawn without the rest.
    RandomStream random(seed, Purpose::batch, step, static_cast<std::uint32_t>(first_sequence + b));
    const auto draw = static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(first.back())));
    const auto s = static_cast<std::size_t>(std::upper_bound(first.begin(), first.end(), draw) - first.begin()) - 1;
    const std::int64_t window = train[s].begin + (draw - first[s]);
    impl_->text->copy(window, tokens, batch.inputs.data() + b * tokens);
    impl_->text->copy(window + 1, tokens, batch.targets.data() + b * tokens);
  }
}

std::vector<Window> TextData::scoring_windows(Split split, std::int64_t tokens, std::int64_t stride, std::int64_t limit) const {
  if (tokens < 1) throw std::logic_error("TextData::scoring_windows: needs windows of at least one token");
  if (stride < 1 || stride > tokens)
    throw InputError({.where = "stride",
                      .expected = "1 to the window's " + std::to_string(tokens) + " tokens",
                      .found = std::to_string(stride),
                      .remedy = ""});
  const std::vector<Segment>& all = segments(split);
  const auto count = static_cast<std::int64_t>(all.size());
  std::vector<Window> windows;
  for (std::int64_t s = 0; s < (limit > 0 ? std::min(limit, count) : count); ++s) {
    const Segment segment = all[static_cast<std::size_t>(s)];
    const std::int64_t last_target = segment.end - 1;
    std::int64_t counted = segment.begin;  // the last target that a window has counted; the first byte is nobody's target
    for (std::int64_t begin = segment.begin; counted < last_target; begin += stride) {
      const std::int64_t length = std::min(tokens, last_target - begin);
      windows.push_back({.begin = begin, .length = length, .skip = counted - begin, .segment = s});
      counted = begin + length;
    }
  }
  return windows;
}

Batch TextData::scoring_batch(const std::vector<Window>& windows, std::int64_t first, std::int64_t count, std::int64_t tokens) const {
  if (first < 0 || count < 0 || first + count > static_cast<std::int64_t>(windows.size()))
    throw std::logic_error("TextData::scoring_batch: no such windows");
  Batch batch{.sequences = count, .tokens = tokens, .inputs = {}, .targets = {}};
  batch.inputs.assign(static_cast<std::size_t>(count * tokens), 0);
  batch.targets.assign(static_cast<std::size_t>(count * tokens), kIgnoredTarget);
  for (std::int64_t b = 0; b < count; ++b) {
    const Window& window = windows[static_cast<std::size_t>(first + b)];
    if (window.length > tokens || window.begin < 0 || window.begin + window.length >= impl_->positions)
      throw std::logic_error("TextData::scoring_batch: a window beyond its batch or the text");
    impl_->text->copy(window.begin, window.length, batch.inputs.data() + b * tokens);
    impl_->text->copy(window.begin + 1 + window.skip, window.length - window.skip, batch.targets.data() + b * tokens + window.skip);
  }
  return batch;
}

}  // namespace elastiform
