#include "supernet/data/image_set.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

void check_labels(const ImageSet& set, const std::string& path, int classes) {
  for (std::size_t i = 0; i < set.labels.size(); ++i)
    if (set.labels[i] < 0 || set.labels[i] >= classes)
      throw InputError({.where = path + ": image " + std::to_string(i),
                        .expected = "a class from 0 to " + std::to_string(classes - 1),
                        .found = std::to_string(set.labels[i]),
                        .remedy = "model.classes says how many there are"});
}

/// What a model reads of them must be finite numbers.
void check_range(const ImageSet& set, const ImageOptions& options, const std::string& path) {
  double largest = set.bytes.empty() ? 0 : 255, mean = 0;
  for (const float value : set.floats) largest = std::max(largest, std::abs(static_cast<double>(value)));
  for (const double one : options.mean) mean = std::max(mean, std::abs(one));
  const double deviation = *std::min_element(options.deviation.begin(), options.deviation.end());
  const double read = (largest / set.white + mean) / deviation;
  if (!(read <= static_cast<double>(std::numeric_limits<float>::max())))
    throw InputError({.where = path,
                      .expected = "values that stay finite numbers of float32 once normalised",
                      .found = std::to_string(read),
                      .remedy = "data.white, data.mean and data.deviation normalise them"});
}

}  // namespace

bool is_picture(const std::string& path) {
  const std::string name = lower(path);
  return name.ends_with(".png") || name.ends_with(".jpg") || name.ends_with(".jpeg");
}

bool is_csv(const std::string& path) {
  const std::string name = lower(path);
  return name.ends_with(".csv") || name.ends_with(".csv.gz");
}

ImageSet read_images(const ImageOptions& options, const ImageShape& shape, int classes) {
  const std::string name = lower(options.images);
  std::error_code error;
  ImageSet set;
  const bool folder = std::filesystem::is_directory(options.images, error);
  if (folder && !options.labels.empty())
    throw InputError({.where = "data.labels",
                      .expected = "only with an .npy or IDX file of images",
                      .found = "the folder " + options.images,
                      .remedy = "a folder for each class holds their own"});
  if (folder) set = read_folder(options.images, shape);
  else if (is_csv(name)) set = read_csv(options.images, true, options.label_column == "first", shape);
  else if (options.labels.empty())
    throw InputError({.where = "data.labels",
                      .expected = "the file of labels beside " + options.images,
                      .found = "nothing",
                      .remedy = "a .csv file and a folder hold their own"});
  else set = name.ends_with(".npy") ? read_npy(options.images, options.labels, shape) : read_idx(options.images, options.labels, shape);
  if (set.count < static_cast<std::int64_t>(3))
    throw InputError(
        {.where = options.images, .expected = "at least 3 images, one for each split", .found = std::to_string(set.count), .remedy = ""});
  if (!folder) set.white = options.white;
  check_labels(set, options.images, classes);
  check_range(set, options, options.images);
  return set;
}

ImageSet read_unlabelled(const std::string& path, const ImageOptions& options, const ImageShape& shape) {
  const std::string name = lower(path);
  ImageSet set;
  if (is_picture(path)) add_picture(path, shape, set);
  else if (is_csv(name)) set = read_csv(path, false, options.label_column == "first", shape);
  else set = name.ends_with(".npy") ? read_npy(path, "", shape) : read_idx(path, "", shape);
  if (set.count < 1) throw InputError({.where = path, .expected = "images", .found = "none", .remedy = ""});
  if (!is_picture(path)) set.white = options.white;
  set.labels.assign(static_cast<std::size_t>(set.count), 0);
  check_range(set, options, path);
  return set;
}

}  // namespace elastiform
