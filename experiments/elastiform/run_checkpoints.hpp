#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "experiments/elastiform/run_folder.hpp"

namespace elastiform {

/// checkpoints/step-N.h5 of a run, the newest first.
std::vector<std::string> step_checkpoints(const RunPaths& paths);

/// Puts the newest undamaged step-N.h5 in the place of a supernet.h5 that is not there, and says so on `stream`. Does nothing when it is
/// there, damaged or not, and when there is no such checkpoint: then the training begins at step 0.
void replace_lost_supernet(const RunPaths& paths, std::FILE* stream);

}  // namespace elastiform
