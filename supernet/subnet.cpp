#include "supernet/subnet.hpp"

#include <algorithm>
#include <cctype>
#include <cstdint>

#include "kernels/errors.hpp"
#include "supernet/sha256.hpp"

namespace elastiform {
namespace {

// Far above any gene, far below where a product of two overflows 64 bits.
constexpr std::int64_t kMaxGene = 1'000'000'000;
constexpr std::size_t kQuoted = 120;

std::string quoted(std::string_view text) { return std::string(text.substr(0, kQuoted)) + (text.size() > kQuoted ? "…" : ""); }

/// Reads one text from left to right; every mistake is reported with its position (from 0).
class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Subnet parse() {
    if (text_.size() > kMaxSubnetText) fail("at most 65536 characters", std::to_string(text_.size()));
    Subnet subnet;
    expect('e', "'e' and the embed width, as in e192:4xh6f768");
    subnet.embed = positive("an embed width");
    expect(':', "':' after the embed width");
    do parse_run(subnet.blocks);
    while (accept(','));
    subnet.rank = rank_;
    if (accept('@')) subnet.kept = parse_kept(subnet.blocks.size());
    if (peek() != '\0' || position_ < text_.size()) fail("',', '@' or the end", found_here());
    return subnet;
  }

 private:
  [[noreturn]] void fail(std::string expected, std::string found, std::string remedy = "") const {
    throw InputError(
        {.where = "subnet " + quoted(text_), .expected = std::move(expected), .found = std::move(found), .remedy = std::move(remedy)});
  }
  [[noreturn]] void fail_statement(std::string statement, std::string remedy = "") const {
    fail("", std::move(statement), std::move(remedy));
  }

  std::string at(std::size_t position) const { return " at position " + std::to_string(position); }
  std::string found_here() const {
    if (position_ >= text_.size()) return "the end of the text";
    const char c = text_[position_];
    const bool printable = c > ' ' && c < 0x7f;
    return (printable ? "'" + std::string(1, c) + "'" : "byte " + std::to_string(static_cast<unsigned char>(c))) + at(position_);
  }

  void skip_blanks() {
    while (position_ < text_.size() && (text_[position_] == ' ' || text_[position_] == '\t')) ++position_;
  }
  // The next character in lower case; '\0' at the end.
  char peek() {
    skip_blanks();
    return position_ < text_.size() ? static_cast<char>(std::tolower(static_cast<unsigned char>(text_[position_]))) : '\0';
  }
  bool accept(char c) {
    if (peek() != c || position_ >= text_.size()) return false;
    ++position_;
    return true;
  }
  void expect(char c, std::string what) {
    if (!accept(c)) fail(std::move(what), found_here());
  }

  int number(const std::string& what) {
    const char first = peek();
    if (first < '0' || first > '9') fail(what, found_here());
    const std::size_t start = position_;
    std::int64_t value = 0;
    for (; position_ < text_.size() && text_[position_] >= '0' && text_[position_] <= '9'; ++position_) {
      value = value * 10 + (text_[position_] - '0');
      if (value > kMaxGene) fail(what + " of at most 1000000000", "a larger number" + at(start));
    }
    return static_cast<int>(value);
  }
  int positive(const std::string& what) {
    peek();
    const std::size_t start = position_;
    const int value = number(what);
    if (value == 0) fail(what + " of at least 1", "0" + at(start));
    return value;
  }

  void parse_run(std::vector<BlockGenes>& blocks) {
    int count = 1;
    if (const char first = peek(); first >= '0' && first <= '9') {
      count = positive("a number of blocks");
      expect('x', "'x' after the number of blocks");
    }
    const std::size_t start = position_;
    int rank = -1;
    const BlockGenes genes = parse_genes(start, rank);
    const std::string block = "block " + std::to_string(blocks.size());
    if (rank < 0) rank = 0;
    if (blocks.empty()) rank_ = rank;
    if (rank != rank_) fail_statement(block + " has another LoRA rank than block 0", "a subnet has one rank, written in every run");
    if (genes.heads == 0 && genes.ffn == 0) fail_statement(block + " has neither heads nor FFN", "drop the block with @");
    if (genes.heads == 0 ? genes.groups != 0 : genes.groups == 0 || genes.heads % genes.groups != 0)
      fail_statement(block + " has " + std::to_string(genes.heads) + " heads over " + std::to_string(genes.groups) + " KV groups",
                     "h must be a multiple of k");
    if (blocks.size() + static_cast<std::size_t>(count) > static_cast<std::size_t>(kMaxSubnetBlocks))
      fail("at most " + std::to_string(kMaxSubnetBlocks) + " blocks", "more" + at(start));
    blocks.insert(blocks.end(), static_cast<std::size_t>(count), genes);
  }

  BlockGenes parse_genes(std::size_t start, int& rank) {
    int heads = -1, groups = -1, ffn = -1;
    for (char tag = peek(); tag >= 'a' && tag <= 'z'; tag = peek()) {
      int* gene = tag == 'h' ? &heads : tag == 'k' ? &groups : tag == 'f' ? &ffn : tag == 'r' ? &rank : nullptr;
      if (!gene) fail("one of the tags h (heads), k (KV groups), f (FFN width), r (LoRA rank)", found_here());
      if (*gene >= 0) fail("every tag once", "a second " + found_here());
      ++position_;
      const std::string what = std::string("a number after ") + tag;
      *gene = gene == &rank ? positive(what) : number(what);
    }
    if (heads < 0 && groups < 0 && ffn < 0) fail("a block, as in h6f768", found_here());
    if (heads < 0) fail("h and a number of heads in the block" + at(start), "none", "h0 is a block without attention");
    if (ffn < 0) fail("f and an FFN width in the block" + at(start), "none", "f0 is a block without FFN");
    return {.heads = heads, .groups = groups < 0 ? heads : groups, .ffn = ffn};
  }

  std::vector<int> parse_kept(std::size_t depth) {
    std::vector<int> kept;
    do {
      peek();
      const std::size_t start = position_;
      const int first = number("a block's index");
      const int last = accept('-') ? number("the last block's index") : first;
      if (last < first || last >= kMaxSubnetBlocks || (!kept.empty() && first <= kept.back()))
        fail("ascending block indices from 0 to " + std::to_string(kMaxSubnetBlocks - 1) + " after @",
             quoted(text_.substr(start, position_ - start)) + at(start));
      for (int index = first; index <= last; ++index) kept.push_back(index);
    } while (accept(','));
    if (kept.size() != depth)
      fail_statement(std::to_string(depth) + " blocks are described but " + std::to_string(kept.size()) + " are kept after @");
    // Ascending from 0 without a hole is what a text without @ means.
    if (kept.back() == static_cast<int>(kept.size()) - 1) kept.clear();
    return kept;
  }

  std::string_view text_;
  std::size_t position_ = 0;
  int rank_ = 0;
};

void append_genes(std::string& text, const BlockGenes& genes, int rank) {
  text += 'h' + std::to_string(genes.heads);
  if (genes.groups != genes.heads) text += 'k' + std::to_string(genes.groups);
  text += 'f' + std::to_string(genes.ffn);
  if (rank > 0) text += 'r' + std::to_string(rank);
}

void append_kept(std::string& text, const std::vector<int>& kept) {
  text += '@';
  for (std::size_t i = 0; i < kept.size();) {
    std::size_t end = i + 1;
    while (end < kept.size() && kept[end] == kept[end - 1] + 1) ++end;
    if (i) text += ',';
    text += std::to_string(kept[i]);
    if (end > i + 1) text += '-' + std::to_string(kept[end - 1]);
    i = end;
  }
}

}  // namespace

std::strong_ordering Subnet::operator<=>(const Subnet& other) const {
  if (const auto order = embed <=> other.embed; order != 0) return order;
  if (const auto order = depth() <=> other.depth(); order != 0) return order;
  if (const auto order = blocks <=> other.blocks; order != 0) return order;
  for (int i = 0; i < depth(); ++i)
    if (const auto order = block_index(i) <=> other.block_index(i); order != 0) return order;
  return rank <=> other.rank;
}

std::string format(const Subnet& subnet) {
  std::string text = 'e' + std::to_string(subnet.embed) + ':';
  const std::vector<BlockGenes>& blocks = subnet.blocks;
  for (std::size_t i = 0; i < blocks.size();) {
    const auto end =
        std::find_if(blocks.begin() + static_cast<std::ptrdiff_t>(i), blocks.end(), [&](const BlockGenes& b) { return b != blocks[i]; });
    const auto count = static_cast<std::size_t>(end - blocks.begin()) - i;
    if (i) text += ',';
    if (count > 1) text += std::to_string(count) + 'x';
    append_genes(text, blocks[i], subnet.rank);
    i += count;
  }
  if (!subnet.kept.empty()) append_kept(text, subnet.kept);
  return text;
}

Subnet parse_subnet(std::string_view text) { return Parser(text).parse(); }

std::string hash8(const Subnet& subnet) { return sha256_hex(format(subnet)).substr(0, 8); }

}  // namespace elastiform
