#include <stdexcept>

#include "supernet/formats/gguf.hpp"
#include "supernet/formats/gguf_rotary.hpp"
#include "supernet/formats/gguf_vocabulary.hpp"
#include "supernet/formats/model_card.hpp"
#include "supernet/formats/weight_rows.hpp"

namespace elastiform::gguf {
namespace {

std::uint32_t file_type(Element element) {  // llama_ftype
  switch (element) {
    case Element::f32: return 0;
    case Element::f16: return 1;
    case Element::q8_0: return 7;
    case Element::bf16: return 32;
    case Element::q4_0:
    case Element::q4_1: break;  // read only
  }
  throw std::logic_error("gguf: an element type without a file type");
}

/// Rows of heads, from pairs (i, i + D/2) to pairs (2i, 2i+1): llama.cpp rotates neighbours.
std::vector<float> interleaved(const std::vector<float>& rows, std::int64_t head_dim, std::int64_t width) {
  std::vector<float> result(rows.size());
  const auto count = static_cast<std::int64_t>(rows.size()) / width;
  for (std::int64_t row = 0; row < count; ++row) {
    const std::int64_t head = row / head_dim, i = row % head_dim;
    const std::int64_t from = head * head_dim + i / 2 + (i % 2) * (head_dim / 2);
    std::copy_n(rows.begin() + from * width, width, result.begin() + row * width);
  }
  return result;
}

/// Collects the tensors of one model under llama.cpp's names.
class Tensors {
 public:
  Tensors(const Weights& weights, Element element, int head_dim) : weights_(weights), element_(element), head_dim_(head_dim) {}

  void lookup(const std::string& to, const std::string& from) {
    const ConstView x = weights_.view(from);
    list_.push_back({to, element_, {x.rows, x.columns}, [x] { return row_major(x); }});
  }
  void vector(const std::string& to, const std::string& from) {
    const ConstView x = weights_.view(from);
    list_.push_back({to, Element::f32, {x.columns}, [x] { return row_major(x); }});
  }
  void linear(const std::string& to, const std::string& from) {
    const ConstView x = weights_.view(from);
    list_.push_back({to + ".weight", element_, {x.columns, x.rows}, [x] { return transposed(x); }});
    if (weights_.table().has(from + ".bias")) vector(to + ".bias", from + ".bias");
  }
  void rotated(const std::string& to, const std::string& from) {
    const ConstView x = weights_.view(from);
    const std::int64_t d = head_dim_;
    list_.push_back({to + ".weight", element_, {x.columns, x.rows}, [x, d] { return interleaved(transposed(x), d, x.rows); }});
    if (!weights_.table().has(from + ".bias")) return;
    const ConstView bias = weights_.view(from + ".bias");
    list_.push_back({to + ".bias", Element::f32, {bias.columns}, [bias, d] { return interleaved(row_major(bias), d, 1); }});
  }
  void constant(const std::string& to, Element element, std::vector<std::int64_t> shape, float value) {
    std::size_t size = 1;
    for (const std::int64_t extent : shape) size *= static_cast<std::size_t>(extent);
    list_.push_back({to, element, std::move(shape), [size, value] { return std::vector<float>(size, value); }});
  }
  std::vector<Tensor> take() { return std::move(list_); }

 private:
  const Weights& weights_;
  Element element_;
  std::int64_t head_dim_;
  std::vector<Tensor> list_;
};

/// llama.cpp leaves out the attention of a block without an FFN, so every block with attention gets one: of zeros if it has none.
int written_width(const BlockGenes& genes, Element element) { return genes.ffn > 0 ? genes.ffn : idle_width(element); }

Metadata metadata_of(const DenseModel& model, const ModelCard& card, Element element) {
  const ModelConfig& m = model.model;
  std::vector<std::int32_t> heads, groups, widths, own_widths;
  for (const BlockGenes& genes : model.subnet.blocks) {
    heads.push_back(genes.heads);
    groups.push_back(genes.groups);
    widths.push_back(written_width(genes, element));
    own_widths.push_back(genes.ffn);
  }
  const auto number = [](int value) { return static_cast<std::uint32_t>(value); };
  Metadata metadata{{"general.architecture", std::string("deci")},
                    {"general.name", card.subnet},
                    {"general.file_type", file_type(element)},
                    {"general.quantization_version", std::uint32_t{2}},
                    {"elastiform.version", card.version},
                    {"elastiform.data_sha256", card.data_sha256},
                    {"elastiform.supernet_weights_sha256", card.weights_hash},
                    {"elastiform.feed_forward_length", own_widths},
                    {"deci.block_count", number(model.subnet.depth())},
                    {"deci.context_length", number(m.context)},
                    {"deci.embedding_length", number(model.subnet.embed)},
                    {"deci.vocab_size", number(m.vocabulary)},
                    {"deci.attention.head_count", heads},
                    {"deci.attention.head_count_kv", groups},
                    {"deci.feed_forward_length", widths},
                    {"deci.attention.layer_norm_rms_epsilon", static_cast<float>(m.norm_eps)},
                    {"deci.rope.freq_base", static_cast<float>(m.rope_theta)}};
  for (const char* key : {"deci.attention.key_length", "deci.attention.value_length", "deci.rope.dimension_count"})
    metadata.emplace_back(key, number(m.head_dim));
  return metadata;
}

}  // namespace

void write_deci(const DenseModel& model, const ModelCard& card, const std::string& path, Element element) {
  const ModelConfig& m = model.model;
  if (m.branch_scale != 1) throw std::logic_error("export: the branch scale must be folded into the weights");
  Metadata metadata = metadata_of(model, card, element);
  add_vocabulary(metadata, card.tokenizer, card.end_token, m.vocabulary);
  metadata.emplace_back("elastiform.model_card", model_card_text(model, card, Loader::llama_cpp));

  const std::int64_t embed = model.subnet.embed, idle = idle_width(element);
  Tensors tensors(model.weights, element, m.head_dim);
  tensors.lookup("token_embd.weight", "embedding.token");
  for (int block = 0; block < model.subnet.depth(); ++block) {
    const BlockGenes& genes = model.subnet.blocks[static_cast<std::size_t>(block)];
    const std::string to = "blk." + std::to_string(block) + ".", from = "block." + std::to_string(block) + ".";
    if (genes.heads > 0) {
      tensors.vector(to + "attn_norm.weight", from + "attention.norm.gain");
      tensors.rotated(to + "attn_q", from + "attention.query");
      tensors.rotated(to + "attn_k", from + "attention.key");
      tensors.linear(to + "attn_v", from + "attention.value");
      tensors.linear(to + "attn_output", from + "attention.out");
    }
    if (genes.ffn > 0) {
      tensors.vector(to + "ffn_norm.weight", from + "ffn.norm.gain");
      tensors.linear(to + "ffn_gate", from + "ffn.gate");
      tensors.linear(to + "ffn_up", from + "ffn.up");
      tensors.linear(to + "ffn_down", from + "ffn.down");
    } else {
      tensors.constant(to + "ffn_norm.weight", Element::f32, {embed}, 1);
      tensors.constant(to + "ffn_gate.weight", element, {idle, embed}, 0);
      tensors.constant(to + "ffn_up.weight", element, {idle, embed}, 0);
      tensors.constant(to + "ffn_down.weight", element, {embed, idle}, 0);
    }
  }
  tensors.vector("output_norm.weight", "final.norm.gain");
  if (!m.tied) tensors.lookup("output.weight", "head");
  std::vector<Tensor> list = tensors.take();
  add_scaling(metadata, list, m);
  write(path, metadata, list);
}

}  // namespace elastiform::gguf
