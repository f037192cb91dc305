#include "supernet/search_space.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "kernels/errors.hpp"
#include "supernet/nearest_name.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "supernet/sha256.hpp"

namespace elastiform {
namespace {

// Bounds far above any real model under which no size computed from a space overflows 64 bits: 4,096 blocks of 3 · 2^16 · 2^20 weights
// are below 2^50.
constexpr int kMaxEmbed = 1 << 16, kMaxFfn = 1 << 20, kMaxHeads = 1 << 12, kMaxHeadDim = 1 << 10, kMaxAttention = 1 << 17;
constexpr int kMaxVocabulary = 1 << 24, kMaxContext = 1 << 24;
constexpr int kMaxImage = 1 << 12, kMaxChannels = 1 << 6;
constexpr std::size_t kMaxChoices = 4096;

[[noreturn]] void refuse(const std::string& what, std::string expected, std::string found, std::string remedy = "") {
  throw InputError({.where = "space: " + what, .expected = std::move(expected), .found = std::move(found), .remedy = std::move(remedy)});
}

void need_range(const std::string& what, int value, int low, int high) {
  if (value < low || value > high) refuse(what, std::to_string(low) + " to " + std::to_string(high), std::to_string(value));
}

void need_positive(const std::string& what, double value, double high) {
  if (!(value > 0 && value <= high))
    refuse(what, "a number above 0 and at most " + std::to_string(static_cast<long>(high)), std::to_string(value));
}

template <class T>
void sort_choices(const std::string& what, std::vector<T>& choices) {
  if (choices.empty()) refuse(what, "at least one choice", "none");
  if (choices.size() > kMaxChoices) refuse(what, "at most " + std::to_string(kMaxChoices) + " choices", std::to_string(choices.size()));
  std::sort(choices.begin(), choices.end());
  choices.erase(std::unique(choices.begin(), choices.end()), choices.end());
}

void check_image(const ModelConfig& m) {
  const ImageShape& image = m.image;
  need_range("patch", image.patch, 1, kMaxImage);
  need_range("image height", image.height, image.patch, kMaxImage);
  need_range("image width", image.width, image.patch, kMaxImage);
  need_range("image channels", image.channels, 1, kMaxChannels);
  for (const int side : {image.height, image.width})
    if (side % image.patch != 0)
      refuse("patch", "a divisor of the image's sides", std::to_string(image.patch) + " for a side of " + std::to_string(side));
  if (m.context != m.tokens_of_image())
    refuse("context", std::to_string(m.tokens_of_image()) + ", the tokens of an image", std::to_string(m.context));
  if (m.positions != Positions::learned) refuse("positions", "learned, with images", "rope");
  if (m.tied) refuse("tied", "false, with images: there is no token embedding", "true");
  if (m.distillation_token && m.readout != Readout::class_token)
    refuse("distillation_token", "false, where the head reads the mean of the tokens", "true");
}

/// Two families: language models read ids and predict at every token, classifiers read images and predict once.
void check_family(const ModelConfig& m) {
  const bool classifies = m.classifies();
  if (m.image.patch != 0) check_image(m);
  if (m.image.present() != classifies)
    refuse("readout", m.image.present() ? "class_token or mean, with images" : "every_token, without images",
           classifies ? "another" : "every_token");
  if (m.causal == classifies) refuse("causal", classifies ? "false, with images" : "true, without images", m.causal ? "true" : "false");
  if (m.head_bias && !classifies) refuse("head_bias", "false, without images", "true");
  if (m.distillation_token && !classifies) refuse("distillation_token", "false, without images", "true");
}

void check_decoder(const ModelConfig& m) {
  if (!m.decoder.present()) return;
  if (!m.classifies()) refuse("decoder", "none, without images", "one of depth " + std::to_string(m.decoder.depth));
  need_range("decoder_embed", m.decoder.embed, 1, kMaxEmbed);
  need_range("decoder_depth", m.decoder.depth, 1, kMaxSubnetBlocks);
  need_range("decoder_heads", m.decoder.heads, 1, kMaxHeads);
  if (m.decoder.embed % m.decoder.heads != 0)
    refuse("decoder_heads", "a divisor of decoder_embed, " + std::to_string(m.decoder.embed), std::to_string(m.decoder.heads));
  need_range("decoder_embed / decoder_heads", m.decoder.embed / m.decoder.heads, 1, kMaxHeadDim);
  if (m.image.patch_values() < 2)
    refuse("decoder", "patches of at least 2 values, which it guesses", std::to_string(m.image.patch_values()));
  if (m.tuning != Tuning{}) refuse("decoder", "none in a tuning", "one");
}

std::string shown(double value) {
  std::array<char, 32> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr};
}

void check_rope_scaling(const ModelConfig& m) {
  const RopeScaling& rule = m.rope_scaling;
  const char* const name = rule.kind == RopeStretch::linear ? "linear" : rule.kind == RopeStretch::llama3 ? "llama3" : "none";
  RopeScaling unread = rule;
  unread.kind = RopeStretch::none;
  if (rule.kind != RopeStretch::none) unread.factor = 1;
  if (rule.kind != RopeStretch::llama3 && unread != RopeScaling{})
    refuse("rope_scaling", "a kind that reads all numbers that are set", name);
  if (rule.kind == RopeStretch::none) return;
  if (m.positions != Positions::rope) refuse("rope_scaling", "none, with learned positions", name, "remove it");
  const auto need = [](const char* what, double value, double low, double high) {
    if (!(value >= low && value <= high)) refuse(what, "a number from " + shown(low) + " to " + shown(high), shown(value));
  };
  need("rope_factor", rule.factor, 1, 1e6);
  if (static_cast<float>(rule.factor) == 1)
    refuse("rope_factor", "a number above 1", shown(rule.factor), "what divides by 1 scales nothing");
  need("rope_low_freq_factor", rule.low_factor, 1e-3, 1e3);
  need("rope_high_freq_factor", rule.high_factor, 1e-3, 1e3);
  if (rule.low_factor >= rule.high_factor)
    refuse("rope_low_freq_factor", "less than rope_high_freq_factor, " + shown(rule.high_factor), shown(rule.low_factor));
  need("rope_original_context", rule.original_context, 1, kMaxContext);
  if (rule.original_context != std::floor(rule.original_context))
    refuse("rope_original_context", "a whole number", shown(rule.original_context));
}

void check_model(const ModelConfig& m) {
  const bool printable = std::all_of(m.preset.begin(), m.preset.end(), [](char c) { return c > ' ' && c < 0x7f; });
  if (m.preset.empty() || m.preset.size() > 64 || !printable)
    refuse("preset", "a name of 1 to 64 letters, digits and signs", "'" + m.preset.substr(0, 64) + "'");
  need_range("vocabulary", m.vocabulary, 2, kMaxVocabulary);
  need_range("context", m.context, 1, kMaxContext);
  need_range("head_dim", m.head_dim, 1, kMaxHeadDim);
  // Half-rotation pairs element i with element i + D/2.
  if (m.positions == Positions::rope && m.head_dim % 2 != 0)
    refuse("head_dim", "an even number, as rotary positions need", std::to_string(m.head_dim));
  need_range("queries_per_group", m.queries_per_group, 1, kMaxHeads);
  need_positive("norm_eps", m.norm_eps, 1);
  need_positive("rope_theta", m.rope_theta, 1e12);
  check_rope_scaling(m);
  need_positive("branch_scale", m.branch_scale, 1e6);
  need_positive("skip_scale", m.skip_scale, 1e6);
  const ResidualRuleEntry& rule = residual_rule(m.residual);
  if (m.residual != ResidualRule::branch_scale && m.branch_scale != 1)
    refuse("branch_scale", "1 with residual " + std::string(rule.name), std::to_string(m.branch_scale));
  if (rule.form.norm != NormPlace::after && m.skip_scale != 1)
    refuse("skip_scale", "1 with residual " + std::string(rule.name), std::to_string(m.skip_scale));
  if (rule.zero_head && m.tied)
    refuse("tied", "false with residual " + std::string(rule.name) + ", whose head starts at 0", "true",
           "the token embedding cannot start at 0: set model.tied = false");
  check_family(m);
  check_decoder(m);
  parametrization_of(m.tuning).how->check(m);
}

int width_of(double ratio, int embed) { return static_cast<int>(8 * std::llround(ratio * embed / 8)); }

void check_ffn(const std::string& what, FeedForwardChoices& ffn, const std::vector<int>& embed) {
  if (!ffn.widths.empty()) {
    sort_choices(what + "ffn", ffn.widths);
    need_range(what + "ffn", ffn.widths.front(), 0, kMaxFfn);
    need_range(what + "ffn", ffn.widths.back(), 0, kMaxFfn);
    ffn.ratios.clear();  // absolute widths win; one meaning has one text and one hash
    return;
  }
  for (const double ratio : ffn.ratios) {
    if (!(ratio >= 0 && ratio <= 1024)) refuse(what + "ffn_ratio", "numbers from 0 to 1024", std::to_string(ratio));
    // Rounding alone may not remove a branch that the recipe asks for.
    if (ratio > 0 && width_of(ratio, embed.front()) == 0)
      refuse(what + "ffn_ratio", "at least 4 FFN columns at embed " + std::to_string(embed.front()), "ratio " + std::to_string(ratio),
             "use a larger ratio, or 0 for no FFN");
    if (width_of(ratio, embed.back()) > kMaxFfn)
      refuse(what + "ffn_ratio", "widths of at most " + std::to_string(kMaxFfn),
             std::to_string(ratio) + " of embed " + std::to_string(embed.back()));
  }
  sort_choices(what + "ffn_ratio", ffn.ratios);
}

void check_block(int index, SearchSpace::Block& block, const ModelConfig& model, const std::vector<int>& embed) {
  const std::string what = "block " + std::to_string(index) + ": ";
  sort_choices(what + "heads", block.heads);
  for (const int heads : block.heads) {
    need_range(what + "heads", heads, 0, std::min(kMaxHeads, kMaxAttention / model.head_dim));
    if (heads % model.queries_per_group != 0)
      refuse(what + "heads", "multiples of queries_per_group = " + std::to_string(model.queries_per_group), std::to_string(heads));
  }
  check_ffn(what, block.ffn, embed);
  // A block without either branch is no block: depth says how many there are, and counts stay products of the lists.
  if (block.heads.front() == 0 && block.ffn.at(embed.front()).front() == 0)
    refuse(what + "heads and ffn", "0 in at most one of the two lists", "0 in both", "use depth to drop whole blocks");
}

/// Multiply-adds of one sequence fit 64 bits, with room for what is added to them: quadratic in the tokens, they could leave them within
/// the bounds above.
void check_work(const ModelConfig& model, const std::vector<int>& embed, const std::vector<SearchSpace::Block>& blocks) {
  constexpr double kMost = 4611686018427387904.0;  // 2^62
  const double T = model.context, C = embed.back();
  double macs = T * C * (model.vocabulary + static_cast<double>(model.image.patch_values()));
  for (const SearchSpace::Block& block : blocks) {
    const double A = static_cast<double>(block.heads.back()) * model.head_dim, F = block.ffn.at(embed.back()).back();
    macs += T * (4 * C * A + 3 * C * F + A * static_cast<double>(model.keys_met_twice(model.context)));
  }
  if (macs > kMost)
    refuse("context", "at most 2^62 multiply-adds of the largest subnet", "more", "fewer tokens, heads or blocks are also less work");
}

// Of two equally near choices the smaller.
int nearest_choice(const std::vector<int>& choices, int value) {
  const auto above = std::lower_bound(choices.begin(), choices.end(), value);
  if (above == choices.begin()) return choices.front();
  if (above == choices.end()) return choices.back();
  const int below = *(above - 1);
  return value - below <= *above - value ? below : *above;
}

bool has(const std::vector<int>& choices, int value) { return std::binary_search(choices.begin(), choices.end(), value); }

bool kept_is_valid(const Subnet& subnet, int blocks) {
  if (subnet.kept.empty()) return subnet.depth() <= blocks;
  if (subnet.kept.size() != subnet.blocks.size() || subnet.kept.front() < 0 || subnet.kept.back() >= blocks) return false;
  for (std::size_t i = 1; i < subnet.kept.size(); ++i)
    if (subnet.kept[i] <= subnet.kept[i - 1]) return false;
  // 0 … d-1 written out would be a second form of the same subnet.
  return subnet.kept.back() != static_cast<int>(subnet.kept.size()) - 1;
}

// What is wrong and what is allowed; both empty when the subnet is a member.
struct Objection {
  std::string found, allowed;
};

Objection objection_to_block(const SearchSpace& space, int embed, int index, const BlockGenes& genes) {
  const SearchSpace::Block& block = space.blocks()[static_cast<std::size_t>(index)];
  const std::string name = "block " + std::to_string(index);
  if (!has(block.heads, genes.heads)) return {name + " has " + std::to_string(genes.heads) + " heads", list_of(block.heads)};
  const int groups = genes.heads / space.model().queries_per_group;
  if (genes.groups != groups)
    return {name + " has " + std::to_string(genes.groups) + " KV groups",
            std::to_string(groups) + " for " + std::to_string(genes.heads) + " heads"};
  const std::vector<int> widths = block.ffn.at(embed);
  if (!has(widths, genes.ffn))
    return {name + " has FFN width " + std::to_string(genes.ffn), list_of(widths) + " at embed " + std::to_string(embed)};
  return {};
}

Objection objection_to(const SearchSpace& space, const Subnet& subnet) {
  if (!has(space.embed(), subnet.embed)) return {"embed is " + std::to_string(subnet.embed), list_of(space.embed())};
  if (!has(space.depth(), subnet.depth())) return {"depth is " + std::to_string(subnet.depth()), list_of(space.depth())};
  if (!kept_is_valid(subnet, space.max_depth()))
    return {"the blocks kept after @ are not " + std::to_string(subnet.depth()) + " ascending indices of blocks",
            "0 to " + std::to_string(space.max_depth() - 1)};
  for (int i = 0; i < subnet.depth(); ++i) {
    const Objection objection = objection_to_block(space, subnet.embed, subnet.block_index(i), subnet.blocks[static_cast<std::size_t>(i)]);
    if (!objection.found.empty()) return objection;
  }
  const std::vector<int>& ranks = space.model().tuning.ranks;
  if (subnet.rank != 0 && (!has(ranks, subnet.rank) || subnet.rank == ranks.back())) {
    std::string allowed = "none to choose";
    if (!ranks.empty())
      allowed = list_of(std::vector<int>(ranks.begin(), ranks.end() - 1)) + ", or unwritten " + std::to_string(ranks.back());
    return {"its LoRA rank is " + std::to_string(subnet.rank), std::move(allowed)};
  }
  return {};
}

/// The subnet that takes pick(list) of every list of choices.
template <class Pick>
Subnet picked(const SearchSpace& space, Pick pick) {
  Subnet subnet{.embed = pick(space.embed()), .blocks = {}, .kept = {}};
  const int depth = pick(space.depth());
  for (int i = 0; i < depth; ++i) {
    const SearchSpace::Block& block = space.blocks()[static_cast<std::size_t>(i)];
    const int heads = pick(block.heads);
    subnet.blocks.push_back({.heads = heads, .groups = heads / space.model().queries_per_group, .ffn = pick(block.ffn.at(subnet.embed))});
  }
  return subnet;
}

}  // namespace

ModelConfig preset_model(std::string_view name) {
  ModelConfig model;
  if (name == "llama") return model;
  if (name != "gpt2" && name != "vit") throw unknown_name("model preset", name, {"llama", "gpt2", "vit"});
  model.preset = name;
  model.norm = Norm::layer;
  model.ffn = FeedForwardKind::gelu_tanh;
  model.positions = Positions::learned;
  model.biases = true;
  if (name == "gpt2") return model;
  model.ffn = FeedForwardKind::gelu_erf;
  model.norm_eps = 1e-6;
  model.tied = false;
  model.readout = Readout::class_token;
  model.causal = false;
  model.head_bias = true;
  return model;
}

std::vector<int> FeedForwardChoices::at(int embed) const {
  std::vector<int> list;
  at(embed, list);
  return list;
}

void FeedForwardChoices::at(int embed, std::vector<int>& list) const {
  list = widths;
  if (!widths.empty()) return;
  list.reserve(ratios.size());
  for (const double ratio : ratios) list.push_back(width_of(ratio, embed));
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
}

SearchSpace::SearchSpace(ModelConfig model, std::vector<int> embed, std::vector<int> depth, std::vector<Block> blocks)
    : model_(std::move(model)), embed_(std::move(embed)), depth_(std::move(depth)), blocks_(std::move(blocks)) {
  check_model(model_);
  sort_choices("embed", embed_);
  need_range("embed", embed_.front(), 1, kMaxEmbed);
  need_range("embed", embed_.back(), 1, kMaxEmbed);
  sort_choices("depth", depth_);
  need_range("depth", depth_.front(), 1, kMaxSubnetBlocks);
  need_range("depth", depth_.back(), 1, kMaxSubnetBlocks);
  if (blocks_.size() != static_cast<std::size_t>(depth_.back()))
    refuse("blocks", std::to_string(depth_.back()) + ", as many as the largest depth", std::to_string(blocks_.size()));
  for (int i = 0; i < max_depth(); ++i) check_block(i, blocks_[static_cast<std::size_t>(i)], model_, embed_);
  check_work(model_, embed_, blocks_);
}

SearchSpace SearchSpace::of(const ModelConfig& model, const Subnet& subnet) {
  std::vector<Block> blocks;
  for (const BlockGenes& genes : subnet.blocks) {
    if (model.queries_per_group < 1 || genes.groups * model.queries_per_group != genes.heads)
      refuse("subnet " + format(subnet), std::to_string(model.queries_per_group) + " heads in each KV group",
             std::to_string(genes.heads) + " heads over " + std::to_string(genes.groups) + " groups");
    blocks.push_back({.heads = {genes.heads}, .ffn = {.widths = {genes.ffn}, .ratios = {}}});
  }
  ModelConfig dense = model;
  dense.decoder = {};
  if (subnet.rank > 0) {  // the factor alpha / rank stays
    Tuning& tuning = dense.tuning;
    tuning.alpha *= static_cast<double>(subnet.rank) / tuning.rank;
    tuning.rank = subnet.rank;
    tuning.ranks.clear();
  }
  return {std::move(dense), {subnet.embed}, {subnet.depth()}, std::move(blocks)};
}

int SearchSpace::max_ffn(int block) const { return blocks_[static_cast<std::size_t>(block)].ffn.at(max_embed()).back(); }

Subnet SearchSpace::largest() const {
  return picked(*this, [](const std::vector<int>& choices) { return choices.back(); });
}
Subnet SearchSpace::middle() const {
  return picked(*this, [](const std::vector<int>& choices) { return choices[choices.size() / 2]; });
}
Subnet SearchSpace::smallest() const {
  return picked(*this, [](const std::vector<int>& choices) { return choices.front(); });
}

void SearchSpace::check(const Subnet& subnet, std::string_view where) const {
  const Objection objection = objection_to(*this, subnet);
  if (objection.found.empty()) return;
  std::string text = format(subnet);
  if (text.size() > 200) text = text.substr(0, 200) + "…";
  throw InputError({.where = "subnet " + text,
                    .expected = "",
                    .found = objection.found,
                    .remedy = std::string(where) + " allows " + objection.allowed + "; nearest " + format(nearest(subnet))});
}

bool SearchSpace::contains(const Subnet& subnet) const { return objection_to(*this, subnet).found.empty(); }

Subnet SearchSpace::nearest(const Subnet& subnet) const {
  Subnet near{.embed = nearest_choice(embed_, subnet.embed), .blocks = {}, .kept = {}};
  const int depth = nearest_choice(depth_, subnet.depth());
  if (depth == subnet.depth() && kept_is_valid(subnet, max_depth())) near.kept = subnet.kept;
  for (int i = 0; i < depth; ++i) {
    const Block& block = blocks_[static_cast<std::size_t>(near.block_index(i))];
    // Blocks that the text does not describe follow its last one.
    const int source = std::min(i, subnet.depth() - 1);
    const BlockGenes wanted = source < 0 ? BlockGenes{} : subnet.blocks[static_cast<std::size_t>(source)];
    const int heads = nearest_choice(block.heads, wanted.heads);
    near.blocks.push_back(
        {.heads = heads, .groups = heads / model_.queries_per_group, .ffn = nearest_choice(block.ffn.at(near.embed), wanted.ffn)});
  }
  return near;
}

std::string SearchSpace::hash() const { return sha256_hex(text()); }

}  // namespace elastiform
