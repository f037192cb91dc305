#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/elastiform/compare/trial.hpp"

namespace elastiform {

/// Every trial of an experiment in one file (docs/compare.md), written anew, durably, after each: who looks finds whole trials.
class TrialStore {
 public:
  /// Reads `path` if it exists. InputError when it holds another experiment, or trials of another build: a table has one author.
  TrialStore(std::string path, const Experiment& experiment);

  std::optional<Trial> find(const Trial& like) const;  // the same training
  void add(const Trial& trial);
  const std::vector<Trial>& trials() const { return trials_; }

 private:
  void read();
  void write() const;

  std::string path_, experiment_;
  std::vector<std::string> subnets_;
  std::vector<Trial> trials_;
};

}  // namespace elastiform
