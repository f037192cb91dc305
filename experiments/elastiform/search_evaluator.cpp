#include "experiments/elastiform/search_evaluator.hpp"

namespace elastiform {

SearchEvaluator::SearchEvaluator(Run& run, const CommonOptions& common)
    : pool_(threads_of(common)),
      own_(run.network(), run.weights(), run.data(), run.search_set(), pool_, evaluation_compute(run.recipe(), common.device)),
      shared_(own_, ranks_of(common)) {
  if (common.job != nullptr) {
    common.job->say_when_lost("whole rounds are kept; the same command goes on");
    common.job->call_followers();
  }
  const auto backend = make_backend(evaluation_compute(run.recipe(), common.device), pool_);
  const BuildIdentity build = this_build(*backend);
  require_equal(ranks_of(common), {{"weights, SHA-256", run.supernet().weights_hash},
                                   {"text, SHA-256", run.supernet().data_sha256},
                                   {"what is scored", run.search_set().text()},
                                   {"instruction set", build.isa + ", " + build.precision},
                                   {"program", build.commit + ", " + build.compiler}});
}

}  // namespace elastiform
