#ifdef ELASTIFORM_ONNX

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <stdexcept>

#include "supernet/formats/hugging_face_images.hpp"
#include "supernet/formats/hugging_face_tokenizer.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/formats/model_card.hpp"
#include "supernet/formats/onnx.hpp"
#include "supernet/formats/onnx_blocks.hpp"
#include "supernet/rotary.hpp"
#include "supernet/storage/durable_file.hpp"

namespace elastiform::onnx_folder {
namespace {

using Json = nlohmann::ordered_json;

int attention_blocks(const Subnet& subnet) {
  return static_cast<int>(
      std::count_if(subnet.blocks.begin(), subnet.blocks.end(), [](const BlockGenes& genes) { return genes.heads > 0; }));
}

/// The decoder as a graph, with keys and values as inputs and outputs.
class Decoder final : public BlockGraph {
 public:
  explicit Decoder(const DenseModel& model) : BlockGraph(model, "decoder") {}

  Graph build() {
    g_.input("input_ids", true, {"batch", "seq"});
    g_.input("attention_mask", true, {"batch", "total"});
    g_.input("position_ids", true, {"batch", "seq"});
    // The same for every block, before any.
    std::string x = g_.op("Gather", {weight("embedding.token"), "input_ids"});
    if (model_.positions == Positions::learned) x = g_.op("Add", {x, g_.op("Gather", {weight("embedding.position"), "position_ids"})});
    if (attention_blocks(subnet_) > 0) {
      mask_ = mask();
      if (model_.positions == Positions::rope) rotary();
    }
    x = blocks(x);
    const std::string head = model_.tied ? g_.transpose("embedding.token", {1, 0}) : weight_transposed("head");
    g_.op("MatMul", {norm(x, "final.norm"), head}, "logits");
    g_.output("logits", {"batch", "seq", std::to_string(model_.vocabulary)});
    for (const auto& [name, groups] : cache_) {
      const std::string width = std::to_string(model_.head_dim);
      g_.input("past_key_values." + name, false, {"batch", std::to_string(groups), "past", width});
      g_.output("present." + name, {"batch", std::to_string(groups), "total", width});
    }
    return std::move(g_);
  }

 private:
  /// [B,1,1,S,T]: 0 where a token may look, else a number whose exponential is 0. Finite, so that a padding token's row is no NaN.
  std::string mask() {
    const std::string zero = g_.index(0), one = g_.index(1);
    const auto size = [&](const char* input) { return g_.op("Gather", {g_.op("Shape", {input}), one}, "axis", 0); };
    const std::string tokens = size("input_ids"), total = size("attention_mask");
    const std::string own = g_.op("Unsqueeze", {g_.op("Range", {g_.op("Sub", {total, tokens}), total, one}), g_.indices({1})});
    const std::string seen = g_.op("Unsqueeze", {g_.op("Range", {zero, total, one}), g_.indices({0})});
    const std::string filled = g_.op("Cast", {"attention_mask"}, "to", onnx::TensorProto::BOOL);
    const std::string allowed = g_.op("And", {g_.op("LessOrEqual", {seen, own}), g_.op("Unsqueeze", {filled, g_.indices({1, 2, 3})})});
    return g_.op("Where", {allowed, g_.number(0), g_.number(-3.4028234e38f)});
  }

  /// cos and sin [B,1,S,D/2] of this call's positions, from tables.
  void rotary() {
    const std::int64_t half = model_.head_dim / 2, context = model_.context;
    const auto table = [&](const char* name, double (*function)(double)) {
      return g_.weight(name, {context, half}, [=, frequencies = rotary_frequencies(model_)] {
        std::vector<float> values;
        for (std::int64_t position = 0; position < context; ++position)
          for (const double frequency : frequencies)
            values.push_back(static_cast<float>(function(static_cast<double>(position) * frequency)));
        return values;
      });
    };
    const auto at_positions = [&](const std::string& values) {
      return g_.op("Unsqueeze", {g_.op("Gather", {values, "position_ids"}), g_.indices({1})});
    };
    cos_ = at_positions(table("rotary.cos", [](double x) { return std::cos(x); }));
    sin_ = at_positions(table("rotary.sin", [](double x) { return std::sin(x); }));
  }

  std::string turned(const std::string& x) override {
    if (cos_.empty()) return x;
    const auto [a, b] = g_.halves(x, model_.head_dim / 2);
    const std::string first = g_.op("Sub", {g_.op("Mul", {a, cos_}), g_.op("Mul", {b, sin_})});
    return g_.concat(first, g_.op("Add", {g_.op("Mul", {b, cos_}), g_.op("Mul", {a, sin_})}), -1);
  }
  std::string remembered(const std::string& values, const char* kind, const BlockGenes& genes) override {
    const std::string name = std::to_string(cache_.size() / 2) + kind;  // of the blocks that have attention
    cache_.emplace_back(name, genes.groups);
    return g_.concat("past_key_values." + name, values, 2, "present." + name);
  }
  std::string masked(const std::string& scores) override { return g_.op("Add", {scores, mask_}); }

  std::string mask_, cos_, sin_;
  std::vector<std::pair<std::string, int>> cache_;  // "0.key", "0.value", …, with their groups
};

/// Settings of onnxruntime-genai. Layers are those with attention, because only they have a cache; the heads of each are read from the graph.
Json genai_config(const DenseModel& model, int end) {
  const ModelConfig& m = model.model;
  const auto first =
      std::find_if(model.subnet.blocks.begin(), model.subnet.blocks.end(), [](const BlockGenes& genes) { return genes.heads > 0; });
  const Json decoder{
      {"session_options", {{"log_id", "onnxruntime-genai"}, {"provider_options", Json::array()}}},
      {"filename", "model.onnx"},
      {"head_size", m.head_dim},
      {"hidden_size", model.subnet.embed},
      {"num_attention_heads", first->heads},
      {"num_key_value_heads", first->groups},
      {"num_hidden_layers", attention_blocks(model.subnet)},
      {"inputs",
       {{"input_ids", "input_ids"},
        {"attention_mask", "attention_mask"},
        {"position_ids", "position_ids"},
        {"past_key_names", "past_key_values.%d.key"},
        {"past_value_names", "past_key_values.%d.value"}}},
      {"outputs", {{"logits", "logits"}, {"present_key_names", "present.%d.key"}, {"present_value_names", "present.%d.value"}}}};
  return {{"model",
           {{"type", "llama"},
            {"bos_token_id", end},
            {"eos_token_id", end},
            {"pad_token_id", end},
            {"context_length", m.context},
            {"vocab_size", m.vocabulary},
            {"decoder", decoder}}},
          {"search", {{"max_length", m.context}, {"do_sample", false}, {"past_present_share_buffer", false}}}};
}

std::string lines_of(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += name + "\n";
  return text;
}

}  // namespace

void write(const DenseModel& model, const ModelCard& card, const std::string& path, std::int64_t inline_bytes) {
  if (model.model.branch_scale != 1) throw std::logic_error("export: the branch scale must be folded into the weights");
  std::filesystem::create_directories(path);
  const auto put = [&](const char* name, const std::string& text) { write_durably(path + "/" + name, text); };
  const bool classifies = model.model.classifies();
  (classifies ? classifier_graph(model) : Decoder(model).build()).save(path + "/model.onnx", inline_bytes);
  put("README.md", model_card_text(model, card, Loader::onnxruntime));
  if (classifies) {
    put("preprocessor_config.json", hugging_face::preprocessor_config(model.model.image, card.reading));
    if (!card.class_names.empty()) put("labels.txt", lines_of(card.class_names));
    return;
  }
  // onnxruntime-genai must have an end token: where every id stands for a text, it would stop at one of them.
  if (const auto end = hugging_face::stopping_id(card.tokenizer, card.end_token, model.model.vocabulary);
      end && attention_blocks(model.subnet) > 0)
    put("genai_config.json", genai_config(model, *end).dump(2) + "\n");
  hugging_face::put_tokenizer(path, card.tokenizer, card.end_token, model.model);
}

void write(const DenseModel& model, const ModelCard& card, const std::string& path) { write(model, card, path, kInlineBytes); }

}  // namespace elastiform::onnx_folder

#endif  // ELASTIFORM_ONNX
