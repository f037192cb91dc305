#include <algorithm>
#include <filesystem>
#include <stdexcept>
#include <utility>

#include "supernet/formats/hugging_face.hpp"
#include "supernet/formats/hugging_face_images.hpp"
#include "supernet/formats/hugging_face_modules.hpp"
#include "supernet/formats/hugging_face_tokenizer.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/formats/model_card.hpp"
#include "supernet/formats/safetensors.hpp"
#include "supernet/formats/weight_rows.hpp"
#include "supernet/storage/durable_file.hpp"

namespace elastiform::hugging_face {
namespace {

using Json = nlohmann::ordered_json;
using safetensors::Tensor;

/// Collects the tensors of one model under Hugging Face's names.
class Tensors {
 public:
  explicit Tensors(const Weights& weights) : weights_(weights) {}

  void matrix(const std::string& to, const std::string& from) {
    const ConstView x = weights_.view(from);
    list_.push_back({to, {x.rows, x.columns}, [x] { return row_major(x); }});
  }
  void vector(const std::string& to, const std::string& from) {
    const ConstView x = weights_.view(from);
    list_.push_back({to, {x.columns}, [x] { return row_major(x); }});
  }
  void norm(const std::string& to, const std::string& from) {
    vector(to + ".weight", from + ".gain");
    if (weights_.table().has(from + ".bias")) vector(to + ".bias", from + ".bias");
  }
  /// torch.nn.Linear keeps [out,in].
  void linear(const std::string& to, const std::string& from) {
    const ConstView x = weights_.view(from);
    list_.push_back({to + ".weight", {x.columns, x.rows}, [x] { return transposed(x); }});
    if (weights_.table().has(from + ".bias")) vector(to + ".bias", from + ".bias");
  }
  /// One of ViT's tables, which begin with an axis of 1.
  void table(const std::string& to, const std::string& from) {
    const ConstView x = weights_.view(from);
    list_.push_back({to, {1, x.rows, x.columns}, [x] { return row_major(x); }});
  }
  /// A linear map of patches as the convolution that it is: [out, channels, height, width].
  void convolution(const std::string& to, const std::string& from, const ImageShape& image) {
    linear(to, from);
    const auto weight = std::find_if(list_.begin(), list_.end(), [&](const Tensor& one) { return one.name == to + ".weight"; });
    weight->shape = {weight->shape.front(), image.channels, image.patch, image.patch};
  }
  /// GPT-2's Conv1D keeps [in,out], as we do.
  void conv1d(const std::string& to, const std::string& from) {
    matrix(to + ".weight", from);
    vector(to + ".bias", from + ".bias");
  }
  /// query, key and value side by side: [in, 3·out].
  void fused_conv1d(const std::string& to, const std::string& prefix) {
    const auto side_by_side = [this, prefix](const std::string& suffix) {
      const ConstView parts[3] = {weights_.view(prefix + "query" + suffix), weights_.view(prefix + "key" + suffix),
                                  weights_.view(prefix + "value" + suffix)};
      std::vector<float> values;
      for (std::int64_t row = 0; row < parts[0].rows; ++row)
        for (const ConstView& part : parts) values.insert(values.end(), part.row<float>(row), part.row<float>(row) + part.columns);
      return values;
    };
    const ConstView query = weights_.view(prefix + "query");
    list_.push_back({to + ".weight", {query.rows, 3 * query.columns}, [=] { return side_by_side(""); }});
    list_.push_back({to + ".bias", {3 * query.columns}, [=] { return side_by_side(".bias"); }});
  }

  std::vector<Tensor> take() { return std::move(list_); }

 private:
  const Weights& weights_;
  std::vector<Tensor> list_;
};

/// Tensors under the names of Hugging Face's Llama; a branch that a block lacks has none.
std::vector<Tensor> llama_tensors(const DenseModel& model) {
  Tensors tensors(model.weights);
  tensors.matrix("model.embed_tokens.weight", "embedding.token");
  if (model.model.positions == Positions::learned) tensors.matrix("model.embed_positions.weight", "embedding.position");
  for (int block = 0; block < model.subnet.depth(); ++block) {
    const BlockGenes& genes = model.subnet.blocks[static_cast<std::size_t>(block)];
    const std::string to = "model.layers." + std::to_string(block) + ".", from = "block." + std::to_string(block) + ".";
    if (genes.heads > 0) {
      tensors.norm(to + "input_layernorm", from + "attention.norm");
      tensors.linear(to + "self_attn.q_proj", from + "attention.query");
      tensors.linear(to + "self_attn.k_proj", from + "attention.key");
      tensors.linear(to + "self_attn.v_proj", from + "attention.value");
      tensors.linear(to + "self_attn.o_proj", from + "attention.out");
    }
    if (genes.ffn > 0) {
      tensors.norm(to + "post_attention_layernorm", from + "ffn.norm");
      if (model.model.ffn == FeedForwardKind::swiglu) tensors.linear(to + "mlp.gate_proj", from + "ffn.gate");
      tensors.linear(to + "mlp.up_proj", from + "ffn.up");
      tensors.linear(to + "mlp.down_proj", from + "ffn.down");
    }
  }
  tensors.norm("model.norm", "final.norm");
  if (!model.model.tied) tensors.matrix("lm_head.weight", "head");
  return tensors.take();
}

/// Keys of config.json that every architecture shares. Both spellings of the dtype: transformers 4 reads the first, 5 the second.
Json config_of(const DenseModel& model, const char* architecture, const char* type) {
  return {{"architectures", {architecture}},
          {"model_type", type},
          {"torch_dtype", "float32"},
          {"dtype", "float32"},
          {"vocab_size", model.model.vocabulary},
          {"tie_word_embeddings", model.model.tied},
          {"bos_token_id", nullptr},
          {"eos_token_id", nullptr},
          {"pad_token_id", nullptr},
          {"use_cache", true}};
}

void require_folded(const ModelConfig& model) {
  if (model.branch_scale != 1 || model.residual != ResidualRule::branch_scale)
    throw std::logic_error("export: the residual rule must be folded into the weights");
}

void write_folder(const DenseModel& model, const ModelCard& card, Json config, std::vector<Tensor> tensors, const std::string& folder) {
  require_folded(model.model);
  std::filesystem::create_directories(folder);
  const auto put = [&](const char* name, const std::string& text) { write_durably(folder + "/" + name, text); };
  Json generation{{"do_sample", false}, {"bos_token_id", nullptr}, {"eos_token_id", nullptr}, {"pad_token_id", nullptr}};
  if (const auto end = end_token(card.tokenizer, card.end_token)) config["eos_token_id"] = generation["eos_token_id"] = end->id;
  put("config.json", config.dump(2) + "\n");
  put("generation_config.json", generation.dump(2) + "\n");
  put_tokenizer(folder, card.tokenizer, card.end_token, model.model);
  const bool own_code = config.contains("auto_map");
  put("README.md", model_card_text(model, card, own_code ? Loader::transformers_with_code : Loader::transformers));
  if (own_code) {
    put("configuration_elastiform.py", std::string(configuration_module()));
    put("modeling_elastiform.py", std::string(modeling_module()));
  }
  safetensors::write(folder + "/model.safetensors", std::move(tensors));
}

/// One number for squares, as most have it.
Json sides(int height, int width) { return height == width ? Json(height) : Json{height, width}; }

Json vit_config(const DenseModel& model, const ModelCard& card) {
  const ModelConfig& m = model.model;
  const BlockGenes& genes = model.subnet.blocks.front();
  Json config{{"architectures", {m.distillation_token ? "DeiTForImageClassification" : "ViTForImageClassification"}},
              {"model_type", m.distillation_token ? "deit" : "vit"},
              {"torch_dtype", "float32"},
              {"dtype", "float32"},
              {"hidden_size", model.subnet.embed},
              {"num_hidden_layers", model.subnet.depth()},
              {"num_attention_heads", genes.heads},
              {"intermediate_size", genes.ffn},
              {"hidden_act", m.ffn == FeedForwardKind::gelu_erf ? "gelu" : "gelu_new"},
              {"hidden_dropout_prob", 0.0},
              {"attention_probs_dropout_prob", 0.0},
              {"layer_norm_eps", m.norm_eps},
              {"image_size", sides(m.image.height, m.image.width)},
              {"patch_size", m.image.patch},
              {"num_channels", m.image.channels},
              {"qkv_bias", true}};
  Json names = Json::object(), numbers = Json::object();
  for (int i = 0; i < m.vocabulary; ++i) {
    const std::string id = std::to_string(i),
                      name = card.class_names.empty() ? "LABEL_" + id : card.class_names[static_cast<std::size_t>(i)];
    names[id] = name;
    numbers[name] = i;
  }
  config["id2label"] = names;
  config["label2id"] = numbers;
  return config;
}

/// In the words of transformers.
Json scaling_of(const RopeScaling& rule) {
  if (rule.kind == RopeStretch::none) return {{"rope_type", "default"}};
  Json table{{"rope_type", rule.kind == RopeStretch::linear ? "linear" : "llama3"}, {"factor", rule.factor}};
  if (rule.kind == RopeStretch::linear) return table;
  table["low_freq_factor"] = rule.low_factor;
  table["high_freq_factor"] = rule.high_factor;
  table["original_max_position_embeddings"] = static_cast<std::int64_t>(rule.original_context);
  return table;
}

}  // namespace

void write_llama(const DenseModel& model, const ModelCard& card, const std::string& path) {
  const ModelConfig& m = model.model;
  const BlockGenes& genes = model.subnet.blocks.front();
  const bool mistral = model.subnet.embed % genes.heads != 0;
  Json config = config_of(model, mistral ? "MistralForCausalLM" : "LlamaForCausalLM", mistral ? "mistral" : "llama");
  config["hidden_size"] = model.subnet.embed;
  config["intermediate_size"] = genes.ffn;
  config["num_hidden_layers"] = model.subnet.depth();
  config["num_attention_heads"] = genes.heads;
  config["num_key_value_heads"] = genes.groups;
  config["head_dim"] = m.head_dim;
  config["max_position_embeddings"] = m.context;
  config["rms_norm_eps"] = m.norm_eps;
  config["hidden_act"] = "silu";
  config["attention_dropout"] = 0.0;
  config["rope_theta"] = m.rope_theta;  // transformers 4 reads this one and rope_scaling, 5 rope_parameters
  config["rope_parameters"] = scaling_of(m.rope_scaling);
  config["rope_parameters"]["rope_theta"] = m.rope_theta;
  if (m.rope_scaling.kind != RopeStretch::none) config["rope_scaling"] = scaling_of(m.rope_scaling);
  if (mistral) config["sliding_window"] = nullptr;
  else config["attention_bias"] = config["mlp_bias"] = m.biases;

  write_folder(model, card, config, llama_tensors(model), path);
}

void write_gpt2(const DenseModel& model, const ModelCard& card, const std::string& path) {
  const ModelConfig& m = model.model;
  const BlockGenes& genes = model.subnet.blocks.front();
  Json config = config_of(model, "GPT2LMHeadModel", "gpt2");
  config["n_embd"] = model.subnet.embed;
  config["n_layer"] = model.subnet.depth();
  config["n_head"] = genes.heads;
  config["n_inner"] = genes.ffn;
  config["n_positions"] = m.context;
  config["activation_function"] = m.ffn == FeedForwardKind::gelu_erf ? "gelu" : "gelu_new";
  config["layer_norm_epsilon"] = m.norm_eps;
  for (const char* dropout : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) config[dropout] = 0.0;

  Tensors tensors(model.weights);
  tensors.matrix("transformer.wte.weight", "embedding.token");
  tensors.matrix("transformer.wpe.weight", "embedding.position");
  for (int block = 0; block < model.subnet.depth(); ++block) {
    const std::string to = "transformer.h." + std::to_string(block) + ".", from = "block." + std::to_string(block) + ".";
    tensors.norm(to + "ln_1", from + "attention.norm");
    tensors.fused_conv1d(to + "attn.c_attn", from + "attention.");
    tensors.conv1d(to + "attn.c_proj", from + "attention.out");
    tensors.norm(to + "ln_2", from + "ffn.norm");
    tensors.conv1d(to + "mlp.c_fc", from + "ffn.up");
    tensors.conv1d(to + "mlp.c_proj", from + "ffn.down");
  }
  tensors.norm("transformer.ln_f", "final.norm");
  if (!m.tied) tensors.matrix("lm_head.weight", "head");
  write_folder(model, card, config, tensors.take(), path);
}

void write_vit(const DenseModel& model, const ModelCard& card, const std::string& path) {
  require_folded(model.model);
  const ModelConfig& m = model.model;
  const bool deit = m.distillation_token;
  const std::string body = deit ? "deit." : "vit.";
  Tensors tensors(model.weights);
  tensors.table(body + "embeddings.cls_token", "embedding.class");
  if (deit) tensors.table(body + "embeddings.distillation_token", "embedding.distillation");
  tensors.table(body + "embeddings.position_embeddings", "embedding.position");
  tensors.convolution(body + "embeddings.patch_embeddings.projection", "embedding.patch", m.image);
  for (int block = 0; block < model.subnet.depth(); ++block) {
    const std::string to = body + "encoder.layer." + std::to_string(block) + ".", from = "block." + std::to_string(block) + ".";
    tensors.norm(to + "layernorm_before", from + "attention.norm");
    for (const std::string map : {"query", "key", "value"}) tensors.linear(to + "attention.attention." + map, from + "attention." + map);
    tensors.linear(to + "attention.output.dense", from + "attention.out");
    tensors.norm(to + "layernorm_after", from + "ffn.norm");
    tensors.linear(to + "intermediate.dense", from + "ffn.up");
    tensors.linear(to + "output.dense", from + "ffn.down");
  }
  tensors.norm(body + "layernorm", "final.norm");
  tensors.matrix("classifier.weight", "head");
  tensors.vector("classifier.bias", "head.bias");
  std::filesystem::create_directories(path);
  write_durably(path + "/config.json", vit_config(model, card).dump(2) + "\n");
  write_durably(path + "/preprocessor_config.json", preprocessor_config(m.image, card.reading));
  write_durably(path + "/README.md", model_card_text(model, card, Loader::transformers));
  safetensors::write(path + "/model.safetensors", tensors.take());
}

void write_auto(const DenseModel& model, const ModelCard& card, const std::string& path) {
  const ModelConfig& m = model.model;
  std::vector<int> heads, groups, widths;
  for (const BlockGenes& genes : model.subnet.blocks) {
    heads.push_back(genes.heads);
    groups.push_back(genes.groups);
    widths.push_back(genes.ffn);
  }
  Json config = config_of(model, "ElastiformForCausalLM", "elastiform");
  config["auto_map"] = {{"AutoConfig", "configuration_elastiform.ElastiformConfig"},
                        {"AutoModelForCausalLM", "modeling_elastiform.ElastiformForCausalLM"}};
  config["hidden_size"] = model.subnet.embed;
  config["head_dim"] = m.head_dim;
  config["block_heads"] = heads;
  config["block_key_value_heads"] = groups;
  config["block_ffn"] = widths;
  config["max_position_embeddings"] = m.context;
  config["norm"] = m.norm == Norm::rms ? "rmsnorm" : "layernorm";
  config["norm_eps"] = m.norm_eps;
  config["ffn_kind"] = m.ffn == FeedForwardKind::swiglu ? "swiglu" : m.ffn == FeedForwardKind::gelu_tanh ? "gelu_tanh" : "gelu_erf";
  config["positions"] = m.positions == Positions::rope ? "rope" : "learned";
  config["rope_theta"] = m.rope_theta;
  if (m.rope_scaling.kind != RopeStretch::none) config["rotary_scaling"] = scaling_of(m.rope_scaling);  // no name of transformers' own
  config["biases"] = m.biases;
  // Without attention there is nothing to keep, and generate() would take an empty cache for a first step.
  config["use_cache"] = std::any_of(heads.begin(), heads.end(), [](int count) { return count > 0; });
  write_folder(model, card, config, llama_tensors(model), path);
}

}  // namespace elastiform::hugging_face
