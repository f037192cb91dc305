// SearchSpace as JSON.
#include <array>
#include <cstdint>
#include <stdexcept>

#include "kernels/errors.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/nearest_name.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {
namespace {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  // keys stay in the order of the recipe

// 4,096 blocks of two lists of 40 choices fit; more is no space that a person wrote.
constexpr std::size_t kMaxText = 4 << 20;
constexpr int kDepth = 4;  // blocks → block → list → number

template <class T>
struct Name {
  T value;
  std::string_view text;
};
constexpr std::array<Name<Norm>, 2> kNorms = {{{Norm::rms, "rms"}, {Norm::layer, "layer"}}};
constexpr std::array<Name<FeedForwardKind>, 3> kFeedForwards = {
    {{FeedForwardKind::swiglu, "swiglu"}, {FeedForwardKind::gelu_tanh, "gelu_tanh"}, {FeedForwardKind::gelu_erf, "gelu_erf"}}};
/// Known rules by name.
ResidualRule residual_named(std::string_view name, const std::string& where) {
  std::vector<std::string_view> known;
  for (const ResidualRuleEntry* entry : residual_rules()) {
    if (entry->name == name) return entry->rule;
    known.push_back(entry->name);
  }
  throw unknown_name(where, name, known);
}
constexpr std::array<Name<Positions>, 2> kPositions = {{{Positions::rope, "rope"}, {Positions::learned, "learned"}}};
constexpr std::array<Name<RopeStretch>, 3> kStretches = {
    {{RopeStretch::none, "none"}, {RopeStretch::linear, "linear"}, {RopeStretch::llama3, "llama3"}}};
constexpr std::array<Name<Readout>, 3> kReadouts = {
    {{Readout::every_token, "every_token"}, {Readout::class_token, "class_token"}, {Readout::mean, "mean"}}};

template <class T, std::size_t N>
std::string text_of(const std::array<Name<T>, N>& names, T value) {
  for (const Name<T>& name : names)
    if (name.value == value) return std::string(name.text);
  throw std::logic_error("an enumerator without a name");
}

/// One JSON object that must have exactly the keys that are asked for.
class Object {
 public:
  Object(const Json& json, std::string path, std::string_view where) : json_(json), path_(std::move(path)), where_(where) {
    if (!json.is_object()) fail(path_, "an object", json);
  }

  const Json& member(const std::string& key) {
    ++asked_;
    const auto found = json_.find(key);
    if (found == json_.end()) throw InputError({.where = where_, .expected = "the key " + path_ + key, .found = "none", .remedy = ""});
    return *found;
  }
  bool has(const std::string& key) const { return json_.contains(key); }
  const std::string& where() const { return where_; }

  int integer(const std::string& key) { return to_int(member(key), path_ + key); }
  double number(const std::string& key) {
    const Json& value = member(key);
    if (!value.is_number()) fail(path_ + key, "a number", value);
    return value.get<double>();
  }
  bool flag(const std::string& key) {
    const Json& value = member(key);
    if (!value.is_boolean()) fail(path_ + key, "true or false", value);
    return value.get<bool>();
  }
  std::string word(const std::string& key) {
    const Json& value = member(key);
    if (!value.is_string()) fail(path_ + key, "a text", value);
    return value.get<std::string>();
  }
  template <class T, std::size_t N>
  T named(const std::string& key, const std::array<Name<T>, N>& names) {
    const std::string text = word(key);
    std::vector<std::string_view> known;
    for (const Name<T>& name : names) {
      if (name.text == text) return name.value;
      known.push_back(name.text);
    }
    throw unknown_name(where_ + ": " + path_ + key, text, known);
  }
  std::vector<int> integers(const std::string& key) {
    std::vector<int> values;
    for (const Json& value : list(key)) values.push_back(to_int(value, path_ + key));
    return values;
  }
  std::vector<double> numbers(const std::string& key) {
    std::vector<double> values;
    for (const Json& value : list(key)) {
      if (!value.is_number()) fail(path_ + key, "a list of numbers", value);
      values.push_back(value.get<double>());
    }
    return values;
  }
  std::string place(const std::string& key) const { return where_ + ": " + path_ + key; }
  const Json& list(const std::string& key) {
    const Json& value = member(key);
    if (!value.is_array()) fail(path_ + key, "a list", value);
    return value;
  }
  /// After the last member: a key that nobody asked for is one that this version does not know.
  void end() const {
    if (json_.size() != asked_)
      throw InputError({.where = where_,
                        .expected = std::to_string(asked_) + " keys in " + (path_.empty() ? "the space" : path_),
                        .found = std::to_string(json_.size()),
                        .remedy = "it may come from a newer version"});
  }

 private:
  [[noreturn]] void fail(const std::string& path, std::string expected, const Json& found) const {
    throw InputError({.where = where_ + ": " + path,
                      .expected = std::move(expected),
                      .found = std::string("a JSON ") + found.type_name(),
                      .remedy = ""});
  }
  int to_int(const Json& value, const std::string& path) const {
    if (!value.is_number_integer()) fail(path, "a whole number", value);
    const bool huge = value.is_number_unsigned() && value.get<std::uint64_t>() > INT32_MAX;
    if (huge || value.get<std::int64_t>() > INT32_MAX || value.get<std::int64_t>() < INT32_MIN)
      throw InputError({.where = where_ + ": " + path, .expected = "a 32-bit number", .found = value.dump(), .remedy = ""});
    return value.get<int>();
  }

  const Json& json_;
  std::string path_, where_;
  std::size_t asked_ = 0;
};

Tuning parse_tuning(Object object, std::string_view where) {
  Tuning tuning;
  tuning.method = find_parametrization(object.word("method"), std::string(where) + ": model.tuning.method").method;
  tuning.rank = object.integer("rank");
  tuning.alpha = object.number("alpha");
  tuning.width = object.integer("width");
  if (object.has("ranks")) tuning.ranks = object.integers("ranks");
  if (object.has("keys")) tuning.keys = object.integer("keys");
  if (object.has("tokens")) tuning.tokens = object.integer("tokens");
  for (const Json& target : object.list("targets"))
    tuning.targets.insert(find_linear_map(target.is_string() ? target.get<std::string>() : "", where));
  object.end();
  return tuning;
}

ImageShape parse_image(Object object) {
  ImageShape image;
  image.height = object.integer("height");
  image.width = object.integer("width");
  image.channels = object.integer("channels");
  image.patch = object.integer("patch");
  object.end();
  return image;
}

PatchDecoder parse_decoder(Object object) {
  PatchDecoder decoder;
  decoder.embed = object.integer("embed");
  decoder.depth = object.integer("depth");
  decoder.heads = object.integer("heads");
  object.end();
  return decoder;
}

RopeScaling parse_rope_scaling(Object object) {
  RopeScaling rule;
  rule.kind = object.named("kind", kStretches);
  rule.factor = object.number("factor");
  if (rule.kind == RopeStretch::llama3) {
    rule.low_factor = object.number("low_factor");
    rule.high_factor = object.number("high_factor");
    rule.original_context = object.number("original_context");
  }
  object.end();
  return rule;
}

ModelConfig parse_model(Object object) {
  ModelConfig model;
  model.preset = object.word("preset");
  model.vocabulary = object.integer("vocabulary");
  model.context = object.integer("context");
  model.head_dim = object.integer("head_dim");
  model.queries_per_group = object.integer("queries_per_group");
  model.norm = object.named("norm", kNorms);
  model.norm_eps = object.number("norm_eps");
  model.ffn = object.named("ffn", kFeedForwards);
  model.positions = object.named("positions", kPositions);
  model.rope_theta = object.number("rope_theta");
  if (object.has("rope_scaling"))
    model.rope_scaling = parse_rope_scaling({object.member("rope_scaling"), "model.rope_scaling.", object.where()});
  model.biases = object.flag("biases");
  model.tied = object.flag("tied");
  model.branch_scale = object.number("branch_scale");
  if (object.has("residual")) {
    model.residual = residual_named(object.word("residual"), object.place("residual"));
    model.skip_scale = object.number("skip_scale");
  }
  if (object.has("image")) {
    model.image = parse_image({object.member("image"), "model.image.", object.where()});
    model.readout = object.named("readout", kReadouts);
    model.causal = object.flag("causal");
    model.head_bias = object.flag("head_bias");
    if (object.has("distillation_token")) model.distillation_token = object.flag("distillation_token");
  }
  if (object.has("decoder")) model.decoder = parse_decoder({object.member("decoder"), "model.decoder.", object.where()});
  if (object.has("tuning")) model.tuning = parse_tuning({object.member("tuning"), "model.tuning.", object.where()}, object.where());
  object.end();
  return model;
}

SearchSpace::Block parse_block(Object object) {
  SearchSpace::Block block;
  block.heads = object.integers("heads");
  if (object.has("ffn")) block.ffn.widths = object.integers("ffn");
  else block.ffn.ratios = object.numbers("ffn_ratio");
  object.end();
  return block;
}

}  // namespace

std::string SearchSpace::text() const {
  const ModelConfig& m = model_;
  OrderedJson json;
  json["model"] = {{"preset", m.preset},
                   {"vocabulary", m.vocabulary},
                   {"context", m.context},
                   {"head_dim", m.head_dim},
                   {"queries_per_group", m.queries_per_group},
                   {"norm", text_of(kNorms, m.norm)},
                   {"norm_eps", m.norm_eps},
                   {"ffn", text_of(kFeedForwards, m.ffn)},
                   {"positions", text_of(kPositions, m.positions)},
                   {"rope_theta", m.rope_theta},
                   {"biases", m.biases},
                   {"tied", m.tied},
                   {"branch_scale", m.branch_scale}};
  if (m.rope_scaling.kind != RopeStretch::none)
    json["model"]["rope_scaling"] = {{"kind", text_of(kStretches, m.rope_scaling.kind)}, {"factor", m.rope_scaling.factor}};
  if (m.rope_scaling.kind == RopeStretch::llama3) {
    json["model"]["rope_scaling"]["low_factor"] = m.rope_scaling.low_factor;
    json["model"]["rope_scaling"]["high_factor"] = m.rope_scaling.high_factor;
    json["model"]["rope_scaling"]["original_context"] = m.rope_scaling.original_context;
  }
  if (m.residual != ResidualRule::branch_scale) {  // unwritten, spaces of before there was a choice keep their hash
    json["model"]["residual"] = std::string(residual_rule(m.residual).name);
    json["model"]["skip_scale"] = m.skip_scale;
  }
  if (m.classifies()) {
    json["model"]["image"] = {
        {"height", m.image.height}, {"width", m.image.width}, {"channels", m.image.channels}, {"patch", m.image.patch}};
    json["model"]["readout"] = text_of(kReadouts, m.readout);
    json["model"]["causal"] = m.causal;
    json["model"]["head_bias"] = m.head_bias;
    if (m.distillation_token) json["model"]["distillation_token"] = true;
  }
  if (m.decoder.present()) json["model"]["decoder"] = {{"embed", m.decoder.embed}, {"depth", m.decoder.depth}, {"heads", m.decoder.heads}};
  if (m.tuning != Tuning{})
    json["model"]["tuning"] = {{"method", parametrization_of(m.tuning).name},
                               {"rank", m.tuning.rank},
                               {"alpha", m.tuning.alpha},
                               {"width", m.tuning.width},
                               {"targets", names_of(m.tuning.targets)}};
  if (!m.tuning.ranks.empty()) json["model"]["tuning"]["ranks"] = m.tuning.ranks;
  if (m.tuning.keys != 0) json["model"]["tuning"]["keys"] = m.tuning.keys;
  if (m.tuning.tokens != 0) json["model"]["tuning"]["tokens"] = m.tuning.tokens;
  json["embed"] = embed_;
  json["depth"] = depth_;
  json["blocks"] = OrderedJson::array();
  for (const Block& block : blocks_) {
    OrderedJson item;
    item["heads"] = block.heads;
    if (block.ffn.widths.empty()) item["ffn_ratio"] = block.ffn.ratios;
    else item["ffn"] = block.ffn.widths;
    json["blocks"].push_back(std::move(item));
  }
  return json.dump();
}

SearchSpace SearchSpace::parse(std::string_view text, std::string_view where) {
  const std::string place(where);
  if (text.size() > kMaxText)
    throw InputError(
        {.where = place, .expected = "a space of at most 4 MiB of text", .found = std::to_string(text.size()) + " bytes", .remedy = ""});
  const Json json = parse_untrusted_json(text, place, kDepth);
  Object object(json, "", place);
  ModelConfig model = parse_model({object.member("model"), "model.", place});
  std::vector<int> embed = object.integers("embed"), depth = object.integers("depth");
  std::vector<Block> blocks;
  int index = 0;
  for (const Json& item : object.list("blocks")) blocks.push_back(parse_block({item, "blocks." + std::to_string(index++) + ".", place}));
  object.end();
  try {
    return {std::move(model), std::move(embed), std::move(depth), std::move(blocks)};
  } catch (const InputError& error) {
    InputError::Parts parts = error.parts();
    parts.where = place + ": " + parts.where;
    throw InputError(std::move(parts));
  }
}

}  // namespace elastiform
