#pragma once

#include <optional>
#include <string>

#include "supernet/formats/format.hpp"

namespace elastiform::elastiform_file {

/// One HDF5 file, kind "model": attribute `space` (the space of exactly this network), /weights/NAME, and the model card as attributes of
/// /card. /tokenizer holds the bytes of a tokenizer.json, where there is one; /reading what a classifier does to pixels, and the names of its
/// classes. Expresses every subnet.
std::string why_not(const ModelConfig& model, const Subnet& subnet);
std::string why_not_block(const ModelConfig& model, int embed, int index, const BlockGenes& genes);
void write(const DenseModel& model, const ModelCard& card, const std::string& path);
bool is_elastiform(const std::string& path);                                          // by its first bytes
DenseModel read(const std::string& path, std::optional<int> context = std::nullopt);  // of at most the model's tokens

}  // namespace elastiform::elastiform_file
