#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/elastiform/recipe.hpp"
#include "experiments/elastiform/recipe_document.hpp"

namespace elastiform {

/// [data] of a recipe, of text or of images, and back.
DataOptions read_data(const RecipeValue& document, std::string_view where);
std::string data_table(const DataOptions& data);
bool has_images(const DataOptions& data);
bool reads_bytes(const DataOptions& data);  // text whose ids are its bytes, or images

/// Throws InputError where the data are not what the model reads.
void check_data(const DataOptions& data, const ModelConfig& model, std::string_view where);

/// A key of [data] that names a place, with its value.
struct DataPath {
  std::string_view key;  // "data.text", "data.tokenizer", "data.images", "data.labels"
  std::string* path;
};
/// Those that are set; the first one is where the data are.
std::vector<DataPath> data_paths(DataOptions& data);
bool is_data_path(std::string_view key);
DataPath main_path(DataOptions& data);

/// Opens it. Throws InputError when it cannot be read, or when its tokenizer has ids that the model has no rows for.
std::unique_ptr<DataSource> open_data(const Recipe& recipe);

}  // namespace elastiform
