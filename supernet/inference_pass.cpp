#include "supernet/inference_pass.hpp"

#include <algorithm>
#include <stdexcept>

#include "supernet/arena_bytes.hpp"
#include "supernet/data/image_data.hpp"

namespace elastiform {
namespace {

/// Grey levels of all kinds; which they are changes no time.
Batch some_images(const ModelConfig& model, std::int64_t count) {
  ImageSet set;
  set.count = count;
  set.labels.assign(static_cast<std::size_t>(count), 0);
  for (std::int64_t i = 0; i < count * model.image.values(); ++i) set.bytes.push_back(static_cast<std::uint8_t>(i * 37 % 256));
  return batch_of(set, ImageOptions{}, model);
}

}  // namespace

InferencePass::InferencePass(Backend& backend, const Weights& weights, const Deploy& deploy)
    : backend_(backend), weights_(weights), deploy_(deploy), subnet_(weights.table().space().largest()),
      network_(weights.table().space(), DType::float32, backend.memory()),
      arena_(inference_arena_bytes(network_.space().model(), backend.traits(), subnet_, deploy.batch, deploy.context), backend.memory()) {
  const ModelConfig& model = network_.space().model();
  if (deploy.batch < 1 || deploy.context < 1 || (!model.classifies() && deploy.context > model.context))
    throw std::logic_error("InferencePass: a context that the model does not have");
  if (model.classifies()) {
    images_ = some_images(model, deploy.batch);
    return;
  }
  for (std::int64_t i = 0; i < deploy.context; ++i) tokens_.push_back(static_cast<std::int32_t>(i * 7 % model.vocabulary));
  fill_caches();
}

// Numbers in [-1, 1): memory that nobody wrote may hold NaNs or denormals, which some processors multiply more slowly.
void InferencePass::fill_caches() {
  for (int text = 0; text < deploy_.batch; ++text) {
    KeyValueCache& cache = caches_.emplace_back(network_.make_cache(subnet_, deploy_.context, arena_));
    for (const auto* side : {&cache.keys, &cache.values})
      for (const View& view : *side) {
        std::vector<float> values(static_cast<std::size_t>(view.rows * view.columns));
        for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i * 131 % 256) / 128.0f - 1;
        if (!values.empty()) backend_.copy(view, view_of(static_cast<const float*>(values.data()), view.rows, view.columns, view.columns));
      }
  }
  backend_.wait();
}

void InferencePass::run(PartDone done) {
  const ArenaScope scope(arena_);
  const std::int64_t vocabulary = network_.space().model().vocabulary;
  if (network_.space().model().classifies()) {
    network_.classify(backend_, weights_, subnet_, images_, arena_.matrix(deploy_.batch, vocabulary, network_.dtype()), arena_, done);
    return;
  }
  const View logits = arena_.matrix(1, vocabulary, network_.dtype());
  const std::int64_t first = deploy_.phase == "decode" ? deploy_.context - 1 : 0;
  for (KeyValueCache& cache : caches_) {
    cache.tokens = first == 0 ? 0 : network_.space().model().front_rows() + first;  // an empty one takes a tuned prompt by itself
    for (std::int64_t at = first; at < deploy_.context; at += kPrefillRows) {
      const auto count = static_cast<std::size_t>(std::min(kPrefillRows, deploy_.context - at));
      network_.decode(backend_, weights_, subnet_, std::span(tokens_).subspan(static_cast<std::size_t>(at), count), cache, logits, arena_,
                      done);
    }
  }
}

}  // namespace elastiform
