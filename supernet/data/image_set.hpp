#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "supernet/data/data_options.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// Images of one size and their classes, in memory: bytes where all values are whole numbers of 0 to 255, else floats. An image is
/// [row][column][channel].
struct ImageSet {
  std::int64_t count = 0;
  std::vector<std::uint8_t> bytes;
  std::vector<float> floats;  // one of the two is empty
  std::vector<std::int32_t> labels;
  double white = 255;  // the value of a full channel

  float value(std::int64_t i) const {
    return floats.empty() ? static_cast<float>(bytes[static_cast<std::size_t>(i)]) : floats[static_cast<std::size_t>(i)];
  }
};

/// Reads what `options` names, by its kind. Throws InputError (one line with file and place) unless every image has the shape, or of PNG
/// and JPEG can be given it, and every label is one of the classes.
ImageSet read_images(const ImageOptions& options, const ImageShape& shape, int classes);

/// Images without labels: a PNG or JPEG file, or what `options` would name.
ImageSet read_unlabelled(const std::string& path, const ImageOptions& options, const ImageShape& shape);

// One file for each kind; `labelled`: labels are read too.
/// A row an image: values and, in the first or last column, its class; unlabelled, that column may be missing. A first row without a number
/// is a header.
ImageSet read_csv(const std::string& path, bool labelled, bool label_first, const ImageShape& shape);
/// The IDX files of MNIST, unsigned bytes [n][rows][columns], or with a last axis of channels.
ImageSet read_idx(const std::string& images, const std::string& labels, const ImageShape& shape);
/// NumPy's .npy, [n][rows][columns], with a last axis of channels, or with one before the rows; bytes or floats; labels whole numbers [n].
ImageSet read_npy(const std::string& images, const std::string& labels, const ImageShape& shape);
/// A folder of each class, in the order of their names, with PNG and JPEG files.
ImageSet read_folder(const std::string& path, const ImageShape& shape);
/// Names of the model's classes: those of the folders that `options` names; none of other data, or where the model has other classes.
std::vector<std::string> class_names(const ImageOptions& options, const ModelConfig& model);
bool is_picture(const std::string& path);  // by its name
bool is_csv(const std::string& path);      // likewise
/// Adds a PNG or JPEG file: its shorter side becomes that of the shape (bilinear, every pixel of a shrunk image counting), and the middle
/// is kept.
void add_picture(const std::string& path, const ImageShape& shape, ImageSet& set);

}  // namespace elastiform
