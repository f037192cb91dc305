#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "kernels/collectives/communicator.hpp"
#include "kernels/device.hpp"
#include "kernels/parallel.hpp"
#include "search/evaluator.hpp"
#include "supernet/data/data_source.hpp"
#include "supernet/network.hpp"

namespace elastiform {

/// Which tokens score a subnet.
struct ScoringSet {
  Split split = Split::search;
  std::int64_t stride = 0;     // tokens between windows; T: no overlap, T/2: the protocol of reports
  std::int64_t segments = 0;   // 0: the whole split, else its first so many blocks
  double bytes_per_token = 1;  // of what is scored (TextData::bytes_per_token); 1 of the byte tokenizer
  std::string text() const;    // "stride=64,segments=all": part of an evaluation's key; of tokens ",bytes_per_token=4.25" too
};
/// What stands in such a text; 1 when nothing does.
double bytes_per_token_of(std::string_view blocks);

/// Two subnets that agree on embed width and the first k blocks have the same activations after block k, so a population is evaluated as a
/// prefix tree, depth first, one activation per level alive; workers take disjoint batches of the data. Bit for bit what evaluating the
/// subnets one by one gives, on any number of threads. On a device other than the CPU one worker takes the batches in turn.
class PrefixEvaluator final : public Evaluator {
 public:
  PrefixEvaluator(const Network& network, const Weights& weights, const DataSource& data, ScoringSet set, const ThreadPool& pool,
                  Compute compute);
  ~PrefixEvaluator() override;
  std::vector<Score> evaluate(std::span<const Subnet> subnets) override;
  /// From now on the ranks share evaluate(): all call it with the same subnets, each takes every size()-th batch of data, and rank 0 alone
  /// gets the scores, the bits of one process; the others nothing.
  void share_batches(Communicator& ranks);
  /// evaluate() asks between batches of data, from any worker, and throws Interrupted once the answer is true.
  void stop_when(std::function<bool()> stop);
  /// Block forwards that the last evaluate() ran, and how many one-by-one evaluation would have run.
  struct Work {
    std::int64_t blocks_run = 0, blocks_one_by_one = 0;
  };
  Work last_work() const;
  std::int64_t plan_bytes(std::span<const Subnet> subnets) const;  // of all workers together: arenas, and what they pack

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace elastiform
