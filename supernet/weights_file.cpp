#include "supernet/weights_file.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

std::string text_of(const std::vector<std::uint64_t>& shape) {
  std::string text;
  for (const std::uint64_t size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text;
}

bool is_written(const TensorSpec& tensor, Held written) { return written == Held::all || tensor.trained; }

}  // namespace

void write_weights(Hdf5Writer& file, const std::string& group, const Weights& stored, Held written) {
  const PlacedWeights on_host(stored);
  const Weights& weights = *on_host;
  for (const TensorSpec& tensor : weights.table().tensors())
    if (is_written(tensor, written)) file.matrix(group + "/" + tensor.name, weights.view(tensor));
}

void check_weights(const Hdf5Reader& file, const std::string& group, const WeightTable& table, Held written) {
  const std::string where = file.path() + ": " + group;
  if (!file.has(group)) throw InputError({where, "a group of weights", "none", ""});
  std::size_t expected = 0;
  for (const TensorSpec& tensor : table.tensors()) expected += is_written(tensor, written) ? 1 : 0;
  const std::size_t found = file.children(group).size();
  if (found != expected) throw InputError({where, std::to_string(expected) + " tensors", std::to_string(found), ""});
  std::uint64_t left = file.file_bytes() / sizeof(float);
  for (const TensorSpec& tensor : table.tensors()) {
    if (!is_written(tensor, written)) continue;
    const std::string name = group + "/" + tensor.name;
    const std::vector<std::uint64_t> shape{static_cast<std::uint64_t>(tensor.rows), static_cast<std::uint64_t>(tensor.columns)};
    if (!file.has(name)) throw InputError({file.path() + ": " + name, "a dataset of " + text_of(shape), "none", ""});
    const std::vector<std::uint64_t> stored = file.shape(name);
    if (stored != shape) throw InputError({file.path() + ": " + name, text_of(shape), text_of(stored), ""});
    // Chunks that were never written, and several datasets, may claim more together than the file holds.
    if (shape[1] != 0 && shape[0] > left / shape[1])
      throw InputError({file.path() + ": " + name, "a size that fits the file", text_of(shape), ""});
    left -= shape[0] * shape[1];
  }
}

std::optional<Weights> map_weights(const Hdf5Reader& file, const std::string& group, const WeightTable& table) {
  constexpr std::int64_t kAlignment = 64, kFloat = sizeof(float);
  if (table.trained_elements() != table.elements()) return {};
  std::vector<std::int64_t> places;
  std::int64_t from = INT64_MAX, to = 0;
  for (const TensorSpec& tensor : table.tensors()) {
    const std::optional<std::int64_t> place = file.matrix_place(group + "/" + tensor.name);
    if (!place || *place % kAlignment != 0 || (tensor.rows > 1 && tensor.columns * kFloat % kAlignment != 0)) return {};
    places.push_back(*place);
    from = std::min(from, *place);
    to = std::max(to, *place + tensor.rows * tensor.columns * kFloat);
  }
  for (std::int64_t& place : places) place = (place - from) / kFloat;
  MemoryBlock mapped = file.map(from, to);
  if (!mapped) return {};
  return Weights(std::make_shared<const WeightTable>(table.placed(places)), std::move(mapped));
}

void read_weights(const Hdf5Reader& file, const std::string& group, Weights& weights, Held written) {
  check_weights(file, group, weights.table(), written);
  if (!weights.on_host()) {
    Weights on_host(weights.shared_table(), weights.dtype(), host_memory(), weights.held());
    on_host.assign(weights);  // what is not written stays
    read_weights(file, group, on_host, written);
    return weights.assign(on_host);
  }
  for (const TensorSpec& tensor : weights.table().tensors())
    if (is_written(tensor, written)) file.matrix(group + "/" + tensor.name, weights.view(tensor));
}

}  // namespace elastiform
