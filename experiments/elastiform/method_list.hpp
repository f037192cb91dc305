#pragma once

#include <string>
#include <vector>

namespace elastiform {

/// What a key of a recipe can be set to, from the registry that reads it.
struct Method {
  std::string key, value;    // "train.optimizer", "lion"
  std::string help, source;  // source: where it was published; empty: nowhere
  std::string line() const { return key + " = \"" + value + '"'; }
};

/// Of one key, or of all. Throws InputError for a key that no registry stands behind.
std::vector<Method> methods_of(const std::string& key);
std::string methods_json(const std::vector<Method>& methods);

}  // namespace elastiform
