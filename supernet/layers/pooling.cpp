#include "supernet/layers/pooling.hpp"

namespace elastiform {

// A sum over the rows of an image is what a lookup's gradient is, and copying a row to all of them is a lookup.
void Pooling::forward(Backend& backend, View y, ConstView x, const Batch& batch) const {
  if (!takes_mean()) return backend.embedding_forward({.y = y, .table = x, .positions = {}, .tokens = batch.images.head_rows});
  backend.zero(y);
  backend.embedding_backward({.dtable = y, .dpositions = {}, .dy = x, .tokens = batch.images.head_rows});
  backend.scale(y, 1.0 / static_cast<double>(batch.tokens));
}

void Pooling::backward(Backend& backend, View d, View dy, const Batch& batch) const {
  if (takes_mean()) {
    backend.scale(dy, 1.0 / static_cast<double>(batch.tokens));
    return backend.embedding_forward({.y = d, .table = dy, .positions = {}, .tokens = batch.images.head_rows});
  }
  backend.zero(d);
  backend.scatter_rows({.y = d, .x = dy, .rows = batch.images.head_rows});
}

}  // namespace elastiform
