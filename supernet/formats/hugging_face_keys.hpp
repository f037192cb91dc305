#pragma once

// For sources only, as json.hpp.
#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/errors.hpp"
#include "supernet/formats/hugging_face_config.hpp"
#include "supernet/formats/json.hpp"

namespace elastiform::hugging_face {

constexpr int kMaxSize = 1 << 24;  // of any one number in config.json; products stay far inside 64 bits

/// config.json, asked key by key.
class Config {
 public:
  static constexpr int kMaxLabels = 1 << 16;

  Config(std::string_view text, std::string where) : where_(std::move(where)), json_(parse_untrusted_json(text, where_, 16)) {
    if (!json_.is_object()) throw InputError({where_, "a JSON object", json_.type_name(), ""});
  }

  bool has(const char* key) const { return json_.contains(key) && !json_[key].is_null(); }
  int integer(const char* key) const {
    const auto& value = at(key);
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() < 1 || value.get<std::uint64_t>() > kMaxSize)
      fail(key, "a whole number from 1 to " + std::to_string(kMaxSize), value);
    return value.get<int>();
  }
  double real(const char* key) const { return real(at(key), key); }
  bool flag(const char* key, bool otherwise) const {
    if (!has(key)) return otherwise;
    if (!json_[key].is_boolean()) fail(key, "true or false", json_[key]);
    return json_[key].get<bool>();
  }
  std::string text(const char* key) const {
    const auto& value = at(key);
    if (!value.is_string()) fail(key, "text", value);
    return value.get<std::string>();
  }
  void only(const char* key, const std::string& expected) const {
    if (text(key) != expected) fail(key, expected, json_[key]);
  }
  void absent(const char* key) const {
    if (has(key)) fail(key, "null", json_[key]);
  }
  void only_flag(const char* key, bool expected) const {
    if (flag(key, expected) != expected) fail(key, expected ? "true" : "false", json_[key]);
  }
  int at_most(const char* key, int limit) const {
    const int value = integer(key);
    if (value > limit) fail(key, "at most " + std::to_string(limit), json_[key]);
    return value;
  }
  /// transformers 5 writes rope_parameters, 4 wrote rope_theta and rope_scaling. Where both stand, both versions go by rope_scaling and rope_theta.
  void rope(ModelConfig& model) const {
    model.rope_theta = has("rope_theta") ? real("rope_theta") : 10000;  // the classes' own default
    const std::string table = has("rope_scaling") ? "rope_scaling" : "rope_parameters";
    if (!has(table.c_str())) return;
    model.rope_scaling = scaling(table);
    const auto& rope = json_[table];
    if (rope.contains("partial_rotary_factor") && rope["partial_rotary_factor"] != 1.0)
      fail(table + ".partial_rotary_factor", "1", rope["partial_rotary_factor"]);
    if (rope.contains("rope_theta")) model.rope_theta = real(rope["rope_theta"], table + ".rope_theta");
  }
  /// The rule of scaling that a table says; its kind was called "type" once.
  RopeScaling scaling(const std::string& table) const {
    const auto& rope = json_[table];
    if (!rope.is_object()) fail(table, "an object", rope);
    const std::string key = rope.contains("rope_type") ? "rope_type" : "type";
    if (!rope.contains(key) || rope[key] == "default") return {};
    if (rope[key] != "linear" && rope[key] != "llama3") fail(table + "." + key, "default, linear or llama3", rope[key]);
    const auto number = [&](const std::string& name, double least, double most) {
      if (!rope.contains(name)) fail(table + "." + name, "a number", "none");
      const double value = real(rope[name], table + "." + name);
      if (!(value >= least && value <= most))
        fail(table + "." + name, "a number from " + shortest(least) + " to " + shortest(most), rope[name]);
      return value;
    };
    RopeScaling rule{.kind = RopeStretch::linear, .factor = number("factor", 1, 1e6)};
    if (rope[key] == "llama3")
      rule = {RopeStretch::llama3, rule.factor, number("low_freq_factor", 1e-3, 1e3), number("high_freq_factor", 1e-3, 1e3),
              number("original_max_position_embeddings", 1, kMaxSize)};
    return static_cast<float>(rule.factor) == 1 ? RopeScaling{} : rule;
  }
  /// Every layer attends to everything before it, as far as `context` tokens can tell.
  void full_attention(int context) const {
    if (has("layer_types")) {
      if (!json_["layer_types"].is_array()) fail("layer_types", "a list", json_["layer_types"]);
      for (const auto& layer : json_["layer_types"])
        if (layer != "full_attention" && !(layer == "sliding_attention" && has("sliding_window")))
          fail("layer_types", "full_attention", layer);
    }
    constexpr int kMistral = 4096;  // what its class takes when the key is absent; null is none
    if (!json_.contains("sliding_window") && text("model_type") == "mistral" && context > kMistral)
      throw InputError({where_ + ": sliding_window", "null, or at least the context of " + std::to_string(context) + " tokens",
                        "no such key, which means 4096 to a mistral", "write null if every token may see all before it"});
    if (!has("sliding_window") || !flag("use_sliding_window", true)) return;
    if (integer("sliding_window") < context)
      fail("sliding_window", "null, or at least the context of " + std::to_string(context) + " tokens", json_["sliding_window"]);
  }
  /// Whole numbers from 0, one a block; `count` of them unless that is 0.
  std::vector<int> list(const char* key, std::size_t count) const {
    const auto& value = at(key);
    if (!value.is_array() || value.empty() || value.size() > kMaxSubnetBlocks || (count != 0 && value.size() != count))
      fail(key, count == 0 ? "a list of numbers" : "a list of " + std::to_string(count) + " numbers", value);
    std::vector<int> numbers;
    for (const auto& number : value) {
      if (!number.is_number_unsigned() || number.get<std::uint64_t>() > kMaxSize) fail(key, "whole numbers from 0", number);
      numbers.push_back(number.get<int>());
    }
    return numbers;
  }
  /// One number, or a list of two: "image_size" and the like.
  std::pair<int, int> sides(const char* key, int limit) const {
    if (!at(key).is_array()) return {at_most(key, limit), at_most(key, limit)};
    const std::vector<int> both = list(key, 2);
    if (both[0] < 1 || both[1] < 1 || both[0] > limit || both[1] > limit)
      fail(key, "sides of 1 to " + std::to_string(limit) + " pixels", json_[key]);
    return {both[0], both[1]};
  }
  /// "id2label": the names of classes 0, 1, …, as they are. Empty ones where the key is absent, two unless num_labels says how many.
  std::vector<std::string> labels() const {
    if (!has("id2label"))
      return std::vector<std::string>(has("num_labels") ? static_cast<std::size_t>(at_most("num_labels", kMaxLabels)) : 2);
    const auto& names = json_["id2label"];
    if (!names.is_object() || names.size() > kMaxLabels) fail("id2label", "an object with at most 65536 names", names);
    std::vector<std::string> labels;
    for (std::size_t i = 0; i < names.size(); ++i) {
      const std::string key = std::to_string(i);
      if (!names.contains(key) || !names[key].is_string()) fail("id2label." + key, "the name of class " + key, "none");
      labels.push_back(names[key].get<std::string>());
    }
    return labels;
  }
  /// Index of the value of `key` among `choices`.
  std::size_t choice(const char* key, const std::vector<std::string>& choices) const {
    const auto found = std::find(choices.begin(), choices.end(), text(key));
    std::string list;
    for (const std::string& name : choices) list += (list.empty() ? "one of " : ", ") + name;
    if (found == choices.end()) fail(key, list, json_[key]);
    return static_cast<std::size_t>(found - choices.begin());
  }
  const std::string& where() const { return where_; }
  [[noreturn]] void fail(const std::string& key, std::string expected, const nlohmann::json& found) const {
    throw InputError(
        {where_ + ": " + key, std::move(expected), found.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 64), ""});
  }

 private:
  const nlohmann::json& at(const char* key) const {
    if (!has(key)) throw InputError({where_, std::string("key ") + key, "none", ""});
    return json_[key];
  }
  static std::string shortest(double number) { return nlohmann::json(number).dump(); }
  double real(const nlohmann::json& value, const std::string& key) const {
    if (!value.is_number()) fail(key, "a number", value);
    return value.get<double>();
  }

  std::string where_;
  nlohmann::json json_;
};

/// A network whose blocks are alike.
inline Subnet uniform(int embed, int layers, const BlockGenes& genes) {
  return {.embed = embed, .blocks = std::vector<BlockGenes>(static_cast<std::size_t>(layers), genes), .kept = {}};
}

// hugging_face_vit_config.cpp
Architecture parse_vit(const Config& config, const std::string& type);  // ViT and DeiT
Architecture parse_dinov2(const Config& config);                        // a body with LayerScale

}  // namespace elastiform::hugging_face
