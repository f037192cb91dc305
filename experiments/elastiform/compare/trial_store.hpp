#pragma once

#include <optional>
#include <string>
#include <vector>

#include "experiments/elastiform/compare/trial.hpp"

namespace elastiform {

/// What an experiment's trials are trained on: with another text their losses, with another machine their seconds are not comparable.
struct TrialPlace {
  std::string data_sha256, device, threads, processor;
  static TrialPlace here(const Experiment& experiment, const CommonOptions& common);  // reads the text
};

/// Every trial of an experiment in one file (docs/compare.md), written anew, durably, after each: who looks finds whole trials.
class TrialStore {
 public:
  /// Reads `path`, or makes it, without a trial. InputError when it holds another experiment, or trials of another build or place: a table
  /// has one author.
  TrialStore(std::string path, const Experiment& experiment, TrialPlace place);

  std::optional<Trial> find(const Trial& like) const;  // the same training
  void add(const Trial& trial);
  const std::vector<Trial>& trials() const { return trials_; }

 private:
  void read();
  void write() const;

  std::string path_, experiment_;
  TrialPlace place_;
  std::vector<std::string> subnets_;
  std::vector<Trial> trials_;
};

}  // namespace elastiform
