#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "supernet/weights.hpp"

// What readers of models that were made elsewhere share, whatever their format: sizes that are refused before memory is taken, and the words
// in which messages name what a file holds.
namespace elastiform {

/// SearchSpace::of(model, subnet), whose complaints name the file that they are about.
SearchSpace space_of_file(const ModelConfig& model, const Subnet& subnet, const std::string& where);
/// The context that is asked for, by default all of the file's. `where`: the file and its key.
int context_within(int most, std::optional<int> asked, const std::string& where);

/// Throws InputError when a file's model asks for more memory than its tensors account for: context above 1,048,576, head_dim above 1,024, or
/// rotary tables above 256 MiB.
void check_unstored_sizes(const ModelConfig& model, const std::string& where);
/// Throws InputError when rows, padded to whole cache lines, would make a file of so many bytes more than 16 times as large in memory.
void check_stored_sizes(const WeightTable& table, std::uint64_t file_bytes, const std::string& where);

/// A name between quotes, cut where it grows long.
std::string in_quotes(std::string_view name);
/// "[3,4]".
std::string shape_text(const std::vector<std::int64_t>& shape);
/// "model.layers.N.mlp.experts.N.w1.weight (96), …": names with numbers replaced, with how many there are of each; at most three kinds.
std::string grouped_names(const std::vector<std::string>& names);

}  // namespace elastiform
