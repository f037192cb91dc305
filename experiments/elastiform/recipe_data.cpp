#include "experiments/elastiform/recipe_data.hpp"

#include <fmt/core.h>

#include <array>

#include "experiments/elastiform/recipe_space.hpp"
#include "kernels/errors.hpp"
#include "supernet/data/image_data.hpp"
#include "supernet/data/text_data.hpp"

namespace elastiform {
namespace {

constexpr std::string_view kPathKeys[] = {"data.text", "data.tokenizer", "data.images", "data.labels"};
const std::string kBytes = "bytes";  // data.tokenizer; everything else is a path

/// A folder of pictures comes without a file of labels.
bool holds_numbers(const ImageOptions& image) { return is_csv(image.images) || !image.labels.empty(); }

void read_image_options(TableReader& table, ImageOptions& image) {
  image.images = table.text("images", "");
  if (image.images.empty()) throw InputError({table.place("images"), "a file or a folder", "nothing", ""});
  image.labels = table.text("labels", "");
  image.label_column = table.choice("label_column", image.label_column, {"last", "first"});
  image.white = table.number("white", image.white, 1e-6, 1e9);
  const auto only_with = [&](const char* key, bool used, const char* with) {
    if (table.typed(key) && !used)
      throw InputError({table.place(key), std::string("only with ") + with, image.images, fmt::format("remove {}", key)});
  };
  only_with("labels", !is_csv(image.images), "an .npy or IDX file of images");
  only_with("label_column", is_csv(image.images), "a CSV file");
  only_with("white", holds_numbers(image), "a file of numbers; PNG and JPEG have 255");
  if (table.has("mean")) image.mean = table.numbers("mean", -1e6, 1e6);
  if (table.has("deviation")) image.deviation = table.numbers("deviation", 1e-9, 1e6);
}

std::string number_text(const double& value) { return fmt::format("{}", value); }

}  // namespace

bool has_images(const DataOptions& data) { return !data.image.images.empty(); }
bool reads_bytes(const DataOptions& data) { return data.tokenizer == kBytes; }

DataOptions read_data(const RecipeValue& document, std::string_view where) {
  TableReader table(document.find("data"), "data", where);
  DataOptions data;
  const bool images = table.has("images");
  if (images) {
    read_image_options(table, data.image);
  } else {
    table.require("text");
    data.text = table.text("text", "");
    if (data.text.empty()) throw InputError({table.place("text"), "a file or a folder", "nothing", ""});
    data.tokenizer = table.text("tokenizer", data.tokenizer);
    if (data.tokenizer.empty())
      throw InputError({table.place("tokenizer"), "bytes, or the place of a tokenizer.json or tokenizer.model", "nothing", ""});
  }
  if (table.has("splits")) data.splits = table.integers("splits", 1, 1000000);
  if (data.splits.size() != 3)
    throw InputError(
        {table.place("splits"), "three parts: train, search, report", fmt::format("{}", data.splits.size()), "for example [90, 5, 5]"});
  if (!images) data.split_block = table.bytes("split_block", data.split_block);
  table.finish();
  return data;
}

std::string data_table(const DataOptions& data) {
  const std::string splits = toml_list(
      data.splits, +[](const int& part) { return std::to_string(part); });
  if (!has_images(data))
    return fmt::format("[data]\ntext = {}\ntokenizer = {}\nsplits = {}\nsplit_block = {}\n\n", toml_text(data.text),
                       toml_text(data.tokenizer), splits, data.split_block);
  const ImageOptions& image = data.image;
  std::string text = fmt::format("[data]\nimages = {}\n", toml_text(image.images));
  if (!image.labels.empty()) text += fmt::format("labels = {}\n", toml_text(image.labels));
  if (is_csv(image.images)) text += fmt::format("label_column = {}\n", toml_text(image.label_column));
  if (holds_numbers(image)) text += fmt::format("white = {}\n", image.white);
  return text + fmt::format("mean = {}\ndeviation = {}\nsplits = {}\n\n", toml_list(image.mean, number_text),
                            toml_list(image.deviation, number_text), splits);
}

void check_data(const DataOptions& data, const ModelConfig& model, std::string_view where) {
  if (has_images(data) != model.classifies())
    throw InputError({fmt::format("recipe {}: data", where),
                      model.classifies() ? "images, which family vit reads" : "text, which family decoder reads",
                      has_images(data) ? "images" : "text", "model.family says what a model reads"});
  if (!has_images(data)) return;
  try {
    check_normalisation(data.image, model.image.channels);
  } catch (const InputError& error) {
    auto parts = error.parts();
    parts.where = fmt::format("recipe {}: {}", where, parts.where);
    throw InputError(parts);
  }
}

std::vector<DataPath> data_paths(DataOptions& data) {
  std::vector<DataPath> paths;
  const std::array<std::string*, std::size(kPathKeys)> places = {&data.text, &data.tokenizer, &data.image.images, &data.image.labels};
  for (std::size_t i = 0; i < places.size(); ++i)
    if (!places[i]->empty() && !(places[i] == &data.tokenizer && reads_bytes(data))) paths.push_back({kPathKeys[i], places[i]});
  return paths;
}

bool is_data_path(std::string_view key) {
  for (const std::string_view path : kPathKeys)
    if (key == path) return true;
  return false;
}

DataPath main_path(DataOptions& data) { return data_paths(data).front(); }

std::unique_ptr<DataSource> open_data(const Recipe& recipe) {
  const ModelConfig& model = recipe.space.model();
  if (has_images(recipe.data)) return std::make_unique<ImageData>(recipe.data, model, recipe.train.augmentation);
  auto text = std::make_unique<TextData>(recipe.data.text, recipe.data, model.context);
  if (text->tokenizer().vocabulary() > model.vocabulary)
    throw InputError({recipe.data.tokenizer, "ids below model.vocabulary = " + std::to_string(model.vocabulary),
                      "ids up to " + std::to_string(text->tokenizer().vocabulary() - 1), "set model.vocabulary to at least one more"});
  return text;
}

}  // namespace elastiform
