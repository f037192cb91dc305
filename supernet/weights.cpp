#include "supernet/weights.hpp"

#include <algorithm>
#include <cassert>
#include <stdexcept>
#include <utility>

#include "kernels/arena.hpp"
#include "supernet/copy_rows.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "supernet/patch_decoder.hpp"
#include "supernet/sha256.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kAlignment = 64;

std::vector<std::int64_t> scaled(const std::vector<int>& choices, std::int64_t factor) {
  std::vector<std::int64_t> bounds;
  for (const int choice : choices)
    if (choice > 0) bounds.push_back(choice * factor);
  return bounds;
}

/// Upper bounds of the bands of every kind of axis of one block.
struct BandBounds {
  std::vector<std::int64_t> embed, query, key_value, ffn, rank;
  const std::vector<std::int64_t>& of(Axis axis) const {
    switch (axis) {
      case Axis::query: return query;
      case Axis::key_value: return key_value;
      case Axis::ffn: return ffn;
      case Axis::rank: return rank;
      default: return embed;
    }
  }
};

BandBounds bounds_of(const SearchSpace& space, int block) {
  BandBounds bounds{.embed = scaled(space.embed(), 1), .query = {}, .key_value = {}, .ffn = {}, .rank = {}};
  const Tuning& tuning = space.model().tuning;
  bounds.rank = tuning.ranks.empty() ? std::vector<std::int64_t>{tuning.rank} : scaled(tuning.ranks, 1);
  if (block < 0) return bounds;
  const auto& choices = space.blocks()[static_cast<std::size_t>(block)];
  const int head_dim = space.model().head_dim;
  bounds.query = scaled(choices.heads, head_dim);
  for (const int heads : choices.heads)
    if (heads > 0) bounds.key_value.push_back(static_cast<std::int64_t>(heads / space.model().queries_per_group) * head_dim);
  std::vector<int> widths;
  for (const int embed : space.embed())
    for (const int width : choices.ffn.at(embed)) widths.push_back(width);
  std::sort(widths.begin(), widths.end());
  widths.erase(std::unique(widths.begin(), widths.end()), widths.end());
  bounds.ffn = scaled(widths, 1);
  return bounds;
}

/// One tensor before its sizes are known; a fixed axis gives its own size.
struct Declared {
  std::string name;
  Role role;
  Axis rows, columns;
  std::int64_t fixed_rows = 1, fixed_columns = 1;
  bool added = false;  // by a method of tuning
  double rate = 1;
};

void declare_norm(std::vector<Declared>& list, const std::string& name, const ModelConfig& model) {
  list.push_back({name + ".gain", Role::gain, Axis::fixed, Axis::embed});
  if (model.norm == Norm::layer && model.biases) list.push_back({name + ".bias", Role::bias, Axis::fixed, Axis::embed});
}

void declare_linear(std::vector<Declared>& list, const std::string& layer, LinearMap map, const ModelConfig& model, Axis in, Axis out,
                    Role role) {
  const std::string name = layer + "." + std::string(kLinearMaps[static_cast<std::size_t>(map)]);
  list.push_back({name, role, in, out});
  if (model.biases) list.push_back({name + ".bias", Role::bias, Axis::fixed, out});
  if (!model.tuning.targets.has(map)) return;
  const auto axis = [&](Side side) {
    return side == Side::in ? in : side == Side::out ? out : side == Side::rank ? Axis::rank : Axis::fixed;
  };
  for (const AddedTensor& one : parametrization_of(model.tuning).how->added(model))
    list.push_back({name + std::string(one.suffix), one.role, axis(one.rows), axis(one.columns), 1, 1, true});
}

void declare_end(std::vector<Declared>& list, const std::string& layer, const ModelConfig& model) {
  const int width = parametrization_of(model.tuning).how->adapter_width(model);
  if (width == 0) return;
  list.push_back({layer + ".adapter.down", Role::low_rank, Axis::embed, Axis::fixed, 1, width, true});
  list.push_back({layer + ".adapter.up", Role::zero, Axis::fixed, Axis::embed, width, 1, true});
}

/// What the residual rule adds to a branch: `shifts` names its single biases.
void declare_residual(std::vector<Declared>& list, const std::string& branch, const ModelConfig& model,
                      std::initializer_list<const char*> shifts) {
  const ResidualForm& form = residual_form(model);
  const std::string name = branch + ".residual.";
  if (form.gate == Gate::branch) list.push_back({name + "gate", Role::gate, Axis::fixed, Axis::fixed, 1, 1, false, form.gate_rate});
  if (form.gate == Gate::channels) list.push_back({name + "gate", Role::gate, Axis::fixed, Axis::embed, 1, 1, false, form.gate_rate});
  if (form.skip_gain) list.push_back({name + "skip", Role::gate, Axis::fixed, Axis::embed});
  if (!form.shifts) return;
  for (const char* shift : shifts) list.push_back({name + shift, Role::shift, Axis::fixed, Axis::fixed, 1, 1, false, form.gate_rate});
}

std::vector<Declared> declare_embedding(const ModelConfig& model) {
  std::vector<Declared> list;
  if (model.classifies()) {
    list.push_back({"embedding.patch", Role::matrix, Axis::fixed, Axis::embed, model.image.patch_values()});
    if (model.biases) list.push_back({"embedding.patch.bias", Role::bias, Axis::fixed, Axis::embed});
  } else {
    list.push_back({"embedding.token", Role::embedding, Axis::fixed, Axis::embed, model.vocabulary});
  }
  if (model.readout == Readout::class_token) list.push_back({"embedding.class", Role::embedding, Axis::fixed, Axis::embed, 1});
  if (model.distillation_token) list.push_back({"embedding.distillation", Role::embedding, Axis::fixed, Axis::embed, 1});
  if (model.positions == Positions::learned)
    list.push_back({"embedding.position", Role::embedding, Axis::fixed, Axis::embed, model.context});
  if (model.tuning.tokens > 0)
    list.push_back({"embedding.prompt", Role::embedding, Axis::fixed, Axis::embed, model.tuning.tokens, 1, true});
  return list;
}

std::vector<Declared> declare_block(const ModelConfig& model, const std::string& prefix, bool attention, bool ffn) {
  std::vector<Declared> list;
  const ResidualForm& form = residual_form(model);
  const bool norms = form.norm != NormPlace::none;
  if (attention) {
    const std::string name = prefix + ".attention";
    if (norms) declare_norm(list, name + ".norm", model);
    declare_linear(list, name, LinearMap::query, model, Axis::embed, Axis::query, Role::matrix);
    declare_linear(list, name, LinearMap::key, model, Axis::embed, Axis::key_value, Role::matrix);
    declare_linear(list, name, LinearMap::value, model, Axis::embed, Axis::key_value, Role::matrix);
    declare_linear(list, name, LinearMap::out, model, Axis::query, Axis::embed, Role::residual_out);
    declare_residual(list, name, model, {"input", "output"});
    declare_end(list, name, model);
    for (const char* one : {".prefix.key", ".prefix.value"})
      if (model.tuning.keys > 0) list.push_back({name + one, Role::embedding, Axis::fixed, Axis::key_value, model.tuning.keys, 1, true});
  }
  if (ffn) {
    const std::string name = prefix + ".ffn";
    if (norms) declare_norm(list, name + ".norm", model);
    if (model.ffn == FeedForwardKind::swiglu) declare_linear(list, name, LinearMap::gate, model, Axis::embed, Axis::ffn, Role::matrix);
    declare_linear(list, name, LinearMap::up, model, Axis::embed, Axis::ffn, Role::matrix);
    declare_linear(list, name, LinearMap::down, model, Axis::ffn, Axis::embed, Role::residual_out);
    declare_residual(list, name, model, {"input", "activation", "output"});
    declare_end(list, name, model);
  }
  if (form.gate == Gate::block)
    list.push_back({prefix + ".residual.gate", Role::gate, Axis::fixed, Axis::fixed, 1, 1, false, form.gate_rate});
  return list;
}

}  // namespace

WeightTable::WeightTable(const SearchSpace& space) : space_(space) {
  const ModelConfig& model = space.model();
  const Parametrization& how = *parametrization_of(model.tuning).how;
  const auto add_all = [&](const std::vector<Declared>& list, int block) {
    const BandBounds bounds = bounds_of(space, block);
    for (const Declared& one : list) {
      TensorSpec spec{.name = one.name,
                      .block = block,
                      .row_axis = one.rows,
                      .column_axis = one.columns,
                      .role = one.role,
                      .rate = one.rate,
                      .trained = one.added || how.trains(one.role),
                      .row_bands = {one.fixed_rows},
                      .column_bands = {one.fixed_columns}};
      if (one.rows != Axis::fixed) spec.row_bands = bounds.of(one.rows);
      if (one.columns != Axis::fixed) spec.column_bands = bounds.of(one.columns);
      add(std::move(spec));
    }
  };
  add_all(declare_embedding(model), -1);
  for (int block = 0; block < space.max_depth(); ++block)
    add_all(declare_block(model, "block." + std::to_string(block), space.max_heads(block) > 0, space.max_ffn(block) > 0), block);
  std::vector<Declared> back;
  if (residual_form(model).final_norm()) declare_norm(back, "final.norm", model);
  if (!model.tied) back.push_back({"head", Role::embedding, Axis::fixed, Axis::embed, model.vocabulary});
  if (model.head_bias) back.push_back({"head.bias", Role::bias, Axis::fixed, Axis::fixed, 1, model.vocabulary});
  add_all(back, -1);
  if (model.decoder.present()) add_decoder();
  place(true);
  trained_elements_ = elements_;
  place(false);
}

// Last, so that the others lie where they do without it. Its sizes are fixed, but for what it reads of the encoder.
void WeightTable::add_decoder() {
  const SearchSpace decoder = decoder_space(space_.model());
  const std::int64_t width = decoder.max_embed();
  const auto take = [&](TensorSpec spec) {
    spec.name = std::string(kDecoderPrefix) + spec.name;
    spec.block = -1;
    spec.of_decoder = true;
    add(std::move(spec));
  };
  take({.name = "hidden", .row_axis = Axis::embed, .row_bands = bounds_of(space_, -1).embed, .column_bands = {width}});
  take({.name = "hidden.bias", .role = Role::bias, .row_bands = {1}, .column_bands = {width}});
  take({.name = "mask", .role = Role::embedding, .row_bands = {1}, .column_bands = {width}});
  const WeightTable own(decoder);
  for (TensorSpec spec : own.tensors()) {
    if (spec.name.starts_with("embedding.") && spec.name != "embedding.position") continue;  // the three above stand in their place
    spec.row_axis = spec.column_axis = Axis::fixed;
    spec.row_bands = {spec.rows}, spec.column_bands = {spec.columns};
    if (spec.role == Role::residual_out) spec.role = Role::matrix;
    take(std::move(spec));
  }
}

void WeightTable::add(TensorSpec spec) {
  spec.rows = spec.row_bands.back();
  spec.columns = spec.column_bands.back();
  spec.ld = padded_ld(spec.rows, spec.columns);
  by_name_.emplace(spec.name, tensors_.size());
  tensors_.push_back(std::move(spec));
}

void WeightTable::place(bool trained) {
  constexpr std::int64_t kPerLine = kAlignment / 4;
  for (TensorSpec& tensor : tensors_) {
    if (tensor.trained != trained) continue;
    tensor.offset = elements_;
    elements_ += (tensor.rows * tensor.ld + kPerLine - 1) / kPerLine * kPerLine;
    if (!trained) continue;
    tensor.first_band = band_count_;
    band_count_ += tensor.bands();
  }
}

WeightTable WeightTable::placed(const std::vector<std::int64_t>& offsets) const {
  if (trained_elements_ != elements_) throw std::logic_error("WeightTable::placed: what learns would not stand first");
  WeightTable other = *this;
  other.elements_ = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    TensorSpec& tensor = other.tensors_[i];
    tensor.ld = tensor.columns;
    tensor.offset = offsets.at(i);
    other.elements_ = std::max(other.elements_, tensor.offset + tensor.rows * tensor.columns);
  }
  other.trained_elements_ = other.elements_;
  return other;
}

bool WeightTable::lies_like(const WeightTable& other) const {
  return std::equal(tensors_.begin(), tensors_.end(), other.tensors_.begin(), other.tensors_.end(),
                    [](const TensorSpec& a, const TensorSpec& b) { return a.offset == b.offset && a.ld == b.ld; });
}

const TensorSpec& WeightTable::at(std::string_view name) const {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) throw std::logic_error("no tensor " + std::string(name) + " in the weight table");
  return tensors_[found->second];
}

Extent WeightTable::extent(const TensorSpec& tensor, const Subnet& subnet) const {
  BlockGenes genes;
  if (tensor.block >= 0) {
    int place = subnet.kept.empty() ? tensor.block : -1;
    for (std::size_t i = 0; i < subnet.kept.size(); ++i)
      if (subnet.kept[i] == tensor.block) place = static_cast<int>(i);
    if (place < 0 || place >= subnet.depth()) return {};
    genes = subnet.blocks[static_cast<std::size_t>(place)];
    const auto is_of = [&](const char* branch) { return tensor.name.find(branch) != std::string::npos; };
    if ((genes.heads == 0 && is_of(".attention.")) || (genes.ffn == 0 && is_of(".ffn."))) return {};
  }
  const int head_dim = space_.model().head_dim;
  const auto along = [&](Axis axis, std::int64_t whole) -> std::int64_t {
    switch (axis) {
      case Axis::embed: return subnet.embed;
      case Axis::query: return static_cast<std::int64_t>(genes.heads) * head_dim;
      case Axis::key_value: return static_cast<std::int64_t>(genes.groups) * head_dim;
      case Axis::ffn: return genes.ffn;
      case Axis::rank: return subnet.rank > 0 ? subnet.rank : whole;
      default: return whole;
    }
  };
  return {along(tensor.row_axis, tensor.rows), along(tensor.column_axis, tensor.columns)};
}

Weights::Weights(std::shared_ptr<const WeightTable> table, DType dtype, MemorySpace& memory, Held held)
    : table_(std::move(table)), dtype_(dtype), held_(held), memory_(&memory) {
  const std::int64_t size = (bytes() + kAlignment - 1) / kAlignment * kAlignment;
  data_ = allocate_block(size, memory);
  if (size > 0) memory.zero(data_.get(), size);
}

Weights::Weights(std::shared_ptr<const WeightTable> table, MemoryBlock data)
    : table_(std::move(table)), dtype_(DType::float32), held_(Held::all), memory_(&host_memory()), data_(std::move(data)) {}

void Weights::assign(const Weights& other) {
  if (other.bytes() != bytes() || other.dtype_ != dtype_ || !table_->lies_like(*other.table_))
    throw std::logic_error("Weights::assign: other weights than these");
  (on_host() ? *other.memory_ : *memory_).copy(data_.get(), other.data_.get(), bytes());
}

Weights copied(const Weights& weights, MemorySpace& memory) {
  auto usual = std::make_shared<const WeightTable>(weights.table().space());
  if (usual->lies_like(weights.table())) {
    Weights copy(std::move(usual), weights.dtype(), memory, weights.held());
    copy.assign(weights);
    return copy;
  }
  Weights on_host(std::move(usual), weights.dtype());  // of a mapped file
  for (const TensorSpec& tensor : on_host.table().tensors()) copy_rows(on_host.view(tensor), weights.view(tensor.name));
  return &memory == &host_memory() ? std::move(on_host) : copied(on_host, memory);
}

PlacedWeights::PlacedWeights(const Weights& weights, MemorySpace& memory) : weights_(weights) {
  if (&weights.memory() != &memory) copy_.emplace(copied(weights, memory));
}

View Weights::view(const TensorSpec& tensor) {
  if (!holds(tensor)) return {};
  assert(table_->at(tensor.name).offset == tensor.offset);  // a tensor of this table
  return {data_.get() + tensor.offset * bytes_of(dtype_), tensor.rows, tensor.columns, tensor.ld, dtype_};
}

ConstView Weights::view(const TensorSpec& tensor) const {
  if (!holds(tensor)) return {};
  assert(table_->at(tensor.name).offset == tensor.offset);  // a tensor of this table
  return {data_.get() + tensor.offset * bytes_of(dtype_), tensor.rows, tensor.columns, tensor.ld, dtype_};
}

std::string weights_hash(const Weights& stored) {
  const PlacedWeights on_host(stored);
  const Weights& weights = *on_host;
  Sha256 hash;
  hash.add(weights.table().space().text());
  for (const TensorSpec& tensor : weights.table().tensors()) {
    const ConstView view = weights.view(tensor);
    const std::size_t row_bytes = static_cast<std::size_t>(view.columns * bytes_of(view.dtype));
    for (std::int64_t row = 0; row < view.rows; ++row) hash.add(view.row_range(row, 1).data, row_bytes);
  }
  return hash.hex();
}

Weights extract(const Weights& stored, const Subnet& subnet) {
  const PlacedWeights on_host(stored);
  const Weights& weights = *on_host;
  const WeightTable& from = weights.table();
  const auto table = std::make_shared<const WeightTable>(SearchSpace::of(from.space().model(), subnet));
  Weights dense(table, weights.dtype());
  for (const TensorSpec& to : table->tensors()) {
    std::string name = to.name;
    if (to.block >= 0) {
      const std::string old_prefix = "block." + std::to_string(to.block);
      name = "block." + std::to_string(subnet.block_index(to.block)) + name.substr(old_prefix.size());
    }
    const TensorSpec& source = from.at(name);
    const ConstView x = weights.slice(source, from.extent(source, subnet));
    const View y = dense.view(to);
    if (x.rows != y.rows || x.columns != y.columns)
      throw std::logic_error("extract: " + name + " has another extent than the dense network");
    copy_rows(y, x);
  }
  return dense;
}

}  // namespace elastiform
