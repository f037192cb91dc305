#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <stdexcept>

#include "kernels/arena.hpp"
#include "kernels/backend.hpp"
#include "supernet/dropout.hpp"
#include "supernet/subnet.hpp"

namespace elastiform {

/// Rows and columns of a tensor that a layer keeps for its backward pass, or needs for a moment; 0 rows: absent.
struct TensorShape {
  std::int64_t rows = 0, columns = 0;
  std::int64_t bytes(DType dtype) const { return rows > 0 ? Arena::bytes_for(rows, columns, dtype) : 0; }
};

/// Sizes of one pass: N = batch · tokens rows; the rest is this subnet's.
struct BlockShape {
  std::int64_t batch = 0, tokens = 0;
  std::int64_t embed = 0, heads = 0, groups = 0, ffn = 0;
  int block = 0;  // of the supernet
  PassDropout dropout = {};
  ConstView cosine, sine;  // rotary positions of each row, where rows are not whole sequences; empty: row % tokens
  int depth = 0;           // blocks of the subnet, for residual rules that follow it; no size depends on it
  std::int64_t rows() const { return batch * tokens; }

  /// genes: of a block; none: what has no heads and no FFN.
  static BlockShape of(std::int64_t batch, std::int64_t tokens, int embed, const BlockGenes& genes) {
    return {.batch = batch,
            .tokens = tokens,
            .embed = embed,
            .heads = genes.heads,
            .groups = genes.groups,
            .ffn = genes.ffn,
            .cosine = {},
            .sine = {}};
  }
};

/// A short list without memory of its own: a training step declares some hundred of them.
template <class T>
class ShortList {
 public:
  static constexpr std::size_t kCapacity = 16;
  ShortList() = default;
  ShortList(std::initializer_list<T> items) {
    for (const T& item : items) push_back(item);
  }
  void push_back(const T& item) {
    if (size_ == kCapacity) throw std::logic_error("ShortList: more than its capacity");
    items_[size_++] = item;
  }
  std::size_t size() const { return size_; }
  const T& operator[](std::size_t i) const { return items_[i]; }
  const T* begin() const { return items_.data(); }
  const T* end() const { return items_.data() + size_; }
  operator std::span<const T>() const { return {items_.data(), size_}; }  // NOLINT(google-explicit-constructor)

 private:
  std::array<T, kCapacity> items_{};
  std::size_t size_ = 0;
};

inline std::int64_t bytes_of_all(std::span<const TensorShape> shapes, DType dtype) {
  std::int64_t sum = 0;
  for (const TensorShape& shape : shapes) sum += shape.bytes(dtype);
  return sum;
}

/// A set of a layer's tensors, by their numbers in its enum.
class TensorSet {
 public:
  constexpr TensorSet() = default;
  constexpr TensorSet(std::initializer_list<int> ids) {
    for (const int id : ids) insert(id);
  }
  constexpr bool has(int id) const { return (bits_ >> id & 1u) != 0; }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr std::uint32_t bits() const { return bits_; }
  constexpr void insert(int id) { bits_ |= 1u << id; }
  constexpr bool meets(TensorSet other) const { return (bits_ & other.bits_) != 0; }
  constexpr bool operator==(const TensorSet&) const = default;

 private:
  std::uint32_t bits_ = 0;
};

/// In how many bits an element of a layer's tensors waits for backward, by their numbers in its enum. 0: kept as it is; kAway: as it is,
/// outside the arena; else compressed to so many.
class TensorBits {
 public:
  static constexpr int kAway = 15;
  constexpr int of(int id) const { return static_cast<int>(bits_ >> (4 * id) & 15U); }
  constexpr void set(int id, int bits) {
    bits_ = (bits_ & ~(std::uint64_t{15} << (4 * id))) | static_cast<std::uint64_t>(bits) << (4 * id);
  }
  constexpr bool empty() const { return bits_ == 0; }
  constexpr bool compresses() const {  // something: what is sent away stays as it is
    for (int id = 0; id < 16; ++id)
      if (of(id) != 0 && of(id) != kAway) return true;
    return false;
  }
  constexpr std::uint64_t pattern() const { return bits_; }  // of 4 · ShortList::kCapacity bits
  constexpr bool operator==(const TensorBits&) const = default;

 private:
  std::uint64_t bits_ = 0;
};

/// Where a layer's tensors are between its forward and its backward pass.
struct LayerPlan {
  TensorSet dropped;  // computed again from the others
  TensorBits bits;    // of what is compressed, so that backward reads an unbiased estimate, or waits outside
  constexpr LayerPlan() = default;
  constexpr LayerPlan(TensorSet dropped_) : dropped(dropped_) {}  // NOLINT(google-explicit-constructor)
  constexpr bool operator==(const LayerPlan&) const = default;
};

/// A tensor that forward computes and backward reads: kept in between, compressed, sent away, or dropped and computed again. One that
/// backward does not read, as the input of a frozen map, is never kept, and computed again only where others are computed again from it.
struct KeptTensor {
  TensorShape shape;
  bool operand = false;    // products multiply it: stored in the backend's operand_dtype()
  bool by_panel = false;   // forward needs a panel of it at a time: dropped, it takes scratch for a panel a worker
  std::int64_t flops = 0;  // of the products that compute it; 0: elementwise
  int slowness = 1;        // seconds a FLOP of these products, beside a plain GEMM's
  bool read = true;        // by backward
  TensorSet makes{};       // what backward computes from it when that is dropped
  bool place = false;      // backward writes something else into its memory, whether it reads it or not
  // Fewest bits that it may be compressed to: 2 where backward is linear in it, so that gradients stay unbiased; 8 where it is not (the bias
  // is ½ f″ times the variance, arXiv 2104.14129); 0: never, as statistics.
  int least_bits = 0;
  std::int64_t gradient_flops = 0;  // of the products that backward makes of it: how far its noise reaches
};

/// What a layer allocates, declared once: plans add it up, the code takes exactly this from the arena.
struct LayerTensors {
  ShortList<KeptTensor> kept;               // the layer's enum numbers them
  std::int64_t result_flops = 0;            // of the product that makes the layer's output
  ShortList<TensorShape> backward_scratch;  // beside the tensors that backward computes again
  ShortList<TensorShape> effective;         // weights that are formed anew for forward and for backward (Linears)

  TensorSet not_kept(TensorSet dropped) const;                                           // and what backward never reads
  TensorSet again(TensorSet dropped) const;                                              // what backward computes again
  TensorSet taken(TensorSet dropped) const;                                              // and what it only takes the memory of
  std::int64_t saved_bytes(const LayerPlan& plan, const BackendTraits& traits) const;    // from forward to backward
  std::int64_t forward_bytes(const LayerPlan& plan, const BackendTraits& traits) const;  // during forward: what is not kept as it is
  std::int64_t away_bytes(const LayerPlan& plan, const BackendTraits& traits) const;     // outside the arena in between
  /// During backward: scratch, what is computed again, and room for what was not kept as it is.
  std::int64_t backward_bytes(const LayerPlan& plan, const BackendTraits& traits) const;
  std::int64_t flops() const;                                  // of forward's products
  std::int64_t recomputed_flops(const LayerPlan& plan) const;  // of the products that backward repeats
  int tensors() const;                                         // that backward reads
  int compressed_tensors(const LayerPlan& plan) const;         // of these
  /// What dropping, compressing and sending them away costs, in FLOPs of a GEMM that take as long.
  std::int64_t cost(const LayerPlan& plan, const BackendTraits& traits) const;
  /// The plan with every tensor compressed that it keeps and that may be: to `bits`, or to its fewest where that is more.
  LayerPlan compressed(LayerPlan plan, int bits) const;
  /// The plan with every large tensor that it keeps sent away.
  LayerPlan sent_away(LayerPlan plan) const;
};

/// A matrix of a panel's rows for each worker, for values that do not outlive a panel.
class PanelScratch {
 public:
  PanelScratch(View all, int slots) : all_(all), rows_(all.rows / slots) {}
  /// For loops over panels of N rows.
  static TensorShape shape(const BackendTraits& traits, std::int64_t N, std::int64_t columns) {
    return {traits.slots * std::min(N, traits.panel_rows), columns};
  }
  View at(int slot, std::int64_t rows) const { return all_.row_range(slot * rows_, rows); }

 private:
  View all_;
  std::int64_t rows_;
};

/// Tensors taken from the arena in order; index them with the layer's enum.
class Saved {
 public:
  Saved() = default;
  Saved(Arena& arena, std::span<const TensorShape> shapes, DType dtype);
  /// Those of a layer that are not dropped; of compressed ones the codes, of others that are not kept as they are their place in `away`.
  Saved(Arena& arena, const LayerTensors& tensors, const LayerPlan& plan, const BackendTraits& traits, Arena* away = nullptr);
  /// Room for these while their layer runs: undefined before forward, or before restore().
  void make_room(Arena& arena, const LayerTensors& tensors, const BackendTraits& traits);
  View write(int id) const { return views_[static_cast<std::size_t>(id)]; }
  ConstView read(int id) const { return views_[static_cast<std::size_t>(id)]; }
  View waiting(int id) const { return waiting_[static_cast<std::size_t>(id)]; }  // codes, or the tensor itself
  bool dropped(int id) const { return plan_.dropped.has(id); }                   // or never kept
  TensorSet dropped() const { return plan_.dropped; }
  const LayerPlan& plan() const { return plan_; }
  /// Of the first that is kept, from which, with the plan and the arena's mark, all others follow; 0: none.
  std::int64_t address() const;

 private:
  std::array<View, ShortList<TensorShape>::kCapacity> views_, waiting_;
  LayerPlan plan_;
};

/// Compresses, or sends away, what a layer's forward has left in the room of make_room(). Tensor `id` has the noise {seed, {name[0], name[1] +
/// id << 8}}, and its rows are numbered from first_row on.
void store(Backend& backend, const Saved& saved, const NoiseName& noise, std::int64_t first_row, Arena* away);
/// Brings it back, or estimates of it, before the layer's backward.
void restore(Backend& backend, const Saved& saved);
/// Asks for what restore() will read of `away`.
void recall(const Saved& saved, Arena& away);

/// Where forward writes a layer's tensors: into `saved`, or, what is dropped, into scratch that the caller's ArenaScope gives back.
class ForwardTensors {
 public:
  ForwardTensors(Backend& backend, Arena& arena, const LayerTensors& tensors, const Saved& saved);
  View whole(int id) const { return places_[static_cast<std::size_t>(id)]; }
  /// Rows r, on the calling worker.
  View rows(int id, Rows r) const;

 private:
  Backend& backend_;
  std::array<View, ShortList<KeptTensor>::kCapacity> places_;
  TensorSet by_panel_;
};

/// Where backward finds them, with its scratch; all that it takes from the arena goes back with the caller's ArenaScope.
class BackwardTensors {
 public:
  BackwardTensors(Backend& backend, Arena& arena, const LayerTensors& tensors, const Saved& saved);
  View scratch(int id) const { return scratch_.write(id); }
  bool dropped(int id) const { return saved_.dropped(id); }
  /// The tensor as forward left it; a dropped one is memory of undefined content, taken now, or empty where backward has no use for it.
  View take(int id) const;
  /// The same, and a dropped one is computed, panel by panel: recompute(out, rows).
  template <class Recompute>
  View read(int id, const Recompute& recompute) const {
    const View view = take(id);
    if (again_.has(id) && !view.empty()) backend_.panels(view.rows, [&](Rows r) { recompute(view[r], r); });
    return view;
  }

 private:
  Backend& backend_;
  Arena& arena_;
  const LayerTensors& tensors_;
  const Saved& saved_;
  TensorSet again_, taken_;
  Saved scratch_;
};

}  // namespace elastiform
