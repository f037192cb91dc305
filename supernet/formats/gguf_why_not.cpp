#include "supernet/formats/gguf.hpp"

namespace elastiform::gguf {
namespace {

constexpr int kMostBlocks = 512;  // LLAMA_MAX_LAYERS

std::string no_multiple(const std::string& what, int value, int block) {
  return what + " " + std::to_string(value) + " is no multiple of " + std::to_string(block) + ", the block of Q8_0";
}

}  // namespace

std::string why_not_block(const ModelConfig& model, int embed, int index, const BlockGenes& genes, Element element) {
  const auto block = static_cast<int>(block_size(static_cast<std::uint32_t>(element)).elements);
  const std::string where = "block " + std::to_string(index);
  if (embed % block != 0) return no_multiple("embed", embed, block);
  if (index == 0 && genes.heads == 0) return "block 0 has no attention, and llama.cpp refuses such a deci";
  if (genes.heads * model.head_dim % block != 0)
    return no_multiple(where + " has " + std::to_string(genes.heads) + " heads, and their width", genes.heads * model.head_dim, block);
  if (genes.ffn % block != 0) return no_multiple(where + ": FFN width", genes.ffn, block);
  return "";
}

std::string why_not_deci(const ModelConfig& model, const Subnet& subnet, Element element) {
  if (std::string reason = why_not_language_model(model); !reason.empty()) return reason;
  if (std::string reason = why_not_plain_blocks(model); !reason.empty()) return reason;
  if (model.norm != Norm::rms) return "its norm is LayerNorm; llama.cpp's deci has RMSNorm";
  if (model.ffn != FeedForwardKind::swiglu) return "its FFN is GELU; llama.cpp's deci has SwiGLU";
  if (model.positions != Positions::rope) return "its positions are learned; llama.cpp's deci has rotary ones";
  if (subnet.blocks.empty()) return "it has no blocks";
  if (subnet.depth() > kMostBlocks) return "it has " + std::to_string(subnet.depth()) + " blocks, and llama.cpp takes at most 512";
  for (int i = 0; i < subnet.depth(); ++i)
    if (std::string reason = why_not_block(model, subnet.embed, i, subnet.blocks[static_cast<std::size_t>(i)], element); !reason.empty())
      return reason;
  return "";
}

int idle_width(Element element) { return static_cast<int>(block_size(static_cast<std::uint32_t>(element)).elements); }

}  // namespace elastiform::gguf
