#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "experiments/elastiform/recipe.hpp"

namespace elastiform {

/// Of a resumed run only train.checkpoint_every and where the data are may be --set.
void refuse_settings(const std::vector<std::string>& set);

/// The last stage takes what is added, and warm-up stays the steps it was: as shares of more steps both would move. InputError when the
/// schedule does not allow it, or no longer at step `trained`.
void lengthen(Recipe& recipe, std::int64_t steps, std::int64_t trained);

/// The recipe of a run folder against the one that its checkpoint, of step `trained`, was trained with: anything but where the data are,
/// train.checkpoint_every and what a lengthened run changes is refused by key. `path` names the folder's recipe.
void refuse_changes(const Recipe& recipe, const std::string& checkpoint_toml, std::int64_t trained, const std::string& path);

/// The same for whoever only scores: [data] decides which bytes were trained on, so with another one held-out text would not be held out.
void refuse_changed_data(const Recipe& recipe, const std::string& checkpoint_toml, const std::string& path);

}  // namespace elastiform
