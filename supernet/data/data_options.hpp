#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace elastiform {

/// Where images are and what their numbers mean.
struct ImageOptions {
  std::string images;                 // a file (.csv, .csv.gz, .npy, IDX) or a folder with a folder of PNG and JPEG files for each class
  std::string labels;                 // of .npy and IDX: a file of the same kind
  std::string label_column = "last";  // of CSV: last | first
  double white = 255;                 // the value of a full channel of a file of numbers; PNG and JPEG have 255
  std::vector<double> mean = {0.5}, deviation = {0.5};  // of value / white, of all channels or of each: what a model reads is normalised
  bool operator==(const ImageOptions&) const = default;
};

/// [data] of a recipe.
struct DataOptions {
  std::string text;                      // a file or a folder, relative to the recipe (or the run) or absolute; text or token shards
  std::string tokenizer = "bytes";       // 256 ids, id = byte value; or the place of a tokenizer.json or tokenizer.model, as text's
  std::vector<int> splits = {90, 5, 5};  // parts of train, search, report
  std::int64_t split_block = 16384;      // bytes; tokens, of another tokenizer
  ImageOptions image = {};               // instead of text
};

/// What training does to images and their labels; evaluation knows nothing of it.
struct Augmentation {
  int crop = 0;       // pixels by which an image is moved at most, zeros of its file coming in
  double flip = 0;    // probability of mirroring left and right
  double mixup = 0;   // α of Beta(α, α), the share of one of two images (arXiv 1710.09412); 0: none
  double cutmix = 0;  // the same for the share of the area (arXiv 1905.04899); with both each image gets one of them, equally likely
  bool mixes() const { return mixup > 0 || cutmix > 0; }
  bool operator==(const Augmentation&) const = default;
};

}  // namespace elastiform
