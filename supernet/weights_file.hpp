#pragma once

#include <optional>
#include <string>

#include "supernet/storage/hdf5_file.hpp"
#include "supernet/weights.hpp"

namespace elastiform {

/// One dataset GROUP/NAME of rows × columns for every tensor of the table, or for those that learn.
void write_weights(Hdf5Writer& file, const std::string& group, const Weights& weights, Held written = Held::all);

/// Throws InputError unless `group` holds exactly these tensors in their shapes and the file has bytes for all of them: call it before
/// memory is taken for a network that the file only claims to hold.
void check_weights(const Hdf5Reader& file, const std::string& group, const WeightTable& table, Held written = Held::all);

/// Fills `weights`, or what learns of them, after check_weights.
void read_weights(const Hdf5Reader& file, const std::string& group, Weights& weights, Held written = Held::all);

/// What read_weights would fill, after check_weights, in the pages of the file itself: processes share them, and nothing is copied until
/// somebody writes (map_file). nullopt where files cannot be mapped, or the group's tensors do not lie in this one as kernels want them:
/// files before this rule, rows of other than whole cache lines, a tuning.
std::optional<Weights> map_weights(const Hdf5Reader& file, const std::string& group, const WeightTable& table);

}  // namespace elastiform
