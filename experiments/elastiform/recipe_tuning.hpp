#pragma once

#include <string>
#include <string_view>

#include "experiments/elastiform/recipe_document.hpp"
#include "supernet/search_space.hpp"
#include "trainers/options.hpp"

namespace elastiform {

/// [tune] of a run's recipe, which `elastiform finetune` writes. Without the table: a training from scratch, in which all learns.
struct TuneOptions {
  Tuning tuning;
  std::string base;  // SHA-256 of the weights that the run began with (base.h5); empty: none
};

/// A method and what it takes, checked against the model.
TuneOptions read_tuning(const RecipeValue& document, std::string_view where, const ModelConfig& model);

/// [teacher] of a run's recipe, which `import` and `finetune` write: train.teacher, and the SHA-256 of the weights in its file (teacher.h5); empty without
/// the table.
std::string read_teacher(const RecipeValue& document, std::string_view where, const ModelConfig& model, TrainOptions& train);
std::string teacher_table(const TrainOptions& train, const std::string& weights);

/// The space whose networks are tuned so; errors of the method begin with `where`.
SearchSpace tuned_space(const SearchSpace& space, const Tuning& tuning, std::string_view where);

/// The resolved table; empty without a base.
std::string tune_table(const Tuning& tuning, const std::string& base);

/// Ranks of a text like "2,4,8".
std::vector<int> parse_ranks(const std::string& text, std::string_view where);

/// Maps of a text like "query,value", by name; all that the model has where the text is empty.
LinearMaps parse_targets(const std::string& text, const ModelConfig& model, std::string_view where);

}  // namespace elastiform
