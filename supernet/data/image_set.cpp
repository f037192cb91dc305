#include "supernet/data/image_set.hpp"

#include <algorithm>
#include <filesystem>

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

std::string lower(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return text;
}

bool is_csv(const std::string& name) { return name.ends_with(".csv") || name.ends_with(".csv.gz"); }

void check_labels(const ImageSet& set, const std::string& path, int classes) {
  for (std::size_t i = 0; i < set.labels.size(); ++i)
    if (set.labels[i] < 0 || set.labels[i] >= classes)
      throw InputError({.where = path + ": image " + std::to_string(i),
                        .expected = "a class from 0 to " + std::to_string(classes - 1),
                        .found = std::to_string(set.labels[i]),
                        .remedy = "model.classes says how many there are"});
}

}  // namespace

bool is_picture(const std::string& path) {
  const std::string name = lower(path);
  return name.ends_with(".png") || name.ends_with(".jpg") || name.ends_with(".jpeg");
}

ImageSet read_images(const ImageOptions& options, const ImageShape& shape, int classes) {
  const std::string name = lower(options.images);
  std::error_code error;
  ImageSet set;
  if (std::filesystem::is_directory(options.images, error)) set = read_folder(options.images, shape);
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
  check_labels(set, options.images, classes);
  return set;
}

ImageSet read_unlabelled(const std::string& path, const ImageOptions& options, const ImageShape& shape) {
  const std::string name = lower(path);
  ImageSet set;
  if (is_picture(path)) add_picture(path, shape, set);
  else if (is_csv(name)) set = read_csv(path, true, options.label_column == "first", shape);
  else set = name.ends_with(".npy") ? read_npy(path, "", shape) : read_idx(path, "", shape);
  set.labels.assign(static_cast<std::size_t>(set.count), 0);
  return set;
}

}  // namespace elastiform
