#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/metric.hpp"
#include "experiments/elastiform/run_folder.hpp"

namespace elastiform {

/// The algorithm of the searches whose rows are of networks that were tuned alone.
inline constexpr std::string_view kFinetuneSearch = "finetune";

/// The best of a search, each extracted and trained alone for some steps, and scored again on the search split.
struct TunedFinalists {
  struct Finalist {
    Evaluation before, after;              // after: of the tuned network; its weights hash is that network's
    std::string folder;                    // its run
    std::size_t rank = 0, rank_after = 0;  // from 1
  };
  std::int64_t steps = 0;
  std::vector<Finalist> finalists;  // in the order of the search
  double tau = 0;                   // Kendall's, of the two rankings; NaN of one finalist
  bool interrupted = false;         // Ctrl-C: what is there is whole, the same command goes on
};

/// Fine-tunes `best` (of a search of that name, best first) as `finetune --subnet ID --method full --steps N` does, each into
/// RUN/finalists/, and scores them; what an earlier session did is taken over, a half trained one goes on. Rows of the tuned networks join
/// the store as a search of algorithm "finetune".
TunedFinalists tune_finalists(const Run& run, ResultStore& store, const std::string& search, const std::vector<Evaluation>& best,
                              std::int64_t steps, const CommonOptions& common);

std::string finalists_text(const TunedFinalists& tuned, const Metric& metric);
std::string finalists_json(const TunedFinalists& tuned, const Metric& metric);

}  // namespace elastiform
