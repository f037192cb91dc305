#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/arena.hpp"
#include "kernels/ops/kinds.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// generate() feeds a prompt in pieces of this many tokens, so its working memory does not grow with the context.
constexpr std::int64_t kPrefillRows = kPanelRows;

/// Rows and columns of a tensor that a layer keeps for its backward pass, or needs for a moment; 0 rows: absent.
struct TensorShape {
  std::int64_t rows = 0, columns = 0;
};

/// Sizes of one pass: N = batch · tokens rows; the rest is this subnet's.
struct BlockShape {
  std::int64_t batch = 0, tokens = 0;
  std::int64_t embed = 0, heads = 0, groups = 0, ffn = 0;
  std::int64_t rows() const { return batch * tokens; }
};

/// What a layer allocates, declared once: the plan adds it up, the code takes exactly this from the arena.
struct LayerTensors {
  std::vector<TensorShape> saved;             // from forward to backward
  std::vector<TensorShape> forward_scratch;   // during forward
  std::vector<TensorShape> backward_scratch;  // during backward
};

/// The tensors of one LayerTensors list, taken from the arena in order; index them with the layer's enum.
class Saved {
 public:
  Saved(Arena& arena, std::span<const TensorShape> shapes, DType dtype);
  View write(int id) const { return views_[static_cast<std::size_t>(id)]; }
  ConstView read(int id) const { return views_[static_cast<std::size_t>(id)]; }

 private:
  std::vector<View> views_;
};

/// A matrix of kPanelRows rows for each worker, for values that do not outlive a panel.
class PanelScratch {
 public:
  PanelScratch(View all) : all_(all) {}  // NOLINT(google-explicit-constructor)
  static TensorShape shape(int slots, std::int64_t columns) { return {slots * kPanelRows, columns}; }
  View at(int slot, std::int64_t rows) const { return all_.row_range(slot * kPanelRows, rows); }

 private:
  View all_;
};

/// Adds up arena bytes in the order of a pass; everything is kept. Its peak is what the arena's will be, to the byte.
class ActivationPlan {
 public:
  explicit ActivationPlan(DType dtype) : dtype_(dtype) {}
  void keep(std::span<const TensorShape> shapes);
  void use(std::span<const TensorShape> shapes);  // and give back
  void release_kept(std::span<const TensorShape> shapes);
  std::int64_t peak() const { return peak_; }
  std::int64_t kept() const { return kept_; }

 private:
  std::int64_t bytes(std::span<const TensorShape> shapes) const;
  DType dtype_;
  std::int64_t kept_ = 0, peak_ = 0;
};

// Arena bytes of the passes of Network, computed from the same declarations that the layers allocate by. slots: Backend::slots().
std::int64_t training_arena_bytes(const ModelConfig& model, DType dtype, int slots, const Subnet& subnet, std::int64_t batch,
                                  std::int64_t tokens, bool with_teacher);
std::int64_t block_arena_bytes(const ModelConfig& model, DType dtype, int slots, int embed, const BlockGenes& genes, std::int64_t batch,
                               std::int64_t tokens);
std::int64_t score_arena_bytes(const ModelConfig& model, DType dtype, int slots, int embed, std::int64_t batch, std::int64_t tokens);
std::int64_t decode_arena_bytes(const ModelConfig& model, DType dtype, int slots, const Subnet& subnet, std::int64_t tokens,
                                std::int64_t logit_rows);
std::int64_t cache_arena_bytes(const ModelConfig& model, DType dtype, const Subnet& subnet, std::int64_t context);
/// All that generate() allocates beside the weights: the cache, a piece of the prompt on its way through, one row of logits.
std::int64_t generation_arena_bytes(const ModelConfig& model, DType dtype, int slots, const Subnet& subnet, std::int64_t context);

}  // namespace elastiform
