#include "supernet/data/image_data.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "kernels/errors.hpp"
#include "supernet/data/augmentation.hpp"
#include "supernet/data/splits.hpp"
#include "supernet/sha256.hpp"

namespace elastiform {
namespace {

double of_channel(const std::vector<double>& values, std::int64_t channel) {
  return values.size() == 1 ? values.front() : values[static_cast<std::size_t>(channel)];
}

/// What stands for a value of a file in a channel.
float normalised(float value, double white, const ImageOptions& options, std::int64_t channel) {
  return static_cast<float>((static_cast<double>(value) / white - of_channel(options.mean, channel)) /
                            of_channel(options.deviation, channel));
}

/// Image i as [channel][row][column], normalised.
void load(const ImageSet& set, std::int64_t i, const ImageOptions& options, const ImageShape& shape, std::span<float> image) {
  const std::int64_t pixels = std::int64_t{shape.height} * shape.width, channels = shape.channels;
  for (std::int64_t p = 0; p < pixels; ++p)
    for (std::int64_t c = 0; c < channels; ++c)
      image[static_cast<std::size_t>(c * pixels + p)] = normalised(set.value((i * pixels + p) * channels + c), set.white, options, c);
}

/// Calls each(channel, row, first column) for every row of pixels of every patch, in the order of a batch's patches.
template <class Each>
void each_patch_row(const ImageShape& shape, const Each& each) {
  for (std::int64_t top = 0; top < shape.height; top += shape.patch)
    for (std::int64_t left = 0; left < shape.width; left += shape.patch)
      for (std::int64_t c = 0; c < shape.channels; ++c)
        for (std::int64_t y = top; y < top + shape.patch; ++y) each(c, y, left);
}

/// Appends the patches of an image, row by row of patches; of a patch [channel][row][column].
void append_patches(std::span<const float> image, const ImageShape& shape, std::vector<float>& patches) {
  each_patch_row(shape, [&](std::int64_t c, std::int64_t y, std::int64_t x) {
    const auto at = image.begin() + (c * shape.height + y) * shape.width + x;
    patches.insert(patches.end(), at, at + shape.patch);
  });
}

/// Empties a batch and says of its tokens what they are: the class token, if there is one, and the patches.
void arrange(const ModelConfig& model, std::int64_t images, std::int64_t tokens, Batch& batch) {
  const std::int64_t patches = model.image.patches(), first = model.tokens_before_patches();
  if (tokens != model.tokens_of_image()) throw std::logic_error("images have " + std::to_string(model.tokens_of_image()) + " tokens");
  batch.sequences = images;
  batch.tokens = tokens;
  batch.targets.clear();
  ImageInputs& in = batch.images;
  in.patches.clear();
  in.patches.reserve(static_cast<std::size_t>(images * model.image.values()));
  in.mixed_with.clear();
  in.mixed_share.clear();
  const bool whole = in.masked.count == 0;  // the batch before
  in.masked.count = 0;
  if (whole && static_cast<std::int64_t>(batch.inputs.size()) == batch.rows()) return;
  batch.inputs.clear();
  in.head_rows.clear();
  for (std::int64_t b = 0; b < images; ++b) {
    for (std::int64_t i = 0; i < first; ++i) batch.inputs.push_back(static_cast<std::int32_t>(i));
    for (std::int64_t p = 0; p < patches; ++p) batch.inputs.push_back(static_cast<std::int32_t>(first + b * patches + p));
    if (first > 0) in.head_rows.push_back(static_cast<std::int32_t>(b * tokens));  // the class token's
    else in.head_rows.insert(in.head_rows.end(), static_cast<std::size_t>(tokens), static_cast<std::int32_t>(b));
  }
}

/// The calling thread's images while a batch is made of them, whose memory serves again.
struct Scratch {
  std::vector<float> loaded, image, other, empty;
};
Scratch& scratch_of(const ImageShape& shape, const ImageOptions& options) {
  thread_local Scratch scratch;
  for (std::vector<float>* one : {&scratch.loaded, &scratch.image, &scratch.other}) one->resize(static_cast<std::size_t>(shape.values()));
  scratch.empty.clear();
  for (int c = 0; c < shape.channels; ++c) scratch.empty.push_back(normalised(0, 1, options, c));
  return scratch;
}

}  // namespace

void check_normalisation(const ImageOptions& options, int channels, const std::string& place) {
  const auto refuse = [&](const char* key, std::string expected, std::string found) {
    throw InputError({.where = place + key, .expected = std::move(expected), .found = std::move(found), .remedy = ""});
  };
  if (!(options.white > 0 && std::isfinite(options.white))) refuse("white", "a number above 0", std::to_string(options.white));
  for (const auto& [key, list] : {std::pair{"mean", &options.mean}, std::pair{"deviation", &options.deviation}})
    if (list->size() != 1 && list->size() != static_cast<std::size_t>(channels))
      refuse(key, "one number, or one for each of " + std::to_string(channels) + " channels", std::to_string(list->size()));
  for (const double deviation : options.deviation)
    if (!(deviation > 0)) refuse("deviation", "numbers above 0", std::to_string(deviation));
}

ImageData::ImageData(const DataOptions& options, const ModelConfig& model, const Augmentation& augmentation)
    : model_(model), options_(options.image), augmentation_(augmentation), segments_(kSplits) {
  check_splits(options.splits);
  check_normalisation(options_, model.image.channels);
  set_ = read_images(options_, model.image, model.vocabulary);
  const std::vector<Split> owner = deal(set_.count, options.splits);
  for (std::int64_t i = 0; i < set_.count; ++i) segments_[index_of(owner[static_cast<std::size_t>(i)])].push_back({i, i + 1});
  Sha256 hash;
  hash.add(std::to_string(set_.count) + " images of " + std::to_string(model.image.values()) +
           (set_.floats.empty() ? " bytes" : " floats"));
  hash.add(set_.bytes.data(), set_.bytes.size()).add(set_.floats.data(), set_.floats.size() * sizeof(float));
  hash.add(set_.labels.data(), set_.labels.size() * sizeof(std::int32_t));
  sha256_ = hash.hex();
}

const std::vector<Segment>& ImageData::segments(Split split) const { return segments_[index_of(split)]; }

void ImageData::training_batch(std::uint64_t seed, std::uint64_t step, std::int64_t sequences, std::int64_t tokens, Batch& batch,
                               std::int64_t first) const {
  const std::vector<Segment>& train = segments(Split::train);
  arrange(model_, sequences, tokens, batch);
  Scratch& s = scratch_of(model_.image, options_);
  for (std::int64_t b = 0; b < sequences; ++b) {
    RandomStream random(seed, Purpose::batch, step, static_cast<std::uint32_t>(first + b));
    const auto draw = [&](std::vector<float>& image) {
      const std::int64_t i = train[random.below(train.size())].begin;
      load(set_, i, options_, model_.image, s.loaded);
      move_image(random, augmentation_, model_.image, s.loaded, s.empty, image);
      return set_.labels[static_cast<std::size_t>(i)];
    };
    batch.targets.push_back(draw(s.image));
    if (augmentation_.mixes()) {
      batch.images.mixed_with.push_back(draw(s.other));
      batch.images.mixed_share.push_back(static_cast<float>(mix_images(random, augmentation_, model_.image, s.other, s.image)));
    }
    append_patches(s.image, model_.image, batch.images.patches);
  }
}

std::vector<Window> ImageData::scoring_windows(Split split, std::int64_t /*tokens*/, std::int64_t /*stride*/, std::int64_t limit) const {
  const std::vector<Segment>& all = segments(split);
  const auto count = static_cast<std::int64_t>(all.size());
  std::vector<Window> windows;
  for (std::int64_t s = 0; s < (limit > 0 ? std::min(limit, count) : count); ++s)
    windows.push_back({.begin = all[static_cast<std::size_t>(s)].begin, .length = 1, .skip = 0, .segment = s});
  return windows;
}

Batch ImageData::scoring_batch(const std::vector<Window>& windows, std::int64_t first, std::int64_t count, std::int64_t tokens) const {
  if (first < 0 || count < 0 || first + count > static_cast<std::int64_t>(windows.size()))
    throw std::logic_error("ImageData::scoring_batch: no such windows");
  Batch batch;
  arrange(model_, count, tokens, batch);
  Scratch& s = scratch_of(model_.image, options_);
  for (std::int64_t b = 0; b < count; ++b) {
    const std::int64_t i = windows[static_cast<std::size_t>(first + b)].begin;
    load(set_, i, options_, model_.image, s.loaded);
    append_patches(s.loaded, model_.image, batch.images.patches);
    batch.targets.push_back(set_.labels[static_cast<std::size_t>(i)]);
  }
  return batch;
}

Batch batch_of(const ImageSet& set, const ImageOptions& options, const ModelConfig& model) {
  Batch batch;
  arrange(model, set.count, model.tokens_of_image(), batch);
  Scratch& s = scratch_of(model.image, options);
  for (std::int64_t i = 0; i < set.count; ++i) {
    load(set, i, options, model.image, s.loaded);
    append_patches(s.loaded, model.image, batch.images.patches);
  }
  batch.targets = set.labels;
  return batch;
}

std::vector<float> pixels_of(const Batch& batch, const ImageShape& shape) {
  const std::int64_t P = shape.patch, H = shape.height, W = shape.width;
  std::vector<float> pixels(static_cast<std::size_t>(batch.sequences * shape.values()));
  auto from = batch.images.patches.begin();
  for (std::int64_t image = 0; image < batch.sequences; ++image)
    each_patch_row(shape, [&](std::int64_t c, std::int64_t y, std::int64_t x) {
      std::copy_n(from, P, pixels.begin() + ((image * shape.channels + c) * H + y) * W + x);
      from += P;
    });
  return pixels;
}

}  // namespace elastiform
