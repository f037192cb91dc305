#include "experiments/elastiform/recipe_tuning.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "experiments/elastiform/recipe_space.hpp"
#include "kernels/errors.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "trainers/frozen_teacher.hpp"

namespace elastiform {
namespace {

constexpr int kMostRank = 4096;

std::vector<std::string_view> method_names() {
  std::vector<std::string_view> names;
  for (const ParametrizationEntry& entry : parametrizations()) names.push_back(entry.name);
  return names;
}

}  // namespace

TuneOptions read_tuning(const RecipeValue& document, std::string_view where, const ModelConfig& model) {
  const RecipeValue* const found = document.find("tune");
  TableReader table(found, "tune", where);
  TuneOptions options;
  if (found == nullptr) return options;
  const std::string method = table.choice("method", "lora", method_names());
  const ParametrizationEntry& entry = find_parametrization(method, table.place("method"));
  options.tuning.method = entry.method;
  if (entry.how->has_targets()) {
    options.tuning.targets = parse_targets("", model, where);
    if (table.has("targets")) options.tuning.targets = {};
    for (const std::string& name : table.texts("targets")) options.tuning.targets.insert(find_linear_map(name, table.place("targets")));
  }
  if (entry.how->has_rank()) {
    options.tuning.ranks = table.integers("ranks", 1, kMostRank);
    if (options.tuning.ranks.empty()) options.tuning.rank = table.small_integer("rank", kUsualRank, 1, kMostRank);
    else options.tuning.rank = options.tuning.ranks.back();
    if (!options.tuning.ranks.empty() && table.has("rank"))
      throw InputError({table.place("rank"), "rank or ranks", "both", "remove rank: it is the last of ranks"});
    options.tuning.alpha = table.number("alpha", kUsualAlpha, 1e-6, 1e6);
  }
  if (entry.how->has_width()) options.tuning.width = table.small_integer("width", kUsualWidth, 1, 4096);
  if (entry.how->has_keys()) options.tuning.keys = table.small_integer("keys", kUsualKeys, 1, 1024);
  if (entry.how->has_tokens()) options.tuning.tokens = table.small_integer("tokens", kUsualTokens, 1, 1024);
  const std::pair<const char*, bool> keys[] = {{"targets", entry.how->has_targets()}, {"rank", entry.how->has_rank()},
                                               {"ranks", entry.how->has_rank()},      {"alpha", entry.how->has_rank()},
                                               {"width", entry.how->has_width()},     {"keys", entry.how->has_keys()},
                                               {"tokens", entry.how->has_tokens()}};
  for (const auto& [key, read] : keys)
    if (table.has(key) && !read)
      throw InputError({table.place(key), "only with a method that has it", "method = " + method, fmt::format("remove {}", key)});
  options.base = table.text("base", "");
  if (options.base.empty())
    throw InputError({table.place("base"), "the SHA-256 of the weights to begin with", "nothing", "elastiform finetune RUN writes it"});
  table.finish();
  return options;
}

std::string read_teacher(const RecipeValue& document, std::string_view where, const ModelConfig& model, TrainOptions& train) {
  const RecipeValue* const found = document.find("teacher");
  TableReader table(found, "teacher", where);
  if (found == nullptr) return "";
  table.require("subnet"), table.require("weights");
  train.teacher = parse_subnet(table.text("subnet", ""));
  const std::string weights = table.text("weights", "");
  table.finish();
  try {
    teacher_space(model, *train.teacher);
  } catch (const InputError& error) {
    throw InputError({table.place("subnet"), "a network of the recipe's model", format(*train.teacher), error.what()});
  }
  if (weights.empty()) throw InputError({table.place("weights"), "the SHA-256 of the teacher's weights", "nothing", ""});
  return weights;
}

std::string teacher_table(const TrainOptions& train, const std::string& weights) {
  if (!train.teacher) return "";
  return fmt::format("[teacher]\nsubnet = {}\nweights = {}\n\n", toml_text(format(*train.teacher)), toml_text(weights));
}

SearchSpace tuned_space(const SearchSpace& space, const Tuning& tuning, std::string_view where) {
  ModelConfig model = space.model();
  model.tuning = tuning;
  try {
    return SearchSpace(std::move(model), space.embed(), space.depth(), space.blocks());
  } catch (const InputError& error) {
    auto parts = error.parts();
    parts.where = fmt::format("{}: {}", where, parts.where);
    throw InputError(parts);
  }
}

std::vector<int> parse_ranks(const std::string& text, std::string_view where) {
  std::vector<int> ranks;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t comma = std::min(text.find(',', begin), text.size());
    int rank = 0;
    const auto [end, error] = std::from_chars(text.data() + begin, text.data() + comma, rank);
    if (error != std::errc() || end != text.data() + comma || rank < 1 || rank > kMostRank)
      throw InputError({std::string(where), fmt::format("numbers from 1 to {}, as in 2,4,8", kMostRank), text, ""});
    ranks.push_back(rank);
    begin = comma + 1;
  }
  return ranks;
}

LinearMaps parse_targets(const std::string& text, const ModelConfig& model, std::string_view where) {
  LinearMaps maps = text.empty() ? linear_maps_of(model) : LinearMaps{};
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t comma = std::min(text.find(',', begin), text.size());
    maps.insert(find_linear_map(text.substr(begin, comma - begin), where));
    begin = comma + 1;
  }
  return maps;
}

std::string tune_table(const Tuning& tuning, const std::string& base) {
  if (base.empty()) return "";
  const ParametrizationEntry& entry = parametrization_of(tuning);
  std::string text = fmt::format("[tune]\nmethod = {}\n", toml_text(entry.name));
  if (entry.how->has_rank()) {
    if (tuning.ranks.empty()) text += fmt::format("rank = {}\n", tuning.rank);
    else
      text += fmt::format("ranks = {}\n", toml_list(
                                              tuning.ranks, +[](const int& rank) { return std::to_string(rank); }));
    text += fmt::format("alpha = {}\n", tuning.alpha);
  }
  if (entry.how->has_width()) text += fmt::format("width = {}\n", tuning.width);
  if (entry.how->has_keys()) text += fmt::format("keys = {}\n", tuning.keys);
  if (entry.how->has_tokens()) text += fmt::format("tokens = {}\n", tuning.tokens);
  if (entry.how->has_targets()) {
    std::string list;
    for (const std::string_view name : names_of(tuning.targets)) list += (list.empty() ? "" : ", ") + toml_text(name);
    text += "targets = [" + list + "]\n";
  }
  return text + fmt::format("base = {}\n\n", toml_text(base));
}

}  // namespace elastiform
