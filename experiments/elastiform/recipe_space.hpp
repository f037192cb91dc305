#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "experiments/elastiform/recipe_document.hpp"
#include "supernet/search_space.hpp"

namespace elastiform {

/// [model] and [space] of a recipe (docs/recipes.md). `vocabulary`: the fewest rows of a decoder's embedding, the byte
/// tokenizer's 256, or 0 where only the recipe can say how many ids there are; of images model.classes counts.
SearchSpace read_space(const RecipeValue& document, std::string_view where, int vocabulary);

/// The two tables with every default written out; read_space() of them gives `space` again.
std::string space_tables(const SearchSpace& space);

std::string toml_text(std::string_view text);  // quoted and escaped

/// "[a, b, c]"
template <class Value>
std::string toml_list(const std::vector<Value>& values, std::string (*shown)(const Value&)) {
  std::string text = "[";
  for (const auto& value : values) text += (text.size() > 1 ? ", " : "") + shown(value);
  return text + "]";
}

}  // namespace elastiform
