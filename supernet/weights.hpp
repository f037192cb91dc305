#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/memory_block.hpp"
#include "kernels/view.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// Which gene an axis of a tensor follows. One that follows none is fixed, and says so.
enum class Axis : std::uint8_t { fixed, embed, query, key_value, ffn, rank };

/// What a tensor is for: decides weight decay (matrices only), initialization and the exporter's names. gate: γ and ω of a residual rule,
/// shift: its single biases. low_rank and zero are matrices that a method of tuning adds; those of zero begin at 0, so that tuning begins
/// with the network that is tuned.
enum class Role : std::uint8_t { matrix, embedding, gain, bias, residual_out, gate, shift, low_rank, zero };
constexpr bool decays(Role role) {
  return role == Role::matrix || role == Role::residual_out || role == Role::low_rank || role == Role::zero;
}

struct TensorSpec {
  std::string name;  // "block.3.attention.query", "embedding.token", …: WeightTable lists them all
  int block = -1;    // the supernet's block; -1: outside
  Axis row_axis = Axis::fixed, column_axis = Axis::fixed;
  Role role = Role::matrix;
  double rate = 1;          // learning rate, of the schedule's
  bool trained = true;      // false: frozen, so it has no gradient, no optimizer state and no bands
  bool of_decoder = false;  // of ModelConfig::decoder: no subnet's
  std::int64_t rows = 0, columns = 0, ld = 0;
  std::int64_t offset = 0;              // elements from the start of a weight block
  std::vector<std::int64_t> row_bands;  // upper bounds of the bands, ascending; the last is `rows`
  std::vector<std::int64_t> column_bands;
  std::int64_t first_band = 0;  // index of band (0,0); band (r,c) is first_band + r·column_bands.size() + c
  std::int64_t bands() const { return static_cast<std::int64_t>(row_bands.size() * column_bands.size()); }
};

/// Extent of a tensor that one subnet uses: the first rows × columns; 0 × 0 when the tensor's block or branch is absent.
struct Extent {
  std::int64_t rows = 0, columns = 0;
};

/// Every tensor of a space: name → shape, place, bands. The tensors that learn stand first in memory. A band is a rectangle between neighbouring choices of both axes: its elements
/// are always active together. Weights are stored [in, out]; the order of Wq's columns is [KV group][query head][head_dim].
class WeightTable {
 public:
  explicit WeightTable(const SearchSpace& space);

  const std::vector<TensorSpec>& tensors() const { return tensors_; }
  const TensorSpec& at(std::string_view name) const;  // throws std::logic_error
  bool has(std::string_view name) const { return by_name_.find(name) != by_name_.end(); }
  std::int64_t elements() const { return elements_; }                  // with padding
  std::int64_t trained_elements() const { return trained_elements_; }  // the first of them
  std::int64_t band_count() const { return band_count_; }
  Extent extent(const TensorSpec& tensor, const Subnet& subnet) const;
  const SearchSpace& space() const { return space_; }
  /// The same tensors where a file has them: each begins at its one of `offsets` (elements), and rows lie one behind the other.
  WeightTable placed(const std::vector<std::int64_t>& offsets) const;
  bool lies_like(const WeightTable& other) const;  // every tensor of a space begins at the same place

 private:
  void add(TensorSpec spec);
  void add_decoder();
  void place(bool trained);
  SearchSpace space_;
  std::vector<TensorSpec> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  std::int64_t elements_ = 0, trained_elements_ = 0, band_count_ = 0;
};

/// Whether a block has values of all tensors, as weights do, or of those that learn, as gradients and moments do.
enum class Held : std::uint8_t { all, trained };

/// One contiguous, zero-initialised, 64-byte aligned block with a value for every element of the table: weights, their gradients, or a
/// moment of the optimizer. float32, or float64 on the reference backend. In the host's memory, or a device's.
class Weights {
 public:
  Weights(std::shared_ptr<const WeightTable> table, DType dtype, MemorySpace& memory = host_memory(), Held held = Held::all);
  /// float32 weights that `data`, of the host, holds already.
  Weights(std::shared_ptr<const WeightTable> table, MemoryBlock data);
  /// The elements of `other`, of the same table and type, which may be in another memory.
  void assign(const Weights& other);
  MemorySpace& memory() const { return *memory_; }
  bool on_host() const { return memory_ == &host_memory(); }

  const WeightTable& table() const { return *table_; }
  std::shared_ptr<const WeightTable> shared_table() const { return table_; }
  DType dtype() const { return dtype_; }
  Held held() const { return held_; }
  bool holds(const TensorSpec& tensor) const { return held_ == Held::all || tensor.trained; }

  View view(const TensorSpec& tensor);  // empty where it holds none
  ConstView view(const TensorSpec& tensor) const;
  View view(std::string_view name) { return view(table_->at(name)); }
  ConstView view(std::string_view name) const { return view(table_->at(name)); }
  View slice(const TensorSpec& tensor, Extent extent) { return view(tensor).slice(extent.rows, extent.columns); }
  ConstView slice(const TensorSpec& tensor, Extent extent) const { return view(tensor).slice(extent.rows, extent.columns); }

  std::byte* data() { return data_.get(); }
  const std::byte* data() const { return data_.get(); }
  std::int64_t bytes() const { return (held_ == Held::all ? table_->elements() : table_->trained_elements()) * bytes_of(dtype_); }

 private:
  std::shared_ptr<const WeightTable> table_;
  DType dtype_;
  Held held_;
  MemorySpace* memory_;
  MemoryBlock data_;
};

/// A copy in this memory, of the usual table whatever the table of `weights`.
Weights copied(const Weights& weights, MemorySpace& memory = host_memory());

/// Weights in the memory where they are needed, e.g. that of host code: themselves, which it borrows, or a copy.
class PlacedWeights {
 public:
  explicit PlacedWeights(const Weights& weights, MemorySpace& memory = host_memory());
  const Weights& operator*() const { return copy_ ? *copy_ : weights_; }

 private:
  const Weights& weights_;
  std::optional<Weights> copy_;
};

/// SHA-256 over the space and every weight: the name of a state of training.
std::string weights_hash(const Weights& weights);

/// Copies the slices that `subnet` uses into a dense network of exactly that size (the space SearchSpace::of).
Weights extract(const Weights& weights, const Subnet& subnet);

}  // namespace elastiform
