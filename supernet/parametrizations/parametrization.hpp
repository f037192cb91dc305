#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "kernels/arena.hpp"
#include "kernels/backend.hpp"
#include "supernet/layer_tensors.hpp"
#include "supernet/search_space.hpp"
#include "supernet/weight_slice.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// Which side of a linear map an axis of an added tensor follows, so that it is sliced as the map is.
enum class Side : std::uint8_t { fixed, in, out, rank };  // fixed: one

/// A tensor that a method adds beside a linear map; its name is the map's and this suffix.
struct AddedTensor {
  std::string_view suffix;
  Role role = Role::matrix;
  Side rows = Side::fixed, columns = Side::fixed;
};
using AddedTensors = ShortList<AddedTensor>;  // at most kAddedTensors

/// Operands of the gradients of a linear map that computed y = scale · (x·W + b), of all N rows.
struct LinearBackward {
  const WeightSlice& w;
  const GradientSlice& dw;  // empty: frozen
  ConstView x, dy;          // x may be empty where the gradients do not read it
  double scale = 1;
  bool accumulate = true;
  std::array<View, 2> scratch{};  // of N rows, as scratch_columns says of the widest map
};

/// How a linear map follows from its tensors. Layers multiply by effective weights of the map's own shape, and ask for the gradients of
/// whatever learns; frozen tensors have none, so none of them costs a product. One method a file; methods keep no state.
class Parametrization {
 public:
  virtual ~Parametrization() = default;

  /// Whether the model's own tensors of a role learn.
  virtual bool trains(Role role) const = 0;
  /// InputError (where: "tune") when this model cannot be tuned so.
  virtual void check(const ModelConfig& model) const = 0;
  /// Products of a linear map's size that its backward pass takes.
  virtual int backward_products() const { return trains(Role::matrix) ? 2 : 1; }
  /// Whether effective weights are all there is: then a network of the model's own shape computes the same.
  virtual bool merges() const { return true; }

  /// What of Tuning a method takes.
  virtual bool has_targets() const { return false; }
  virtual bool has_rank() const { return false; }  // and alpha
  virtual bool has_width() const { return false; }
  virtual bool has_tokens() const { return false; }
  virtual bool has_keys() const { return false; }
  /// Of the adapters after branches (supernet/layers/branch_end.hpp); 0: none.
  virtual int adapter_width(const ModelConfig& /*model*/) const { return 0; }

  // Of the maps that are targets:
  virtual AddedTensors added(const ModelConfig& /*model*/) const { return {}; }
  /// Whether effective() writes W and b, or leaves them as they are.
  virtual bool forms_weight() const { return false; }
  virtual bool forms_bias(const ModelConfig& /*model*/) const { return false; }
  /// W and b that the map multiplies by. Called outside panels.
  virtual void effective(Backend& /*backend*/, const ModelConfig& /*model*/, const WeightSlice& /*w*/,
                         const GradientSlice& /*result*/) const {}
  /// Whether added_gradients reads the map's input, and which scratch of N rows it takes for a map of `out` columns.
  virtual bool reads_input() const { return false; }
  virtual std::array<std::int64_t, 2> scratch_columns(const ModelConfig& /*model*/, std::int64_t /*out*/) const { return {}; }
  virtual void added_gradients(Backend& /*backend*/, const ModelConfig& /*model*/, const LinearBackward& /*op*/) const {}
};

struct ParametrizationEntry {
  TuningMethod method;
  std::string_view name, help;
  double usual_rate;  // of the peak rate that the weights were trained with
  const Parametrization* how;
};
/// In order of TuningMethod.
std::span<const ParametrizationEntry> parametrizations();
const ParametrizationEntry& parametrization_of(const Tuning& tuning);
const ParametrizationEntry& find_parametrization(std::string_view name, std::string_view where);  // throws InputError

/// Those that a block of the model has.
LinearMaps linear_maps_of(const ModelConfig& model);

/// The linear maps of a model as its tuning makes them: what layers see of a method.
class Linears {
 public:
  explicit Linears(const ModelConfig& model) : model_(model), how_(*parametrization_of(model.tuning).how) {}

  /// Whether backward reads the map's input.
  bool reads_input(LinearMap map) const { return how_.trains(Role::matrix) || (targets(map) && how_.reads_input()); }
  /// Adds what effective() takes from the arena for a map [in, out].
  void declare_effective(ShortList<TensorShape>& shapes, LinearMap map, std::int64_t in, std::int64_t out) const;
  /// The slice with W and b as the layer multiplies by them; they stand in the arena until the caller's scope ends. Outside panels.
  WeightSlice effective(Backend& backend, LinearMap map, const WeightSlice& w, Arena& arena) const;
  /// Scratch that the gradients of one map at a time take, of N rows; `out`: the most columns of a map.
  std::array<TensorShape, 2> gradient_scratch(std::int64_t N, std::int64_t out) const;
  /// Forms the gradients of whatever learns. Outside panels.
  void gradients(Backend& backend, LinearMap map, const LinearBackward& op) const;

 private:
  bool targets(LinearMap map) const { return model_.tuning.targets.has(map); }
  const ModelConfig& model_;
  const Parametrization& how_;
};

}  // namespace elastiform
