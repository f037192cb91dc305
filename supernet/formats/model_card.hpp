#pragma once

#include <string>

#include "supernet/formats/format.hpp"

namespace elastiform {

/// README.md of an exported folder: what the model is, what it costs, how good it is and how to load it with `transformers`.
std::string model_card_text(const DenseModel& model, const ModelCard& card);

}  // namespace elastiform
