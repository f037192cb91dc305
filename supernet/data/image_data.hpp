#pragma once

#include "supernet/data/data_options.hpp"
#include "supernet/data/data_source.hpp"
#include "supernet/data/image_set.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// Images with one class each, dealt to the three splits one by one. Each is a segment, so losses of blocks are losses of images.
class ImageData final : public DataSource {
 public:
  /// Throws InputError when what `options` names cannot be read as images of the model.
  ImageData(const DataOptions& options, const ModelConfig& model, const Augmentation& augmentation);

  std::int64_t size() const { return set_.count; }
  const std::string& sha256() const override { return sha256_; }  // of values and labels
  const std::vector<Segment>& segments(Split split) const override;

  /// Images drawn uniformly from the train split, augmented; a mixed one with another draw. Each sequence has a random stream of its own.
  using DataSource::training_batch;
  void training_batch(std::uint64_t seed, std::uint64_t step, std::int64_t sequences, std::int64_t tokens, Batch& batch,
                      std::int64_t first = 0) const override;
  /// An image a window; the stride means nothing.
  std::vector<Window> scoring_windows(Split split, std::int64_t tokens, std::int64_t stride, std::int64_t limit) const override;
  Batch scoring_batch(const std::vector<Window>& windows, std::int64_t first, std::int64_t count, std::int64_t tokens) const override;

 private:
  ModelConfig model_;
  ImageOptions options_;
  Augmentation augmentation_;
  ImageSet set_;
  std::string sha256_;
  std::vector<std::vector<Segment>> segments_;
};

/// Throws InputError unless there are as many means and deviations as channels, or one, and deviations are positive. `place`: what stands before
/// the names of the three in messages.
void check_normalisation(const ImageOptions& options, int channels, const std::string& place = "data.");

/// All images of a set as a batch, normalised and cut into patches, with their labels as targets.
Batch batch_of(const ImageSet& set, const ImageOptions& options, const ModelConfig& model);

/// The images that a batch's patches were cut of: [B][channel][row][column].
std::vector<float> pixels_of(const Batch& batch, const ImageShape& shape);

}  // namespace elastiform
