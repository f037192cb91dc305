#include <algorithm>
#include <filesystem>

#include "kernels/errors.hpp"
#include "supernet/data/class_names.hpp"
#include "supernet/data/image_set.hpp"
#include "supernet/data/pictures.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

/// What of a folder `wanted` says, sorted by name; hidden ones are left out.
template <class Wanted>
std::vector<fs::path> entries_of(const fs::path& folder, const Wanted& wanted) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    if (entry->path().filename().string().front() != '.' && wanted(*entry)) found.push_back(entry->path());
  if (error) throw InputError({.where = folder.string(), .expected = "a folder that can be read", .found = error.message(), .remedy = ""});
  std::sort(found.begin(), found.end());
  return found;
}

bool is_folder(const fs::directory_entry& entry) {
  std::error_code error;
  return entry.is_directory(error);
}

}  // namespace

void add_picture(const std::string& path, const ImageShape& shape, ImageSet& set) {
  const Picture picture = resized(read_picture(path, shape.channels), shape.height, shape.width);
  set.bytes.insert(set.bytes.end(), picture.values.begin(), picture.values.end());
  ++set.count;
}

std::vector<std::string> class_names(const ImageOptions& options, const ModelConfig& model) {
  std::error_code error;
  std::vector<std::string> names;
  if (!options.images.empty() && fs::is_directory(options.images, error))
    for (const fs::path& folder : entries_of(options.images, is_folder)) names.push_back(folder.filename().string());
  if (names.size() != static_cast<std::size_t>(model.vocabulary) || are_default_labels(names)) return {};
  check_class_names(names, options.images);
  return names;
}

ImageSet read_folder(const std::string& path, const ImageShape& shape) {
  ImageSet set;
  const std::vector<fs::path> classes = entries_of(path, is_folder);
  if (classes.empty())
    throw InputError({.where = path, .expected = "a folder for each class, with PNG and JPEG files", .found = "no folder", .remedy = ""});
  for (std::size_t label = 0; label < classes.size(); ++label) {
    const std::vector<fs::path> pictures =
        entries_of(classes[label], [](const fs::directory_entry& entry) { return is_picture(entry.path().string()); });
    if (pictures.empty())
      throw InputError({.where = classes[label].string(), .expected = "PNG or JPEG files", .found = "none", .remedy = ""});
    for (const fs::path& picture : pictures) {
      add_picture(picture.string(), shape, set);
      set.labels.push_back(static_cast<std::int32_t>(label));
    }
  }
  return set;
}

}  // namespace elastiform
