#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/ops/kinds.hpp"
#include "supernet/parametrizations/tuning.hpp"
#include "supernet/residual_rules/residual_rule.hpp"
#include "supernet/subnet.hpp"

namespace elastiform {

enum class FeedForwardKind : std::uint8_t { swiglu, gelu_tanh, gelu_erf };
enum class Positions : std::uint8_t { rope, learned };
/// What the head reads: every token (a language model), the class token that stands first, or the mean over the tokens (classifiers).
enum class Readout : std::uint8_t { every_token, class_token, mean };

/// Images that a model reads patch by patch instead of token ids. Values of a patch are ordered [channel][row][column].
struct ImageShape {
  int height = 0, width = 0, channels = 0, patch = 0;  // in pixels; all 0: no images
  bool present() const { return patch > 0; }
  int patches() const { return present() ? height / patch * (width / patch) : 0; }
  int patch_values() const { return channels * patch * patch; }
  int values() const { return channels * height * width; }
  bool operator==(const ImageShape&) const = default;
};

/// What guesses hidden patches of images from what a classifier's blocks make of the others: blocks of its own, for training alone
/// (arXiv 2111.06377). No subnet that is used has one.
struct PatchDecoder {
  int embed = 0, depth = 0, heads = 0;
  bool present() const { return *this != PatchDecoder{}; }
  bool operator==(const PatchDecoder&) const = default;
};

/// How rotary frequencies are lowered for a longer context than a checkpoint was first trained at: not, all alike (arXiv 2306.15595), or the
/// slow ones alone (Llama 3.1; arXiv 2407.21783).
enum class RopeStretch : std::uint8_t { none, linear, llama3 };
struct RopeScaling {
  RopeStretch kind = RopeStretch::none;
  double factor = 1;                       // by which frequencies are divided
  double low_factor = 1, high_factor = 4;  // llama3: waves longer than original_context / low_factor are divided, those shorter than
  double original_context = 8192;          // original_context / high_factor are not, those between are in part; tokens
  bool operator==(const RopeScaling&) const = default;
};

/// What every subnet of a space shares: the family and its fixed sizes.
struct ModelConfig {
  std::string preset = "llama";  // the name it came from: "llama", "gpt2", "vit"; only for messages and exports
  int vocabulary = 256;          // of a classifier: its classes
  int context = 128;             // T, tokens; of images as many as tokens_of_image()
  int head_dim = 32;             // D
  int queries_per_group = 1;     // query heads that share one KV group
  Norm norm = Norm::rms;
  double norm_eps = 1e-5;
  FeedForwardKind ffn = FeedForwardKind::swiglu;
  Positions positions = Positions::rope;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  bool biases = false;
  bool tied = true;  // the head is the token embedding
  ResidualRule residual = ResidualRule::branch_scale;
  double branch_scale = 1;  // s in x + s·branch(x); (2·N_max)^-1/2 when trained from scratch (design: subnets of any depth share it)
  double skip_scale = 1;    // α of the residual rule
  Tuning tuning;            // which tensors learn, and what is added to them
  ImageShape image;
  Readout readout = Readout::every_token;
  bool causal = true;               // a token sees itself and those before it; else all
  bool head_bias = false;           // [1, vocabulary]
  bool distillation_token = false;  // behind the class token, read by other tokens alone (DeiT, arXiv 2012.12877)
  PatchDecoder decoder;             // beside the network, while it trains

  /// The family: a classifier of images, or a language model.
  bool classifies() const { return readout != Readout::every_token; }
  /// Learned tokens that stand before the patches.
  int tokens_before_patches() const { return (readout == Readout::class_token ? 1 : 0) + (distillation_token ? 1 : 0); }
  int tokens_of_image() const { return image.patches() + tokens_before_patches(); }
  /// Rows that stand in front of each sequence's tokens in what blocks process: a prompt's vectors, or a prefix's places.
  int front_rows() const { return tuning.tokens + tuning.keys; }
  /// Of a sequence of so many tokens, the rows that blocks process.
  std::int64_t stream_tokens(std::int64_t tokens) const { return front_rows() + tokens; }
  /// Rows that the head scores.
  std::int64_t head_rows(std::int64_t sequences, std::int64_t tokens) const { return classifies() ? sequences : sequences * tokens; }
  /// Keys that a query meets in a sequence of so many tokens, on average, times two.
  std::int64_t keys_met_twice(std::int64_t tokens) const { return causal ? tokens + 1 : 2 * tokens; }

  bool operator==(const ModelConfig&) const = default;
};

/// `name` is "llama" (RMSNorm, SwiGLU, RoPE, no biases), "gpt2" (LayerNorm, GELU tanh, learned positions, biases) or "vit" (arXiv 2010.11929:
/// the same with exact GELU, all tokens seeing each other, a class token and a head with a bias of its own; `image` is left to set).
ModelConfig preset_model(std::string_view name);

/// FFN widths that a block may take. Ratios are of the embed width, rounded to the nearest multiple of 8; absolute widths win if present.
struct FeedForwardChoices {
  std::vector<int> widths;
  std::vector<double> ratios;
  std::vector<int> at(int embed) const;              // ascending, without repetition
  void at(int embed, std::vector<int>& list) const;  // the same into a list whose memory serves again
  bool operator==(const FeedForwardChoices&) const = default;
};

/// What may vary. Every list is ascending and without repetition; a pin is a list of one. Blocks are those of the supernet: there are
/// max(depth) of them, and a subnet of depth d has the first d unless its text says otherwise (@).
class SearchSpace {
 public:
  struct Block {
    std::vector<int> heads;  // multiples of queries_per_group; KV groups = heads / queries_per_group
    FeedForwardChoices ffn;
    bool operator==(const Block&) const = default;
  };

  /// Checks and sorts; throws InputError whose `where` begins with "space".
  SearchSpace(ModelConfig model, std::vector<int> embed, std::vector<int> depth, std::vector<Block> blocks);
  /// The space of exactly one subnet: what an export or a copied-out dense network is. Blocks are renumbered.
  static SearchSpace of(const ModelConfig& model, const Subnet& subnet);

  const ModelConfig& model() const { return model_; }
  const std::vector<int>& embed() const { return embed_; }
  const std::vector<int>& depth() const { return depth_; }
  const std::vector<Block>& blocks() const { return blocks_; }
  int max_embed() const { return embed_.back(); }
  int max_depth() const { return depth_.back(); }
  int max_heads(int block) const { return blocks_[static_cast<std::size_t>(block)].heads.back(); }
  int max_ffn(int block) const;

  /// The subnet that takes the last, the middle (index ⌊n/2⌋) or the first of every list of choices.
  Subnet largest() const;
  Subnet middle() const;
  Subnet smallest() const;

  /// Throws InputError with the nearest subnet of the space when `subnet` is not one. `where` names the space, e.g. "runs/demo".
  void check(const Subnet& subnet, std::string_view where) const;
  bool contains(const Subnet& subnet) const;
  /// The subnet of this space that is nearest choice by choice.
  Subnet nearest(const Subnet& subnet) const;

  /// Canonical text (JSON) and its SHA-256 (64 hex digits): stored in every file that depends on the space. parse(text()) == *this.
  std::string text() const;
  static SearchSpace parse(std::string_view text, std::string_view where);
  std::string hash() const;

  bool operator==(const SearchSpace&) const = default;

 private:
  ModelConfig model_;
  std::vector<int> embed_, depth_;
  std::vector<Block> blocks_;
};

}  // namespace elastiform
