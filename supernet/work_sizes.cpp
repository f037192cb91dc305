#include "supernet/work_sizes.hpp"

#include <algorithm>

#include "supernet/layers/head.hpp"

namespace elastiform {

WorkSizes work_sizes(const WeightTable& table, const BackendTraits& traits, std::int64_t tokens, bool trains) {
  const SearchSpace& space = table.space();
  WorkSizes sizes{.weight_bytes = table.elements() * bytes_of(DType::float32),
                  .tokens = tokens,
                  .logit_rows = Head::chunk_rows(space.model(), tokens, traits),
                  .logits = space.model().vocabulary,
                  .bands = trains ? table.band_count() : 0};
  for (int block = 0; block < space.max_depth(); ++block) sizes.heads = std::max<std::int64_t>(sizes.heads, space.max_heads(block));
  sizes.heads = std::max<std::int64_t>(sizes.heads, space.model().decoder.heads);
  for (const TensorSpec& tensor : table.tensors())
    sizes.widest = std::max({sizes.widest, tensor.columns, tensor.role == Role::embedding ? 0 : tensor.rows});
  return sizes;
}

}  // namespace elastiform
