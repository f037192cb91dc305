#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/elastiform/recipe.hpp"
#include "supernet/formats/format.hpp"

namespace elastiform {

/// What `elastiform import` is asked for.
struct ImportRequest {
  std::string path;                        // a Hugging Face folder, or an export of ours
  std::string run;                         // the folder to make
  std::string text;                        // what the run is trained and scored on, of a language model
  std::string images, labels;              // the same of a classifier, as data.images and data.labels
  std::optional<int> classes;              // of a classifier's body that has no head: it gets one of zeros
  std::optional<std::string> tokenizer;    // instead of the checkpoint's own: "bytes" or the place of a tokenizer.json or tokenizer.model
  std::optional<int> context;              // tokens, at most the model's
  std::vector<std::string> space;          // "embed=384,576": keys of [space]
  std::string importance = "magnitude";    // of importances(): by which heads, neurons and channels are put in order
  std::optional<std::string> calibration;  // text that it looks at, where it does; none: `text`
  int threads = 1;                         // of that
  std::vector<std::string> set;            // "train.steps=2000": every other table but [model]
};

struct ImportedRun {
  std::string folder, subnet;  // the imported network, the run's largest subnet
  std::int64_t parameters = 0;
  std::string subnets;  // how many the space has
  int vocabulary = 0, context = 0;
  double bytes_per_token = 1;      // of the search split
  std::int64_t calibrated_on = 0;  // tokens; 0: importance is of weights alone
};

/// A run at step 0 whose largest subnet is the checkpoint: heads, FFN columns and embed channels in order of importance, branch scale 1, its
/// tokenizer beside it. `train --resume` begins with these weights. Made whole or not at all. InputError for what has no place.
ImportedRun import_checkpoint(const ImportRequest& request);

/// The space that an import takes where nothing is asked for: the checkpoint's own sizes and fractions of them; a network whose blocks differ
/// keeps them as they are, and embed width and depth vary.
SearchSpace default_import_space(const ModelConfig& model, const Subnet& subnet);

}  // namespace elastiform
