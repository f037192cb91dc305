#include "supernet/classification.hpp"

namespace elastiform {

std::vector<float> image_logits(Backend& backend, const Network& network, const Weights& weights, const Subnet& subnet,
                                const Batch& batch) {
  const std::int64_t classes = network.space().model().vocabulary, images = batch.sequences;
  Arena arena(network.plan_classify(backend.traits(), subnet, images) + Arena::bytes_for(images, classes, DType::float32),
              backend.memory());
  const View logits = arena.matrix(images, classes, DType::float32);
  network.classify(backend, weights, subnet, batch, logits, arena);
  std::vector<float> values(static_cast<std::size_t>(images * classes));
  backend.copy(view_of(values.data(), images, classes, classes), logits);
  return values;
}

}  // namespace elastiform
