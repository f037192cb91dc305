#pragma once

#include "experiments/elastiform/train_run.hpp"

namespace elastiform {

/// What stands at the end of a training: warnings, what to do next, the JSON document. Returns the exit status.
int print_outcome(const TrainOutcome& outcome, const CommonOptions& common, std::string_view next = "search");

/// A folder that the user typed, without a slash at its end; InputError when that leaves nothing. `where`: the command.
std::string typed_folder(std::string path, std::string_view where);

}  // namespace elastiform
