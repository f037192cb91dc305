#include "experiments/elastiform/recipe_space.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

#include "kernels/errors.hpp"
#include "supernet/nearest_name.hpp"

namespace elastiform {
namespace {

// SearchSpace knows the real bounds; these only keep an integer an int.
constexpr int kLargest = 1 << 24;
constexpr int kLargestSide = 1 << 12;  // of an image: its patches, and the values of one, are ints
const std::vector<std::string_view> kNorms{"rmsnorm", "layernorm"};
const std::vector<std::string_view> kFeedForwards{"swiglu", "gelu_tanh", "gelu_erf"};
const std::vector<std::string_view> kPositions{"rope", "learned"};
const std::vector<std::string_view> kStretches{"none", "linear", "llama3"};
const std::vector<std::string_view> kReadouts{"class_token", "mean"};
const std::vector<std::string_view> kFamilies{"decoder", "vit"};
// Understood, and written out under the full name: what configurations elsewhere, and earlier recipes of ours, say.
const std::vector<std::pair<std::string_view, std::string_view>> kOtherNames{
    {"rms", "rmsnorm"}, {"layer", "layernorm"}, {"gelu", "gelu_tanh"}};

template <class Kind>
Kind kind_at(TableReader& table, const char* key, const std::vector<std::string_view>& names, Kind fallback) {
  auto accepted = names;
  for (const auto& [other, full] : kOtherNames)
    if (std::find(names.begin(), names.end(), full) != names.end()) accepted.push_back(other);
  std::string name = table.choice(key, std::string(names[static_cast<std::size_t>(fallback)]), accepted);
  for (const auto& [other, full] : kOtherNames)
    if (name == other) name = full;
  return static_cast<Kind>(std::find(names.begin(), names.end(), name) - names.begin());
}

template <class Kind>
std::string_view kind_name(const std::vector<std::string_view>& names, Kind kind) {
  return names[static_cast<std::size_t>(kind)];
}

const ResidualRuleEntry& read_residual(TableReader& table) {
  std::vector<std::string_view> names;
  for (const ResidualRuleEntry* entry : residual_rules()) names.push_back(entry->name);
  const std::string name = table.choice("residual", std::string(names.front()), names);
  return *residual_rules()[static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin())];
}

RopeScaling read_rope_scaling(TableReader& table) {
  RopeScaling rule;
  rule.kind = kind_at(table, "rope_scaling", kStretches, rule.kind);
  const std::string chosen = fmt::format("rope_scaling = {}", kind_name(kStretches, rule.kind));
  const bool scales = rule.kind != RopeStretch::none, llama3 = rule.kind == RopeStretch::llama3;
  table.only_with("rope_factor", scales, "model.rope_scaling = linear or llama3", chosen);
  for (const char* key : {"rope_low_freq_factor", "rope_high_freq_factor", "rope_original_context"})
    table.only_with(key, llama3, "model.rope_scaling = llama3", chosen);
  if (scales) table.require("rope_factor");
  if (scales) rule.factor = table.number("rope_factor", rule.factor, 1, 1e6);
  if (!llama3) return rule;
  rule.low_factor = table.number("rope_low_freq_factor", rule.low_factor, 1e-3, 1e3);
  rule.high_factor = table.number("rope_high_freq_factor", rule.high_factor, 1e-3, 1e3);
  rule.original_context = table.small_integer("rope_original_context", static_cast<int>(rule.original_context), 1, kLargest);
  return rule;
}

/// What a decoder reads and where its tokens stand.
ModelConfig read_decoder(TableReader& table, int vocabulary) {
  auto model = preset_model(table.choice("preset", "llama", {"llama", "gpt2"}));
  if (vocabulary == 0 && !table.has("vocabulary"))
    throw InputError({table.place("vocabulary"), "the number of ids of data.tokenizer", "nothing",
                      "elastiform tokenize prints it; the tokenizer \"bytes\" needs none"});
  model.vocabulary = table.small_integer("vocabulary", vocabulary, std::max(vocabulary, 2), kLargest);
  model.context = table.small_integer("context", model.context, 1, kLargest);
  model.positions = kind_at(table, "positions", kPositions, model.positions);
  model.rope_theta = table.number("rope_theta", model.rope_theta, 1, 1e12);
  model.rope_scaling = read_rope_scaling(table);
  model.tied = table.boolean("tied", model.tied);
  return model;
}

/// What a classifier reads and names.
ModelConfig read_vit(TableReader& table) {
  auto model = preset_model(table.choice("preset", "vit", {"vit"}));
  for (const char* key : {"image", "patch", "classes"}) table.require(key);
  model.vocabulary = table.small_integer("classes", model.vocabulary, 2, kLargest);
  std::vector<int> image = table.integers("image", 1, kLargestSide);
  if (image.size() == 2) image.push_back(1);
  if (image.size() != 3)
    throw InputError(
        {table.place("image"), "height, width and channels", fmt::format("{} numbers", image.size()), "for example [28, 28, 1]"});
  model.image = {image[0], image[1], image[2], table.small_integer("patch", 1, 1, kLargestSide)};
  const std::string readout = table.choice("readout", "class_token", kReadouts);
  model.readout = readout == "mean" ? Readout::mean : Readout::class_token;
  model.head_bias = table.boolean("head_bias", model.head_bias);
  model.distillation_token = table.boolean("distillation_token", model.distillation_token);
  model.context = model.tokens_of_image();
  for (const auto& [key, value] : {std::pair{"decoder_embed", &model.decoder.embed}, std::pair{"decoder_depth", &model.decoder.depth},
                                   std::pair{"decoder_heads", &model.decoder.heads}})
    *value = table.small_integer(key, 0, 1, kLargest);
  if (model.decoder.present())
    for (const char* key : {"decoder_embed", "decoder_depth", "decoder_heads"}) table.require(key);
  return model;
}

ModelConfig read_model(TableReader& table, int vocabulary, int blocks) {
  const bool images = table.choice("family", "decoder", kFamilies) == "vit";
  auto model = images ? read_vit(table) : read_decoder(table, vocabulary);
  model.head_dim = table.small_integer("head_dim", model.head_dim, 1, kLargest);
  model.queries_per_group = table.small_integer("queries_per_group", model.queries_per_group, 1, kLargest);
  model.norm = kind_at(table, "norm", kNorms, model.norm);
  model.norm_eps = table.number("norm_eps", model.norm_eps, 1e-12, 1);
  model.ffn = kind_at(table, "ffn", kFeedForwards, model.ffn);
  model.biases = table.boolean("biases", model.biases);
  const ResidualRuleEntry& rule = read_residual(table);
  const ResidualConstants constants = rule.constants(blocks);
  model.residual = rule.rule;
  model.skip_scale = constants.skip_scale;
  if (table.has("branch_scale") && rule.rule != ResidualRule::branch_scale)
    throw InputError({table.place("branch_scale"), "only with residual = \"branch_scale\"", fmt::format("residual = \"{}\"", rule.name),
                      "remove branch_scale"});
  model.branch_scale = table.number("branch_scale", constants.branch_scale, 1e-6, 1e6);
  table.finish();
  return model;
}

struct Choices {
  std::vector<int> embed, depth;
  SearchSpace::Block block;                              // of every block that no pin changes
  std::vector<std::pair<int, SearchSpace::Block>> pins;  // one list of each is filled
};

/// A pin fixes what the lists allow; it does not widen them.
template <class Value>
void require_listed(const std::vector<Value>& list, Value value, const std::string& pin, const std::string& place) {
  if (list.empty() || std::find(list.begin(), list.end(), value) != list.end()) return;
  std::string allowed;
  for (const Value& each : list) allowed += (allowed.empty() ? "" : ", ") + fmt::format("{}", each);
  throw InputError({place, "one of " + allowed + " of the list", "'" + pin + "'", ""});
}

// "embed=96", "depth=4", "0.heads=4", "2.ffn=256", "2.ffn_ratio=3"
// Its gene: "embed", "depth", "0.heads" or "2.ffn", the last two however many zeros or ratios the pin was written with.
std::string apply_pin(Choices& choices, const std::string& pin, const std::string& place) {
  const auto equals = pin.find('='), dot = pin.find('.');
  const InputError misread({place, "embed=96, depth=4, 0.heads=4, 0.ffn=256 or 0.ffn_ratio=3", "'" + pin.substr(0, 200) + "'", ""});
  if (equals == std::string::npos) throw misread;
  const auto read = [&](std::size_t begin, std::size_t end, auto& value) {
    const auto [stop, error] = std::from_chars(pin.data() + begin, pin.data() + end, value);
    if (error != std::errc() || stop != pin.data() + end || begin == end) throw misread;
  };
  double value = 0;
  read(equals + 1, pin.size(), value);
  if (!(value >= 0 && value <= kLargest)) throw misread;
  const bool of_block = dot < equals;
  const auto key = pin.substr(of_block ? dot + 1 : 0, equals - (of_block ? dot + 1 : 0));
  if (value != std::floor(value) && key != "ffn_ratio") throw misread;
  const int whole = static_cast<int>(value);
  if (!of_block) {
    if (key != "embed" && key != "depth") throw unknown_name(place, key, {"embed", "depth"});
    auto& list = key == "embed" ? choices.embed : choices.depth;
    require_listed(list, whole, pin, place);
    list = {whole};
    return key;
  }
  int block = 0;
  read(0, dot, block);
  SearchSpace::Block pinned;
  if (key == "heads") pinned.heads = {whole};
  else if (key == "ffn") pinned.ffn.widths = {whole};
  else if (key == "ffn_ratio") pinned.ffn.ratios = {value};
  else throw unknown_name(place, key, {"heads", "ffn", "ffn_ratio"});
  if (key == "heads") require_listed(choices.block.heads, whole, pin, place);
  if (key == "ffn") require_listed(choices.block.ffn.widths, whole, pin, place);
  if (key == "ffn_ratio") require_listed(choices.block.ffn.ratios, value, pin, place);
  choices.pins.emplace_back(block, pinned);
  return fmt::format("{}.{}", block, key == "heads" ? "heads" : "ffn");
}

Choices read_choices(TableReader& table) {
  for (const char* key : {"embed", "depth", "heads"}) table.require(key);
  Choices choices;
  choices.embed = table.integers("embed", 1, kLargest);
  choices.depth = table.integers("depth", 1, kMaxSubnetBlocks);
  choices.block.heads = table.integers("heads", 0, kLargest);
  choices.block.ffn.widths = table.integers("ffn", 0, kLargest);
  choices.block.ffn.ratios = table.numbers("ffn_ratio", 0, 1024);
  if (choices.block.ffn.widths.empty() == choices.block.ffn.ratios.empty())
    throw InputError({table.place("ffn_ratio"), "either ffn or ffn_ratio", choices.block.ffn.widths.empty() ? "neither" : "both",
                      "see docs/recipes.md"});
  std::set<std::string> seen;  // genes, however they are written
  for (const auto& pin : table.texts("pin"))
    if (!seen.insert(apply_pin(choices, pin, table.place("pin"))).second)
      throw InputError({table.place("pin"), "each gene pinned once", "'" + pin + "' again", ""});
  table.finish();
  return choices;
}

std::string number_text(const double& value) { return fmt::format("{}", value); }
std::string integer_text(const int& value) { return std::to_string(value); }
std::string quoted_text(const std::string& value) { return toml_text(value); }

std::size_t choice_count(const FeedForwardChoices& ffn) { return std::max(ffn.widths.size(), ffn.ratios.size()); }

// The lists of most choices are the recipe's, what differs from them is a pin.
std::vector<std::string> pins_of(const SearchSpace& space, const SearchSpace::Block& general) {
  std::vector<std::string> pins;
  for (int i = 0; i < space.max_depth(); ++i) {
    const auto& block = space.blocks()[static_cast<std::size_t>(i)];
    if (block.heads != general.heads) pins.push_back(fmt::format("{}.heads={}", i, block.heads.front()));
    if (block.ffn == general.ffn) continue;
    pins.push_back(block.ffn.widths.empty() ? fmt::format("{}.ffn_ratio={}", i, block.ffn.ratios.front())
                                            : fmt::format("{}.ffn={}", i, block.ffn.widths.front()));
  }
  return pins;
}

}  // namespace

SearchSpace read_space(const RecipeValue& document, std::string_view where, int vocabulary) {
  TableReader space_table(document.find("space"), "space", where), model_table(document.find("model"), "model", where);
  const auto choices = read_choices(space_table);
  const int blocks = choices.depth.empty() ? 1 : *std::max_element(choices.depth.begin(), choices.depth.end());
  const auto model = read_model(model_table, vocabulary, blocks);
  std::vector<SearchSpace::Block> list(static_cast<std::size_t>(blocks), choices.block);
  for (const auto& [index, pinned] : choices.pins) {
    if (index < 0 || index >= blocks)
      throw InputError({space_table.place("pin"), fmt::format("a block from 0 to {}", blocks - 1), fmt::format("block {}", index), ""});
    auto& block = list[static_cast<std::size_t>(index)];
    if (pinned.heads.empty()) block.ffn = pinned.ffn;
    else block.heads = pinned.heads;
  }
  try {
    return SearchSpace(model, choices.embed, choices.depth, std::move(list));
  } catch (const InputError& error) {
    auto parts = error.parts();
    parts.where = fmt::format("recipe {}: {}", where, parts.where);
    throw InputError(parts);
  }
}

template <class Value>
void unite(std::vector<Value>& list, const std::vector<Value>& more) {
  list.insert(list.end(), more.begin(), more.end());
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
}

/// Lists that hold every choice of every block, so that what a block lacks of them can be written as a pin. FFN lists of the kind that most
/// choices have; pins of the other kind stand on their own.
SearchSpace::Block general_block(const SearchSpace& space) {
  auto general = space.blocks().front();
  for (const auto& block : space.blocks())
    if (choice_count(block.ffn) > choice_count(general.ffn)) general.ffn = block.ffn;
  const bool widths = !general.ffn.widths.empty();
  for (const auto& block : space.blocks()) {
    unite(general.heads, block.heads);
    if (widths) unite(general.ffn.widths, block.ffn.widths);
    else unite(general.ffn.ratios, block.ffn.ratios);
  }
  return general;
}

std::string rope_scaling_lines(const RopeScaling& rule) {
  if (rule.kind == RopeStretch::none) return "";
  std::string lines = fmt::format("rope_scaling = \"{}\"\nrope_factor = {}\n", kind_name(kStretches, rule.kind), rule.factor);
  if (rule.kind == RopeStretch::llama3)
    lines += fmt::format("rope_low_freq_factor = {}\nrope_high_freq_factor = {}\nrope_original_context = {:.0f}\n", rule.low_factor,
                         rule.high_factor, rule.original_context);
  return lines;
}

std::string decoder_lines(const ModelConfig& model) {
  const std::string lines = fmt::format(
      "[model]\nfamily = \"decoder\"\npreset = {}\nvocabulary = {}\ncontext = {}\npositions = \"{}\"\nrope_theta = {}\ntied = {}\n",
      toml_text(model.preset), model.vocabulary, model.context, kind_name(kPositions, model.positions), model.rope_theta, model.tied);
  return lines + rope_scaling_lines(model.rope_scaling);
}

std::string vit_lines(const ModelConfig& model) {
  const ImageShape& image = model.image;
  return fmt::format(
      "[model]\nfamily = \"vit\"\npreset = {}\nimage = [{}, {}, {}]\npatch = {}\nclasses = {}\nreadout = \"{}\"\nhead_bias = "
      "{}\ndistillation_token = {}\n",
      toml_text(model.preset), image.height, image.width, image.channels, image.patch, model.vocabulary,
      model.readout == Readout::mean ? "mean" : "class_token", model.head_bias, model.distillation_token);
}

std::string patch_decoder_lines(const PatchDecoder& decoder) {
  if (!decoder.present()) return "";
  return fmt::format("decoder_embed = {}\ndecoder_depth = {}\ndecoder_heads = {}\n", decoder.embed, decoder.depth, decoder.heads);
}

std::string space_tables(const SearchSpace& space) {
  const auto& model = space.model();
  const auto general = general_block(space);
  std::string text = model.classifies() ? vit_lines(model) : decoder_lines(model);
  text += patch_decoder_lines(model.decoder);
  text += fmt::format("head_dim = {}\nqueries_per_group = {}\n", model.head_dim, model.queries_per_group);
  text += fmt::format("norm = \"{}\"\nnorm_eps = {}\nffn = \"{}\"\n", kind_name(kNorms, model.norm), model.norm_eps,
                      kind_name(kFeedForwards, model.ffn));
  text += fmt::format("biases = {}\nresidual = \"{}\"\n", model.biases, residual_rule(model.residual).name);
  if (model.residual == ResidualRule::branch_scale) text += fmt::format("branch_scale = {}\n", model.branch_scale);
  text += '\n';
  text += fmt::format("[space]\nembed = {}\ndepth = {}\nheads = {}\n", toml_list(space.embed(), integer_text),
                      toml_list(space.depth(), integer_text), toml_list(general.heads, integer_text));
  text += general.ffn.widths.empty() ? fmt::format("ffn_ratio = {}\n", toml_list(general.ffn.ratios, number_text))
                                     : fmt::format("ffn = {}\n", toml_list(general.ffn.widths, integer_text));
  return text + fmt::format("pin = {}\n", toml_list(pins_of(space, general), quoted_text));
}

std::string toml_text(std::string_view text) {
  std::string quoted = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') quoted += '\\', quoted += c;
    else if (byte < 0x20 || byte == 0x7f) quoted += fmt::format("\\u{:04x}", byte);
    else quoted += c;
  }
  return quoted + "\"";
}

}  // namespace elastiform
