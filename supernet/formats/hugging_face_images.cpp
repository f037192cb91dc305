#include "supernet/formats/hugging_face_images.hpp"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "kernels/errors.hpp"
#include "supernet/data/image_data.hpp"
#include "supernet/formats/json.hpp"

namespace elastiform::hugging_face {
namespace {

constexpr std::size_t kMaxText = 1 << 20;
constexpr double kPictureWhite = 255;

/// A number for each channel.
std::vector<double> of_channels(const std::vector<double>& values, int channels) {
  return values.size() == 1 ? std::vector<double>(static_cast<std::size_t>(channels), values.front()) : values;
}

class Settings {
 public:
  Settings(const std::string& text, std::string where) : where_(std::move(where)), json_(parse_untrusted_json(text, where_, 8)) {
    if (!json_.is_object()) throw InputError({where_, "a JSON object", json_.type_name(), ""});
  }
  bool flag(const char* key, bool otherwise) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_boolean()) fail(key, "true or false", *value);
    return value->get<bool>();
  }
  double number(const char* key, double otherwise) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return otherwise;
    if (!value->is_number()) fail(key, "a number", *value);
    return value->get<double>();
  }
  std::vector<double> numbers(const char* key, std::vector<double> otherwise) const {
    const nlohmann::json* value = find(key);
    if (value == nullptr) return otherwise;
    if (value->is_number()) return {value->get<double>()};
    std::vector<double> list;
    if (!value->is_array()) fail(key, "a list of numbers", *value);
    for (const auto& one : *value) {
      if (!one.is_number()) fail(key, "a list of numbers", *value);
      list.push_back(one.get<double>());
    }
    return list;
  }

 private:
  const nlohmann::json* find(const char* key) const {
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  [[noreturn]] void fail(const std::string& key, std::string expected, const nlohmann::json& found) const {
    throw InputError(
        {where_ + ": " + key, std::move(expected), found.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 64), ""});
  }
  std::string where_;
  nlohmann::json json_;
};

}  // namespace

std::string preprocessor_config(const ImageShape& image, const ImageOptions& reading) {
  // The shorter side is scaled and the middle cut out, as resized() does (exactly so for square images); ViT's own processor would squash.
  const nlohmann::ordered_json json{{"image_processor_type", "BitImageProcessor"},
                                    {"do_convert_rgb", image.channels == 3},
                                    {"do_resize", true},
                                    {"size", {{"shortest_edge", std::min(image.height, image.width)}}},
                                    {"resample", 2},  // bilinear
                                    {"do_center_crop", true},
                                    {"crop_size", {{"height", image.height}, {"width", image.width}}},
                                    {"do_rescale", true},
                                    {"rescale_factor", 1 / kPictureWhite},  // white is that of files of numbers; a picture has 255
                                    {"do_normalize", true},
                                    {"image_mean", of_channels(reading.mean, image.channels)},
                                    {"image_std", of_channels(reading.deviation, image.channels)}};
  return json.dump(2) + "\n";
}

ImageOptions reading_of_folder(const std::string& folder, const ImageShape& image) {
  ImageOptions reading;
  const std::string path = folder + "/preprocessor_config.json";
  std::error_code error;
  if (!std::filesystem::exists(path, error)) return reading;
  const Settings settings(read_small_file(path, kMaxText), path);
  const bool rescales = settings.flag("do_rescale", true), normalises = settings.flag("do_normalize", true);
  reading.white = rescales ? 1 / settings.number("rescale_factor", 1 / 255.0) : 1;
  // A factor is the inverse of a whole number nearly always, whose digits it cannot hold.
  if (std::abs(reading.white - std::round(reading.white)) < 1e-9 * std::abs(reading.white)) reading.white = std::round(reading.white);
  reading.mean = normalises ? settings.numbers("image_mean", {0.5}) : std::vector<double>{0};
  reading.deviation = normalises ? settings.numbers("image_std", {0.5}) : std::vector<double>{1};
  check_normalisation(reading, image.channels, path + ": ");
  if (reading.white == kPictureWhite) return reading;
  // Pictures are always read with 255 as white: (v factor - mean) / deviation is the same with both in its units.
  const double unit = reading.white / kPictureWhite;
  for (double& mean : reading.mean) mean *= unit;
  for (double& deviation : reading.deviation) deviation *= unit;
  reading.white = kPictureWhite;
  check_normalisation(reading, image.channels, path + ": with rescale_factor, ");
  return reading;
}

}  // namespace elastiform::hugging_face
