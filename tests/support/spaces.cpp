#include "tests/support/spaces.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/random.hpp"
#include "supernet/data/image_data.hpp"
#include "trainers/samplers/sampler.hpp"

namespace elastiform {

SearchSpace tiny_space(std::string_view preset) {
  ModelConfig model = preset_model(preset);
  model.vocabulary = 19;
  model.context = 24;
  if (preset == "vit") {
    model.image = {.height = 6, .width = 8, .channels = 3, .patch = 2};
    model.context = model.tokens_of_image();
  }
  model.head_dim = 4;
  model.branch_scale = 0.5;
  const bool llama = preset == "llama";
  if (llama) model.queries_per_group = 2;
  const std::vector<int> heads = llama ? std::vector<int>{2, 4, 6} : std::vector<int>{1, 2, 3};
  const SearchSpace::Block block{heads, {.widths = {}, .ratios = {1, 2, 3}}};
  return SearchSpace(model, {8, 16, 24}, {1, 2, 3}, {block, block, block});
}

SearchSpace wide_space(std::string_view preset, std::vector<int> embed) {
  ModelConfig model = preset_model(preset);
  model.vocabulary = 61;
  model.context = 24;
  model.head_dim = 32;
  const SearchSpace::Block block{{4, 8}, {.widths = {}, .ratios = {2, 4}}};
  return SearchSpace(model, std::move(embed), {1, 2}, {block, block});
}

Subnet random_subnet(const SearchSpace& space, std::uint64_t number) { return draw_balanced(space, 77, number, 0); }

Weights random_weights(const SearchSpace& space, DType dtype, std::uint64_t seed) {
  Weights weights(std::make_shared<const WeightTable>(space), dtype);
  for (const TensorSpec& tensor : weights.table().tensors()) {
    RandomStream random(seed, Purpose::test, static_cast<std::uint64_t>(&tensor - weights.table().tensors().data()));
    const double mean = tensor.role == Role::gain ? 1 : 0;
    const View view = weights.view(tensor);
    dispatch(dtype, [&]<class T>() {
      for (std::int64_t row = 0; row < view.rows; ++row)
        for (std::int64_t column = 0; column < view.columns; ++column)
          view.row<T>(row)[column] = static_cast<T>(static_cast<float>(mean + 0.2 * random.normal()));
    });
  }
  return weights;
}

namespace {

/// Normal values, random classes.
Batch random_images(const ModelConfig& model, std::int64_t images, RandomStream& random) {
  ImageSet set{.count = images, .bytes = {}, .floats = {}, .labels = {}};
  for (std::int64_t i = 0; i < images * model.image.values(); ++i) set.floats.push_back(static_cast<float>(random.normal()));
  for (std::int64_t i = 0; i < images; ++i)
    set.labels.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(model.vocabulary))));
  ImageOptions as_they_are;
  set.white = 1;
  as_they_are.mean = {0}, as_they_are.deviation = {1};
  return batch_of(set, as_they_are, model);
}

}  // namespace

Batch random_batch(const SearchSpace& space, std::int64_t sequences, std::int64_t tokens, std::uint64_t seed) {
  RandomStream random(seed, Purpose::test, 1u << 20);
  if (space.model().classifies()) return random_images(space.model(), sequences, random);
  Batch batch{.sequences = sequences, .tokens = tokens, .inputs = {}, .targets = {}};
  const std::uint64_t vocabulary = static_cast<std::uint64_t>(space.model().vocabulary);
  for (std::int64_t b = 0; b < sequences; ++b) {
    std::int32_t token = static_cast<std::int32_t>(random.below(vocabulary));
    for (std::int64_t t = 0; t < tokens; ++t) {
      batch.inputs.push_back(token);
      token = static_cast<std::int32_t>(random.below(vocabulary));
      batch.targets.push_back(token);
    }
  }
  return batch;
}

namespace {

template <class Same>
bool same_tensors(const Weights& a, const Weights& b, Same same) {
  const auto& tensors = a.table().tensors();
  return tensors.size() == b.table().tensors().size() && std::all_of(tensors.begin(), tensors.end(), [&](const TensorSpec& tensor) {
           return b.table().has(tensor.name) && same(a.view(tensor), b.view(tensor.name));
         });
}

}  // namespace

bool same_bits(ConstView a, ConstView b) {
  if (a.rows != b.rows || a.columns != b.columns || a.dtype != b.dtype) return false;
  for (std::int64_t row = 0; row < a.rows; ++row)
    if (std::memcmp(a.row_range(row, 1).data, b.row_range(row, 1).data, static_cast<std::size_t>(a.columns * bytes_of(a.dtype))) != 0)
      return false;
  return true;
}

bool same_bits(const Weights& a, const Weights& b) {
  return same_tensors(a, b, [](ConstView x, ConstView y) { return same_bits(x, y); });
}

bool same_values(const Weights& a, const Weights& b) {
  return same_tensors(a, b, [](ConstView x, ConstView y) {
    if (x.rows != y.rows || x.columns != y.columns) return false;
    for (std::int64_t row = 0; row < x.rows; ++row)
      if (!std::equal(x.row<float>(row), x.row<float>(row) + x.columns, y.row<float>(row))) return false;
    return true;
  });
}

void fill_outside(Weights& weights, const Subnet& subnet, double value) {
  for (const TensorSpec& tensor : weights.table().tensors()) {
    const Extent extent = weights.table().extent(tensor, subnet);
    const View view = weights.view(tensor);
    dispatch(weights.dtype(), [&]<class T>() {
      for (std::int64_t row = 0; row < view.rows; ++row)
        for (std::int64_t column = 0; column < view.ld; ++column)  // the padding too
          if ((row >= extent.rows || column >= extent.columns) && (view.rows > 1 || column < view.columns))
            view.row<T>(row)[column] = static_cast<T>(value);
    });
  }
}

}  // namespace elastiform
