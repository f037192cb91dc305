#pragma once

#include <string>

#include "supernet/data/data_options.hpp"
#include "supernet/search_space.hpp"

namespace elastiform::hugging_face {

/// Text of a preprocessor_config.json: what `classify` does to a picture before a classifier of such images reads it. reading.white says
/// what numbers of other files mean, so it is not in it.
std::string preprocessor_config(const ImageShape& image, const ImageOptions& reading);

/// mean and deviation of value / 255 as FOLDER/preprocessor_config.json says, its rescale_factor folded in; without the file as ViT's image
/// processor has them by default. white is 255.
ImageOptions reading_of_folder(const std::string& folder, const ImageShape& image);

}  // namespace elastiform::hugging_face
