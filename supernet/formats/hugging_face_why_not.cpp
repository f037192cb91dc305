#include "supernet/formats/hugging_face.hpp"

#include "supernet/formats/hugging_face_keys.hpp"

namespace elastiform::hugging_face {
namespace {

/// What transformers' stock classes cannot build: they take one number for all layers.
std::string why_not_uniform(const Subnet& subnet) {
  if (subnet.blocks.empty()) return "it has no blocks";
  if (!subnet.kept.empty()) return "it keeps blocks named after @, and a stock class knows only a depth";
  for (int i = 0; i < subnet.depth(); ++i) {
    const BlockGenes& genes = subnet.blocks[static_cast<std::size_t>(i)];
    const std::string block = "block " + std::to_string(i);
    if (genes.heads == 0) return block + " has no attention";
    if (genes.ffn == 0) return block + " has no feed-forward network";
    if (genes != subnet.blocks.front())
      return block + " differs from block 0, and a stock class has one number of heads and one FFN width for all layers";
  }
  return "";
}

/// What classes need whose head_dim is embed / heads.
std::string why_not_heads(const ModelConfig& model, const Subnet& subnet, const std::string& whose) {
  const BlockGenes& genes = subnet.blocks.front();
  if (genes.groups != genes.heads) return "its query heads share KV groups; " + whose + "'s do not";
  if (genes.heads * model.head_dim != subnet.embed)
    return std::to_string(genes.heads) + " heads of " + std::to_string(model.head_dim) + " are not embed " + std::to_string(subnet.embed) +
           ", as " + whose + "'s class takes for granted";
  return "";
}

}  // namespace

std::string why_not_llama(const ModelConfig& model, const Subnet& subnet) {
  if (std::string reason = why_not_language_model(model); !reason.empty()) return reason;
  if (std::string reason = why_not_plain_blocks(model); !reason.empty()) return reason;
  if (model.norm != Norm::rms) return "its norm is LayerNorm; Llama's is RMSNorm";
  if (model.ffn != FeedForwardKind::swiglu) return "its FFN is GELU; Llama's is SwiGLU";
  if (model.positions != Positions::rope) return "its positions are learned; Llama's are rotary";
  const std::string reason = why_not_uniform(subnet);
  if (!reason.empty()) return reason;
  const int heads = subnet.blocks.front().heads;
  if (model.biases && subnet.embed % heads != 0)
    return std::to_string(heads) + " heads do not divide embed " + std::to_string(subnet.embed) +
           ", which needs the Mistral class, and that has no biases";
  return "";
}

std::string why_not_gpt2(const ModelConfig& model, const Subnet& subnet) {
  if (std::string reason = why_not_language_model(model); !reason.empty()) return reason;
  if (std::string reason = why_not_plain_blocks(model); !reason.empty()) return reason;
  if (model.norm != Norm::layer) return "its norm is RMSNorm; GPT-2's is LayerNorm";
  if (model.ffn == FeedForwardKind::swiglu) return "its FFN is SwiGLU; GPT-2's is GELU";
  if (model.positions != Positions::learned) return "its positions are rotary; GPT-2's are learned";
  if (!model.biases) return "it has no biases; GPT-2 has them everywhere";
  const std::string reason = why_not_uniform(subnet);
  if (!reason.empty()) return reason;
  return why_not_heads(model, subnet, "GPT-2");
}

std::string why_not_vit(const ModelConfig& model, const Subnet& subnet) {
  if (!model.classifies()) return "it is a language model; ViT's class is a classifier of images";
  if (std::string reason = why_not_plain_blocks(model); !reason.empty()) return reason;
  if (model.vocabulary > Config::kMaxLabels)
    return "it has " + std::to_string(model.vocabulary) + " classes; at most " + std::to_string(Config::kMaxLabels) + " are read back";
  if (model.norm != Norm::layer) return "its norm is RMSNorm; ViT's is LayerNorm";
  if (model.ffn == FeedForwardKind::swiglu) return "its FFN is SwiGLU; ViT's is GELU";
  if (model.readout != Readout::class_token) return "its head reads the mean of the tokens; ViT's reads the class token";
  if (!model.biases) return "it has no biases; ViT has them everywhere";
  if (!model.head_bias) return "its head has no bias; ViT's has one";
  if (std::string reason = why_not_uniform(subnet); !reason.empty()) return reason;
  return why_not_heads(model, subnet, "ViT");
}

std::string why_not_auto(const ModelConfig& model, const Subnet& subnet) {
  if (std::string reason = why_not_language_model(model); !reason.empty()) return reason;
  if (std::string reason = why_not_plain_blocks(model); !reason.empty()) return reason;
  return subnet.blocks.empty() ? "it has no blocks" : "";
}

std::string why_not_auto_block(const ModelConfig&, int, int, const BlockGenes&) { return ""; }

}  // namespace elastiform::hugging_face
