#pragma once

#include <memory>
#include <string>
#include <vector>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "search/inference_clock.hpp"
#include "search/latency_table.hpp"

namespace elastiform {

/// Empty, or why a table cannot predict latencies for `run` here: measured by us on another machine or under another [deploy], or shapes of
/// the space are missing, networks are none of it, or sums overflow. In the words that follow "found"; `file` is where it is.
std::string why_unusable(const LatencyTable& table, const SearchSpace& space, const Deploy& deploy, const std::string& file,
                         const std::string& run);

/// Times extracted subnets of a run on this machine; `threads` and the rest of `deploy` as they are.
class RunClock final : public InferenceClock {
 public:
  RunClock(const Run& run, const Deploy& deploy, Device device);
  ~RunClock() override;
  std::vector<PassTimes> time(const Subnet& subnet, int passes, Timed timed) override;
  /// This machine and, of another device than the processor, its name.
  Machine machine() const;

 private:
  ThreadPool pool_;
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<InferenceClock> clock_;
};

/// Before a search whose answers are measured: InputError unless the device of the run's table is here and the one that it was measured on.
void check_device(const Run& run);

/// How well a table predicts its random networks: sums of its rows as they are, its predictions by median and by 10 % quantile, and those
/// of the lines that searches limit with.
struct TableErrors {
  PredictionError sums, table, low, lines;
  double guard = 0;
};
TableErrors errors_of(const LatencyTable& table, const SearchSpace& space);

/// "3.210 ms (10-90 %: 3.150 ms to 3.600 ms)"
std::string time_text(const Milliseconds& time);

/// What `profile` prints: rows, errors, noise floor, guard band.
std::string table_text(const LatencyTable& table, const SearchSpace& space);
std::string table_json(const LatencyTable& table, const SearchSpace& space, const std::string& path);

}  // namespace elastiform
