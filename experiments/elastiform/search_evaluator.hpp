#pragma once

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "kernels/parallel.hpp"
#include "search/shared_evaluator.hpp"

namespace elastiform {

/// What scores the subnets of a run's searches: this process's threads, and under mpirun those of the others too.
class SearchEvaluator {
 public:
  /// On rank 0 it calls the others to the command. Throws InputError when they do not have the same run.
  SearchEvaluator(Run& run, const CommonOptions& common);
  Evaluator& evaluator() { return shared_; }
  /// What the other ranks do: score what rank 0 scores, until it is finished.
  void follow() { shared_.follow(); }
  /// Rank 0, when there is nothing more to score.
  void finish() { shared_.finish(); }

 private:
  ThreadPool pool_;
  PrefixEvaluator own_;
  SharedEvaluator shared_;
};

}  // namespace elastiform
