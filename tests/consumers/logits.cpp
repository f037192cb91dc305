// consumer_logits MODEL [ids]: float32 logits [tokens, V] of an exported model on stdout, for the bytes on stdin; with `ids`, for the int32 ids
// on stdin. Of a classifier [images, classes], for the float32 pixels [images, channels, height, width] on stdin.
#include <cstdio>
#include <exception>
#include <iterator>
#include <string_view>

#include "kernels/cpu/cpu_backend.hpp"
#include "supernet/data/image_data.hpp"
#include "supernet/formats/format.hpp"
#include "supernet/network.hpp"

namespace {

using namespace elastiform;

Batch images_on_stdin(const ModelConfig& model) {
  const ImageShape& shape = model.image;
  const auto pixels = static_cast<std::size_t>(shape.height * shape.width), channels = static_cast<std::size_t>(shape.channels);
  ImageSet set{.count = 0, .bytes = {}, .floats = {}, .labels = {}, .white = 1};
  std::vector<float> image(pixels * channels);
  for (; std::fread(image.data(), sizeof(float), image.size(), stdin) == image.size(); ++set.count)
    for (std::size_t p = 0; p < pixels; ++p)
      for (std::size_t c = 0; c < channels; ++c) set.floats.push_back(image[c * pixels + p]);
  set.labels.assign(static_cast<std::size_t>(set.count), 0);
  ImageOptions as_they_are;
  as_they_are.mean = {0}, as_they_are.deviation = {1};
  return batch_of(set, as_they_are, model);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2 && !(argc == 3 && std::string_view(argv[2]) == "ids"))
    throw std::runtime_error("usage: consumer_logits MODEL [ids] < TEXT-OR-IDS > LOGITS");
  const DenseModel model = load_model(argv[1]);
  if (model.model.classifies()) {
    const std::vector<float> logits = sample_logits(model.weights, model.subnet, {images_on_stdin(model.model), model.model.image});
    std::fwrite(logits.data(), sizeof(float), logits.size(), stdout);
    return 0;
  }
  std::vector<std::int32_t> tokens;
  std::int32_t id = 0;
  if (argc == 3)
    while (std::fread(&id, sizeof id, 1, stdin) == 1) tokens.push_back(id);
  else
    for (int byte = std::getchar(); byte != EOF; byte = std::getchar()) tokens.push_back(byte);
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  const Network network(model.weights.table().space(), DType::float32);
  const auto count = static_cast<std::int64_t>(tokens.size());
  Arena arena(network.plan_cache(model.subnet, count) + network.plan_decode(backend.traits(), model.subnet, count, count) +
              Arena::bytes_for(count, model.model.vocabulary, DType::float32));
  KeyValueCache cache = network.make_cache(model.subnet, count, arena);
  const View logits = arena.matrix(count, model.model.vocabulary, DType::float32);
  network.decode(backend, model.weights, model.subnet, tokens, cache, logits, arena);
  for (std::int64_t row = 0; row < count; ++row)
    std::fwrite(logits.row<float>(row), sizeof(float), static_cast<std::size_t>(logits.columns), stdout);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
