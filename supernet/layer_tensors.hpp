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
};

/// A short list without memory of its own: a training step declares some hundred of them.
template <class T>
class ShortList {
 public:
  static constexpr std::size_t kCapacity = 12;
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
  constexpr bool operator==(const TensorSet&) const = default;

 private:
  std::uint32_t bits_ = 0;
};

/// A tensor that forward computes and backward reads: kept in between, or dropped and computed again.
struct KeptTensor {
  TensorShape shape;
  bool operand = false;    // products multiply it: stored in the backend's operand_dtype()
  bool by_panel = false;   // forward needs a panel of it at a time: dropped, it takes scratch for a panel a worker
  std::int64_t flops = 0;  // of the products that compute it; 0: elementwise
  int slowness = 1;        // seconds a FLOP of these products, beside a plain GEMM's
};

/// What a layer allocates, declared once: plans add it up, the code takes exactly this from the arena.
struct LayerTensors {
  ShortList<KeptTensor> kept;               // the layer's enum numbers them
  std::int64_t result_flops = 0;            // of the product that makes the layer's output
  ShortList<TensorShape> backward_scratch;  // beside the tensors that backward computes again

  std::int64_t saved_bytes(TensorSet dropped, const BackendTraits& traits) const;    // from forward to backward
  std::int64_t forward_bytes(TensorSet dropped, const BackendTraits& traits) const;  // during forward: what is not kept
  std::int64_t backward_bytes(TensorSet dropped,
                              const BackendTraits& traits) const;  // during backward: scratch, and what is computed again
  std::int64_t flops() const;                                      // of forward's products
  std::int64_t recomputed_flops(TensorSet dropped) const;          // of the products that backward repeats
  /// What dropping them costs backward, in FLOPs of a GEMM that take as long.
  std::int64_t recomputed_cost(TensorSet dropped, const BackendTraits& traits) const;
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
  /// Those of a layer that are not dropped.
  Saved(Arena& arena, const LayerTensors& tensors, TensorSet dropped, const BackendTraits& traits);
  View write(int id) const { return views_[static_cast<std::size_t>(id)]; }
  ConstView read(int id) const { return views_[static_cast<std::size_t>(id)]; }
  bool dropped(int id) const { return dropped_.has(id); }
  TensorSet dropped() const { return dropped_; }
  /// Of the first that is kept, from which all others follow; 0: none.
  std::int64_t address() const;

 private:
  std::array<View, ShortList<TensorShape>::kCapacity> views_;
  TensorSet dropped_;
};

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
  /// The tensor as forward left it; a dropped one is memory of undefined content, taken now.
  View take(int id) const;
  /// The same, and a dropped one is computed, panel by panel: recompute(out, rows).
  template <class Recompute>
  View read(int id, const Recompute& recompute) const {
    const View view = take(id);
    if (saved_.dropped(id) && !view.empty()) backend_.panels(view.rows, [&](Rows r) { recompute(view[r], r); });
    return view;
  }

 private:
  Backend& backend_;
  Arena& arena_;
  const LayerTensors& tensors_;
  const Saved& saved_;
  Saved scratch_;
};

}  // namespace elastiform
