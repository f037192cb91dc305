#include "supernet/importance.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>

#include "supernet/nearest_name.hpp"

namespace elastiform {
namespace {

using Order = std::vector<std::int64_t>;  // order[i]: what shall stand at place i

/// Places by falling importance; of equals the earlier first.
Order order_of(const std::vector<double>& importance) {
  Order order(importance.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    return importance[static_cast<std::size_t>(a)] > importance[static_cast<std::size_t>(b)];
  });
  return order;
}

/// The gain that stands before a matrix whose rows are embed channels: of "block.N.attention.query" that of "block.N.attention.norm".
ConstView gain_before(const Weights& weights, const TensorSpec& matrix) {
  return weights.view(matrix.name.substr(0, matrix.name.rfind('.')) + ".norm.gain");
}

/// Adds to sums[c / unit] the magnitudes of column c; `gain` multiplies row by row.
void add_columns(std::vector<double>& sums, ConstView x, std::int64_t unit, const ConstView* gain = nullptr) {
  for (std::int64_t row = 0; row < x.rows; ++row) {
    const double factor = gain != nullptr ? std::abs(static_cast<double>(gain->row<float>(0)[row])) : 1;
    const float* values = x.row<float>(row);
    for (std::int64_t column = 0; column < x.columns; ++column)
      sums[static_cast<std::size_t>(column / unit)] += factor * std::abs(static_cast<double>(values[column]));
  }
}

void add_rows(std::vector<double>& sums, ConstView x, std::int64_t unit, const ConstView* gain = nullptr) {
  for (std::int64_t row = 0; row < x.rows; ++row) {
    const double factor = gain != nullptr ? std::abs(static_cast<double>(gain->row<float>(0)[row])) : 1;
    double sum = 0;
    for (std::int64_t column = 0; column < x.columns; ++column) sum += std::abs(static_cast<double>(x.row<float>(row)[column]));
    sums[static_cast<std::size_t>(row / unit)] += factor * sum;
  }
}

void reorder_columns(View x, const Order& order, std::int64_t unit) {
  std::vector<float> line(static_cast<std::size_t>(x.columns));
  for (std::int64_t row = 0; row < x.rows; ++row) {
    float* values = x.row<float>(row);
    for (std::size_t i = 0; i < order.size(); ++i)
      std::copy_n(values + order[i] * unit, unit, line.begin() + static_cast<std::int64_t>(i) * unit);
    std::copy(line.begin(), line.end(), values);
  }
}

void reorder_rows(View x, const Order& order, std::int64_t unit) {
  std::vector<float> copy;
  copy.reserve(static_cast<std::size_t>(x.rows * x.columns));
  for (const std::int64_t from : order)
    for (std::int64_t row = from * unit; row < (from + 1) * unit; ++row)
      copy.insert(copy.end(), x.row<float>(row), x.row<float>(row) + x.columns);
  for (std::int64_t row = 0; row < x.rows; ++row) std::copy_n(copy.begin() + row * x.columns, x.columns, x.row<float>(row));
}

/// Columns of one group, or rows of `out`, in every tensor of a block whose axis follows `axis`.
void reorder_axis(Weights& weights, int block, Axis axis, const Order& order, std::int64_t unit) {
  for (const TensorSpec& tensor : weights.table().tensors()) {
    if (block >= 0 && tensor.block != block) continue;
    if (tensor.column_axis == axis) reorder_columns(weights.view(tensor), order, unit);
    if (tensor.row_axis == axis) reorder_rows(weights.view(tensor), order, unit);
  }
}

std::string branch(int block, const char* name) { return "block." + std::to_string(block) + "." + name; }

/// Of every `unit` rows of a matrix the mean square of what they add to its output: given[j] · |row j|², summed. An empty `given` is 1.
std::vector<double> row_effects(ConstView w, const std::vector<double>& given, std::int64_t unit) {
  std::vector<double> effects(static_cast<std::size_t>(w.rows / unit));
  for (std::int64_t row = 0; row < w.rows; ++row) {
    double square = 0;
    for (std::int64_t c = 0; c < w.columns; ++c)
      square += static_cast<double>(w.row<float>(row)[c]) * static_cast<double>(w.row<float>(row)[c]);
    effects[static_cast<std::size_t>(row / unit)] += (given.empty() ? 1 : given[static_cast<std::size_t>(row)]) * square;
  }
  return effects;
}

/// Of every column the mean square of what a matrix puts there: the sum over rows of given[j] · w[j, c]².
std::vector<double> column_effects(ConstView w, const std::vector<double>& given) {
  std::vector<double> effects(static_cast<std::size_t>(w.columns));
  for (std::int64_t row = 0; row < w.rows; ++row) {
    const double factor = given.empty() ? 1 : given[static_cast<std::size_t>(row)];
    for (std::size_t c = 0; c < effects.size(); ++c)
      effects[c] += factor * static_cast<double>(w.row<float>(row)[c]) * static_cast<double>(w.row<float>(row)[c]);
  }
  return effects;
}

/// What the rows of a matrix are multiplied by: of those of a block what was observed there, empty for a lookup.
const std::vector<double>& input_of(const ActivationStatistics& statistics, const TensorSpec& tensor) {
  static const std::vector<double> kNone;
  if (tensor.block < 0) return kNone;
  const ActivationStatistics::Block& block = statistics.blocks[static_cast<std::size_t>(tensor.block)];
  switch (tensor.row_axis) {
    case Axis::embed: return tensor.name.find(".attention.") != std::string::npos ? block.attention_normed : block.feed_forward_normed;
    case Axis::query: return block.mixed;
    case Axis::ffn: return block.activated;
    default: return kNone;
  }
}

}  // namespace

std::vector<double> embed_importance(const Weights& weights) {
  std::vector<double> total(static_cast<std::size_t>(weights.table().space().max_embed()));
  for (const TensorSpec& tensor : weights.table().tensors()) {
    if (tensor.role == Role::gain || tensor.role == Role::bias) continue;
    std::vector<double> sums(total.size());
    const ConstView x = weights.view(tensor);
    if (tensor.row_axis == Axis::embed) {
      const ConstView gain = gain_before(weights, tensor);
      add_rows(sums, x, 1, &gain);
    } else if (tensor.column_axis == Axis::embed) {
      add_columns(sums, x, 1);
    }
    const double whole = std::accumulate(sums.begin(), sums.end(), 0.0);
    for (std::size_t c = 0; whole > 0 && c < total.size(); ++c) total[c] += sums[c] / whole;
  }
  return total;
}

std::vector<double> group_importance(const Weights& weights, int block) {
  const std::int64_t head_dim = weights.table().space().model().head_dim, queries = weights.table().space().model().queries_per_group;
  const ConstView key = weights.view(branch(block, "attention.key")), gain = weights.view(branch(block, "attention.norm.gain"));
  std::vector<double> sums(static_cast<std::size_t>(key.columns / head_dim));
  add_columns(sums, weights.view(branch(block, "attention.query")), queries * head_dim, &gain);
  add_columns(sums, key, head_dim, &gain);
  add_columns(sums, weights.view(branch(block, "attention.value")), head_dim, &gain);
  add_rows(sums, weights.view(branch(block, "attention.out")), queries * head_dim);
  return sums;
}

std::vector<double> ffn_importance(const Weights& weights, int block) {
  const ConstView down = weights.view(branch(block, "ffn.down")), gain = weights.view(branch(block, "ffn.norm.gain"));
  std::vector<double> sums(static_cast<std::size_t>(down.rows));
  for (const char* name : {"ffn.gate", "ffn.up"})
    if (weights.table().has(branch(block, name))) add_columns(sums, weights.view(branch(block, name)), 1, &gain);
  add_rows(sums, down, 1);
  return sums;
}

void sort_by_importance(Weights& weights) {
  if (!weights.on_host() || weights.dtype() != DType::float32) throw std::logic_error("importance: float32 weights on the host");
  const SearchSpace& space = weights.table().space();
  const std::int64_t head_dim = space.model().head_dim, queries = space.model().queries_per_group;
  for (int block = 0; block < space.max_depth(); ++block) {
    if (space.max_heads(block) > 0) {
      const Order order = order_of(group_importance(weights, block));
      reorder_axis(weights, block, Axis::query, order, queries * head_dim);
      reorder_axis(weights, block, Axis::key_value, order, head_dim);
    }
    if (space.max_ffn(block) > 0) reorder_axis(weights, block, Axis::ffn, order_of(ffn_importance(weights, block)), 1);
  }
  reorder_axis(weights, -1, Axis::embed, order_of(embed_importance(weights)), 1);
}

std::vector<double> group_importance(const Weights& weights, const ActivationStatistics& statistics, int block) {
  const std::int64_t head_dim = weights.table().space().model().head_dim, queries = weights.table().space().model().queries_per_group;
  return row_effects(weights.view(branch(block, "attention.out")), statistics.blocks[static_cast<std::size_t>(block)].mixed,
                     queries * head_dim);
}

std::vector<double> ffn_importance(const Weights& weights, const ActivationStatistics& statistics, int block) {
  return row_effects(weights.view(branch(block, "ffn.down")), statistics.blocks[static_cast<std::size_t>(block)].activated, 1);
}

std::vector<double> embed_importance(const Weights& weights, const ActivationStatistics& statistics) {
  const auto embed = static_cast<std::size_t>(weights.table().space().max_embed());
  std::vector<double> total(embed);
  const auto add_share = [&](const std::vector<double>& squares) {
    double whole = 0;
    for (const double square : squares) whole += std::sqrt(square);
    for (std::size_t c = 0; whole > 0 && c < embed; ++c) total[c] += std::sqrt(squares[c]) / whole;
  };
  for (const TensorSpec& tensor : weights.table().tensors()) {
    if (tensor.role == Role::gain || tensor.role == Role::bias || tensor.name == "head") continue;  // the head is below
    const std::vector<double>& given = input_of(statistics, tensor);
    if (tensor.row_axis == Axis::embed) add_share(row_effects(weights.view(tensor), given, 1));
    else if (tensor.column_axis == Axis::embed) add_share(column_effects(weights.view(tensor), given));
  }
  const char* const table = weights.table().space().model().tied ? "embedding.token" : "head";
  if (weights.table().has(table)) {  // read by the head: [vocabulary, C]
    std::vector<double> squares = column_effects(weights.view(table), {});
    for (std::size_t c = 0; c < embed; ++c) squares[c] *= statistics.hidden[c];
    add_share(squares);
  }
  return total;
}

void sort_by_importance(Weights& weights, const ActivationStatistics& statistics) {
  if (!weights.on_host() || weights.dtype() != DType::float32) throw std::logic_error("importance: float32 weights on the host");
  const SearchSpace& space = weights.table().space();
  const std::int64_t head_dim = space.model().head_dim, queries = space.model().queries_per_group;
  const Order embed = order_of(embed_importance(weights, statistics));  // statistics are in the order of now
  for (int block = 0; block < space.max_depth(); ++block) {
    if (space.max_heads(block) > 0) {
      const Order order = order_of(group_importance(weights, statistics, block));
      reorder_axis(weights, block, Axis::query, order, queries * head_dim);
      reorder_axis(weights, block, Axis::key_value, order, head_dim);
    }
    if (space.max_ffn(block) > 0) reorder_axis(weights, block, Axis::ffn, order_of(ffn_importance(weights, statistics, block)), 1);
  }
  reorder_axis(weights, -1, Axis::embed, embed, 1);
}

namespace {

constexpr std::array<ImportanceEntry, 2> kImportances{{
    {"magnitude", "the sum of the magnitudes of all weights that it touches (arXiv 1506.02626)", false,
     [](Weights& weights, const ActivationStatistics&) { sort_by_importance(weights); }},
    {"activations", "what it adds to the outputs of products on calibration text (arXiv 2306.11695)", true,
     [](Weights& weights, const ActivationStatistics& statistics) { sort_by_importance(weights, statistics); }},
}};

}  // namespace

std::span<const ImportanceEntry> importances() { return kImportances; }

const ImportanceEntry& find_importance(std::string_view name, const char* where) {
  std::vector<std::string_view> names;
  for (const ImportanceEntry& entry : kImportances) {
    if (entry.name == name) return entry;
    names.push_back(entry.name);
  }
  throw unknown_name(where, name, names);
}

}  // namespace elastiform
