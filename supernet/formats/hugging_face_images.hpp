#pragma once

#include <string>

#include "supernet/data/data_options.hpp"
#include "supernet/search_space.hpp"

namespace elastiform::hugging_face {

/// Text of a preprocessor_config.json: how pixels become what a classifier of such images reads.
std::string preprocessor_config(const ImageShape& image, const ImageOptions& reading);

/// white, mean and deviation as FOLDER/preprocessor_config.json says; without the file as ViT's image processor has them by default.
ImageOptions reading_of_folder(const std::string& folder, const ImageShape& image);

}  // namespace elastiform::hugging_face
