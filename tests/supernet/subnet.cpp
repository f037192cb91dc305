#include "supernet/subnet.hpp"

#include <algorithm>
#include <numeric>

#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

std::size_t pick(RandomStream& random, std::size_t n) { return static_cast<std::size_t>(random.below(n)); }

int gene(RandomStream& random, int most) { return static_cast<int>(random.below(static_cast<std::uint64_t>(most) + 1)); }

BlockGenes random_genes(RandomStream& random) {
  const int groups = gene(random, 3), queries = 1 + gene(random, 2);
  const int ffn = groups == 0 ? 8 : 8 * gene(random, 3);
  return {.heads = groups * queries, .groups = groups, .ffn = ffn};
}

/// Small alphabets, so that equal neighbours, prefixes after @ and long runs all occur.
Subnet random_subnet(RandomStream& random) {
  Subnet subnet{.embed = 1 + gene(random, 999), .blocks = {}, .kept = {}};
  const std::size_t depth = 1 + pick(random, 12);
  while (subnet.blocks.size() < depth) {
    const BlockGenes genes = random_genes(random);
    for (std::size_t run = 1 + pick(random, 3); run > 0 && subnet.blocks.size() < depth; --run) subnet.blocks.push_back(genes);
  }
  if (random.below(2) == 0) return subnet;
  for (int index = 0; subnet.kept.size() < depth; ++index)
    if (random.below(3) != 0) subnet.kept.push_back(index);
  if (subnet.kept.back() == static_cast<int>(depth) - 1) subnet.kept.clear();
  return subnet;
}

std::string blanks(RandomStream& random) { return std::string(pick(random, 3), random.below(2) ? ' ' : '\t'); }

std::string number(RandomStream& random, std::size_t value) {
  return blanks(random) + std::string(pick(random, 3), '0') + std::to_string(value);
}

/// One of the many texts that mean `subnet`: runs split at will, tags in any order, k written or not, ranges split, blanks, zeros, capitals.
std::string spelled(const Subnet& subnet, RandomStream& random) {
  std::string text = blanks(random) + "e" + number(random, static_cast<std::size_t>(subnet.embed)) + blanks(random) + ":";
  for (std::size_t i = 0; i < subnet.blocks.size();) {
    const BlockGenes& genes = subnet.blocks[i];
    std::size_t run = 1;
    while (i + run < subnet.blocks.size() && subnet.blocks[i + run] == genes && random.below(2)) ++run;
    if (i) text += blanks(random) + ",";
    if (run > 1 || random.below(4) == 0) text += number(random, run) + blanks(random) + "x";
    std::vector<std::string> tags = {"h" + number(random, static_cast<std::size_t>(genes.heads)),
                                     "f" + number(random, static_cast<std::size_t>(genes.ffn))};
    if (genes.groups != genes.heads || random.below(2)) tags.push_back("k" + number(random, static_cast<std::size_t>(genes.groups)));
    std::swap(tags.front(), tags[pick(random, tags.size())]);
    for (const std::string& tag : tags) text += blanks(random) + tag;
    i += run;
  }
  std::vector<int> kept = subnet.kept;
  if (kept.empty() && random.below(2)) {  // a prefix may be written out
    kept.resize(subnet.blocks.size());
    std::iota(kept.begin(), kept.end(), 0);
  }
  for (std::size_t i = 0; i < kept.size();) {
    std::size_t end = i + 1;
    while (end < kept.size() && kept[end] == kept[end - 1] + 1 && random.below(3)) ++end;
    text += (i ? "," : "@") + number(random, static_cast<std::size_t>(kept[i]));
    if (end > i + 1 || random.below(4) == 0) text += blanks(random) + "-" + number(random, static_cast<std::size_t>(kept[end - 1]));
    i = end;
  }
  if (random.below(2)) std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::toupper(c); });
  return text + blanks(random);
}

std::string message_of(const std::string& text) {
  try {
    const Subnet parsed = parse_subnet(text);
    return "parsed as " + format(parsed);
  } catch (const InputError& error) {
    return error.what();
  }
}

}  // namespace

TEST_CASE("a subnet's text has one canonical form", "[supernet][subnet]") {
  const auto [text, canonical] = GENERATE(table<std::string, std::string>({
      {"e192:4xh6f768", "e192:4xh6f768"},
      {"e576:30xh9k3f1536", "e576:30xh9k3f1536"},
      {"e320:2xh6f1280,h4f960,3xh5f640", "e320:2xh6f1280,h4f960,3xh5f640"},
      {"e320:2xh6f1280,h4f960@0-1,5", "e320:2xh6f1280,h4f960@0-1,5"},
      {"e576:10xh9k3f1536,h0f1536,h9k3f0", "e576:10xh9k3f1536,h0f1536,h9k3f0"},
      {"e320:h6f1280,h6f1280,1xh4k4f960", "e320:2xh6f1280,h4f960"},
      {" E320 : 2 x H6 F1280 , f960h4 @ 0 - 2 ", "e320:2xh6f1280,h4f960"},
      {"e0320:002xh06f1280", "e320:2xh6f1280"},
      {"e320:2xf1280k3h6@1,2", "e320:2xh6k3f1280@1-2"},
      {"e320:h0k0f8@0", "e320:h0f8"},
      {"e320:h2f8@4-4", "e320:h2f8@4"},
  }));
  CHECK(format(parse_subnet(text)) == canonical);
}

TEST_CASE("every spelling of a subnet parses to it, and its canonical text comes back", "[supernet][subnet]") {
  RandomStream random(1, Purpose::test);
  for (int i = 0; i < 10'000; ++i) {
    const Subnet subnet = random_subnet(random);
    const std::string text = format(subnet), other = spelled(subnet, random);
    CAPTURE(text, other);
    REQUIRE(parse_subnet(text) == subnet);
    REQUIRE(parse_subnet(other) == subnet);
    REQUIRE(format(parse_subnet(other)) == text);
    REQUIRE(text.size() <= other.size());  // so a canonical text never outgrows the limit that its source kept
  }
}

TEST_CASE("damaged subnet texts end in one line or in a subnet that round-trips", "[supernet][subnet]") {
  constexpr std::string_view alphabet = "e:xhkfrw@,-0123456789 \t\n\"~";
  RandomStream random(2, Purpose::test);
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = format(random_subnet(random));
    for (std::size_t edits = 1 + pick(random, 3); edits > 0 && !text.empty(); --edits) {
      const std::size_t at = pick(random, text.size());
      const char c = random.below(8) == 0 ? static_cast<char>(random.below(256)) : alphabet[pick(random, alphabet.size())];
      switch (random.below(4)) {
        case 0: text[at] = c; break;
        case 1: text.insert(at, 1, c); break;
        case 2: text.erase(at, 1 + pick(random, 4)); break;
        default: text.insert(at, text.substr(pick(random, text.size()), 6)); break;
      }
    }
    CAPTURE(text);
    try {
      const Subnet subnet = parse_subnet(text);
      REQUIRE(parse_subnet(format(subnet)) == subnet);
      REQUIRE(subnet.depth() >= 1);
    } catch (const InputError& error) {
      ++refused;
      const std::string line = error.what();
      REQUIRE_THAT(line, Catch::StartsWith("subnet "));
      REQUIRE(line.find('\n') == std::string::npos);
      REQUIRE(line.size() < 500);
    }
  }
  CHECK(refused > 5'000);  // the edits do damage
}

TEST_CASE("a mistake in a subnet's text is named with its place", "[supernet][subnet]") {
  const auto [text, message] = GENERATE(table<std::string, std::string>({
      {"", "expected 'e' and the embed width, as in e192:4xh6f768, found the end of the text"},
      {"192:4xh6f768", "found '1' at position 0"},
      {"e:h1f8", "expected an embed width, found ':' at position 1"},
      {"e0:h1f8", "expected an embed width of at least 1, found 0 at position 1"},
      {"e192", "expected ':' after the embed width, found the end of the text"},
      {"e192:", "expected a block, as in h6f768, found the end of the text"},
      {"e192:4h6f768", "expected 'x' after the number of blocks, found 'h' at position 6"},
      {"e192:0xh6f768", "expected a number of blocks of at least 1, found 0 at position 5"},
      {"e192:h6", "expected f and an FFN width in the block at position 5, found none"},
      {"e192:f8", "expected h and a number of heads in the block at position 5, found none"},
      {"e192:h6f8h6", "expected every tag once, found a second 'h' at position 9"},
      {"e192:h6f8w16", "expected one of the tags h (heads), k (KV groups), f (FFN width), r (LoRA rank), found 'w' at position 9"},
      {"e192:h6f8,", "expected a block, as in h6f768, found the end of the text"},
      {"e192:h6f8,,h6f8", "found ',' at position 10"},
      {"e192:h6f8;", "expected ',', '@' or the end, found ';' at position 9"},
      {"e192:h6f 7 8", "expected ',', '@' or the end, found '8' at position 11"},
      {"e192:h0f0", "block 0 has neither heads nor FFN; drop the block with @"},
      {"e192:2xh1f8,h6k4f8", "block 2 has 6 heads over 4 KV groups; h must be a multiple of k"},
      {"e192:h6k0f8", "block 0 has 6 heads over 0 KV groups"},
      {"e192:h0k2f8", "block 0 has 0 heads over 2 KV groups"},
      {"e192:h99999999999999999999f8", "expected a number after h of at most 1000000000, found a larger number at position 6"},
      {"e192:999999999xh1f8", "expected at most 4096 blocks, found more"},
      {"e192:4096xh1f8,h1f8", "expected at most 4096 blocks, found more"},
      {"e192:2xh1f8@0", "2 blocks are described but 1 are kept after @"},
      {"e192:2xh1f8@", "expected a block's index, found the end of the text"},
      {"e192:2xh1f8@3,2", "expected ascending block indices from 0 to 4095 after @, found 2 at position 14"},
      {"e192:2xh1f8@3,3", "found 3 at position 14"},
      {"e192:2xh1f8@5-4", "found 5-4 at position 12"},
      {"e192:2xh1f8@0-999999999", "found 0-999999999 at position 12"},
      {"e192:2xh1f8@0-1x", "found 'x' at position 15"},
  }));
  CHECK_THAT(message_of(text), Catch::StartsWith("subnet " + text + ": ") && Contains(message));
}

TEST_CASE("the limits of a subnet's text", "[supernet][subnet]") {
  CHECK(parse_subnet("e8:4096xh1f8").depth() == kMaxSubnetBlocks);
  CHECK(parse_subnet("e8:h1f8@4095").kept == std::vector<int>{4095});
  std::string text = "e8:h1f8";
  text.resize(kMaxSubnetText, ' ');
  CHECK(parse_subnet(text).depth() == 1);
  CHECK_THAT(message_of(text + ' '), Contains("expected at most 65536 characters, found 65537"));
  CHECK(message_of(text + ' ').size() < 300);
}

TEST_CASE("subnets are ordered by embed, depth, then blocks from left to right", "[supernet][subnet]") {
  const std::vector<std::string> ascending = {"e64:9xh9f999",    "e128:h2f8",       "e128:2xh1f8",     "e128:2xh1f8@0,2",
                                              "e128:2xh1f8@1-2", "e128:h1f8,h2f8",  "e128:h1f64,h1f8", "e128:h2k1f8,h1f8",
                                              "e128:2xh2f8",     "e128:h10f8,h2f8", "e128:3xh1f8",     "e1000:h1f8"};
  for (std::size_t i = 0; i < ascending.size(); ++i)
    for (std::size_t j = 0; j < ascending.size(); ++j) {
      CAPTURE(ascending[i], ascending[j]);
      CHECK((parse_subnet(ascending[i]) <=> parse_subnet(ascending[j])) == (i <=> j));
    }
}

TEST_CASE("hash8 is the start of the canonical text's SHA-256", "[supernet][subnet]") {
  // printf e192:4xh6f768 | sha256sum
  CHECK(hash8(parse_subnet("e192: 2xh6f768, 2xh6f768")) == "973e4a2e");
}

}  // namespace elastiform
