#include "supernet/formats/sample.hpp"

#include <algorithm>

#include "kernels/cpu/cpu_backend.hpp"
#include "supernet/classification.hpp"
#include "supernet/network.hpp"

namespace elastiform {

Sample Sample::first(std::int64_t count) const {
  count = std::min(count, size());
  if (images.sequences == 0) return std::span(tokens).first(static_cast<std::size_t>(count));
  Sample part = *this;
  const auto cut = [&](auto& list) {
    list.resize(list.size() / static_cast<std::size_t>(images.sequences) * static_cast<std::size_t>(count));
  };
  part.images.sequences = count;
  cut(part.images.inputs), cut(part.images.targets), cut(part.images.images.patches), cut(part.images.images.head_rows);
  return part;
}

std::vector<float> sequence_logits(const Weights& weights, const Subnet& subnet, std::span<const std::int32_t> tokens, int threads) {
  const SearchSpace& space = weights.table().space();
  const ThreadPool pool(threads);
  CpuBackend backend(pool);
  const Network network(space, DType::float32);
  const auto count = static_cast<std::int64_t>(tokens.size()), vocabulary = static_cast<std::int64_t>(space.model().vocabulary);
  Arena arena(network.plan_cache(subnet, count) + network.plan_decode(backend.traits(), subnet, count, count) +
              Arena::bytes_for(count, vocabulary, DType::float32));
  KeyValueCache cache = network.make_cache(subnet, count, arena);
  const View logits = arena.matrix(count, vocabulary, DType::float32);
  network.decode(backend, weights, subnet, tokens, cache, logits, arena);
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(count * vocabulary));
  for (std::int64_t row = 0; row < count; ++row) values.insert(values.end(), logits.row<float>(row), logits.row<float>(row) + vocabulary);
  return values;
}

std::vector<float> sample_logits(const Weights& weights, const Subnet& subnet, const Sample& sample, int threads) {
  if (sample.images.sequences == 0) return sequence_logits(weights, subnet, sample.tokens, threads);
  const ThreadPool pool(threads);
  CpuBackend backend(pool);
  return image_logits(backend, Network(weights.table().space(), DType::float32), weights, subnet, sample.images);
}

}  // namespace elastiform
