#include "experiments/elastiform/method_list.hpp"

#include <algorithm>

#include "experiments/elastiform/output.hpp"
#include "search/algorithms/algorithm.hpp"
#include "supernet/initialization.hpp"
#include "supernet/nearest_name.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "supernet/residual_rules/residual_rule.hpp"
#include "trainers/objectives/objective.hpp"
#include "trainers/optimizers/optimizer.hpp"
#include "trainers/precision/precision_rule.hpp"
#include "trainers/samplers/sampler.hpp"
#include "trainers/schedules/schedule.hpp"
#include "trainers/step_rules/step_rule.hpp"
#include "trainers/token_selection/token_selection.hpp"

namespace elastiform {
namespace {

template <class T>
const T& entry_of(const T& entry) {
  return entry;
}
template <class T>
const T& entry_of(const T* entry) {
  return *entry;
}

/// A help text may end in where the method comes from: "… (arXiv 2302.06675)".
Method method(const char* key, std::string_view name, std::string_view help) {
  const std::size_t at = help.rfind(" (arXiv");
  if (at == std::string_view::npos) return {key, std::string(name), std::string(help), ""};
  return {key, std::string(name), std::string(help.substr(0, at)), std::string(help.substr(at + 2, help.size() - at - 3))};
}

template <class Entries>
void list(std::vector<Method>& methods, const char* key, const Entries& entries) {
  for (const auto& each : entries) methods.push_back(method(key, entry_of(each).name, entry_of(each).help));
}

std::vector<Method> all_methods() {
  std::vector<Method> methods;
  list(methods, "model.residual", residual_rules());
  list(methods, "tune.method", parametrizations());
  list(methods, "train.init", inits());
  list(methods, "train.optimizer", optimizers());
  list(methods, "train.step_rule", step_rules());
  list(methods, "train.schedule", schedules());
  list(methods, "train.tokens", token_selections());
  list(methods, "train.precision", precisions());
  list(methods, "stage.sampler", subnet_samplers());
  list(methods, "stage.objective", objectives());
  list(methods, "search.algorithm", search_algorithms());
  return methods;
}

}  // namespace

std::vector<Method> methods_of(const std::string& key) {
  std::vector<Method> all = all_methods(), chosen;
  if (key.empty()) return all;
  std::vector<std::string_view> keys;
  for (const Method& one : all) {
    if (one.key == key) chosen.push_back(one);
    if (keys.empty() || keys.back() != one.key) keys.push_back(one.key);
  }
  if (chosen.empty()) throw unknown_name("key", key, keys);
  return chosen;
}

std::string methods_json(const std::vector<Method>& methods) {
  std::vector<std::string> each;
  for (const Method& one : methods) {
    JsonObject object;
    object.add("key", one.key).add("value", one.value).add("help", one.help).add("source", one.source);
    each.push_back(object.text());
  }
  return json_list(each);
}

}  // namespace elastiform
