#include "supernet/skip_profile.hpp"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "supernet/network_parts.hpp"

namespace elastiform {
namespace {

/// Of all elements; `f` is where they stand.
double variance_of(Backend& backend, ConstView f) {
  double sum = 0;
  for (std::int64_t row = 0; row < f.rows; ++row) sum += backend.sum(f.row_range(row, 1));
  const double count = static_cast<double>(f.size()), mean = sum / count;
  return backend.sum_squares(f) / count - mean * mean;
}

}  // namespace

std::int64_t Network::plan_branch_variances(const BackendTraits& traits, const Subnet& subnet, std::int64_t batch,
                                            std::int64_t tokens) const {
  const Parts& p = *parts_;
  const ModelConfig& model = p.space.model();
  const auto bytes_of = [&](const LayerTensors& tensors) { return tensors.saved_bytes({}, traits) + tensors.forward_bytes({}, traits); };
  std::int64_t most = plan_embed(traits, subnet.embed, batch);
  for (const BlockGenes& genes : subnet.blocks) {
    const BlockShape shape = p.shape(batch, model.stream_tokens(tokens), subnet.embed, genes, subnet.depth());
    if (genes.heads > 0) most = std::max(most, bytes_of(Attention::tensors(model, shape, traits)));
    if (genes.ffn > 0) most = std::max(most, bytes_of(FeedForward::tensors(model, shape, traits)));
  }
  return 3 * TensorShape{batch * model.stream_tokens(tokens), subnet.embed}.bytes(p.dtype) + most;
}

std::vector<double> Network::branch_variances(Backend& backend, const Weights& values, const Subnet& subnet, const Batch& batch,
                                              Arena& arena) const {
  const Parts& p = *parts_;
  const ModelConfig& model = p.space.model();
  const BackendTraits traits = backend.traits();
  const ArenaScope whole(arena);
  View x = arena.matrix(p.stream_rows(batch), subnet.embed, p.dtype), y = arena.matrix(p.stream_rows(batch), subnet.embed, p.dtype);
  const View f = arena.matrix(p.stream_rows(batch), subnet.embed, p.dtype);
  std::vector<double> variances;
  // What the branch keeps is its sum with the skip: f = z - ω ∘ x.
  const auto measure = [&](ConstView z, ConstView skip) {
    backend.panels(f.rows,
                   [&](Rows r) { backend.affine_forward({.y = f[r], .x = x[r], .gain = skip, .shift = {}, .add = z[r], .scale = -1}); });
    variances.push_back(variance_of(backend, f));
    std::swap(x, y);
  };
  p.embed(backend, values, subnet.embed, batch, x, arena);
  for (int i = 0; i < subnet.depth(); ++i) {
    const BlockGenes& genes = subnet.blocks[static_cast<std::size_t>(i)];
    const BlockShape shape = p.shape(batch.sequences, model.stream_tokens(batch.tokens), subnet.embed, genes, subnet.depth());
    if (genes.heads > 0) {
      const ArenaScope scope(arena);
      const Saved saved(arena, Attention::tensors(model, shape, traits), {}, traits);
      const AttentionSlices w = p.effective(backend, p.attention_slices(values, subnet.block_index(i), subnet.embed, genes), arena);
      p.attention.forward(backend, w, shape, saved, y, x, arena);
      measure(saved.read(Attention::kBranch), w.residual.skip);
    }
    if (genes.ffn > 0) {
      const ArenaScope scope(arena);
      const Saved saved(arena, FeedForward::tensors(model, shape, traits), {}, traits);
      const FeedForwardSlices w = p.effective(backend, p.feed_forward_slices(values, subnet.block_index(i), subnet.embed, genes), arena);
      p.feed_forward.forward(backend, w, shape, saved, y, x, arena);
      measure(saved.read(FeedForward::kBranch), w.residual.skip);
    }
  }
  return variances;
}

void profile_skip_gains(const Network& network, Backend& backend, Weights& weights, const Batch& batch, Arena& arena) {
  const std::vector<double> variances = network.branch_variances(backend, weights, network.space().largest(), batch, arena);
  Weights on_host(weights.shared_table(), weights.dtype());
  on_host.assign(weights);
  double sum = 1;
  std::size_t branch = 0;
  for (const TensorSpec& tensor : on_host.table().tensors()) {  // in the order of the branches, one tensor each
    if (!tensor.name.ends_with(".residual.skip")) continue;
    dispatch(on_host.dtype(), [&]<class T>() {
      for (std::int64_t c = 0; c < tensor.columns; ++c) on_host.view(tensor).row<T>(0)[c] = static_cast<T>(std::sqrt(sum));
    });
    sum += variances[branch++];
  }
  weights.assign(on_host);
}

}  // namespace elastiform
