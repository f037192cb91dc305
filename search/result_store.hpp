#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "search/evaluator.hpp"

namespace elastiform {

/// A search is a named stream of rounds; its name is the hash of everything that decides its course.
struct SearchDescription {
  std::string algorithm, options, budget, law, deployable, deploy, weights_hash, blocks;
  std::uint64_t seed = 0;
  std::string name() const;  // first 16 hex digits of the SHA-256 of the fields
};

/// What decides whether two evaluations are the same one.
struct EvaluationKey {
  std::string weights_hash, split, blocks, precision, subnet;  // subnet: canonical text
  auto operator<=>(const EvaluationKey&) const = default;
};
EvaluationKey key_of(const Evaluation& evaluation);

/// Every evaluation of a run (docs/results.md): results.h5 and a journal beside it. Whole rounds only, durable when append returns; folded
/// into results.h5 when the journal exceeds a quarter of the file and when a writer opens or closes it. Opening to read writes nothing.
/// One writer at a time (results.lock); readers need no lock.
class ResultStore {
 public:
  enum class Mode : std::uint8_t { read, write };
  static constexpr std::chrono::milliseconds kPatience{5000};  // an evaluation is kept in less, on a busy disk too
  /// `recipe` and `space_hash` go into the root attributes of a new file; a differing space hash is refused.
  /// A writer waits `patience` for one that holds the lock for a moment, then throws FolderLocked.
  ResultStore(const std::string& folder, Mode mode, std::string space_hash, std::string recipe,
              std::chrono::milliseconds patience = kPatience);
  ~ResultStore();

  /// Assigns ids to the evaluations that have none (id 0; ids begin at 1), and keeps them as one round of `search`. An evaluation
  /// whose id is already set, or whose key the store has, is one that it has: the round refers to it. `round` becomes what is stored.
  void append(const SearchDescription& search, std::vector<Evaluation>& round);

  /// From now on every evaluation that was costed under another [deploy] than `deploy` (the text in its search's description) is handed out
  /// with costs(subnet) and no measured latency. Files keep what they have: /searches says under which [deploy] a row's costs are meant.
  void show_costs(const std::string& deploy, const std::function<Costs(const Subnet&)>& costs);

  /// The same for predicted latencies, which no file keeps: of every evaluation that is here already.
  void show_latencies(const std::function<void(const Subnet&, Costs&)>& predict);

  /// Medians that were measured afterwards, by id: they join their rows, on disk when it returns. A row that was costed under another
  /// [deploy] keeps what its file has: there it would mean something else.
  void set_latencies(const std::vector<std::pair<std::int64_t, double>>& milliseconds);
  void forget_latencies();  // all of them, under whatever [deploy]

  const std::vector<Evaluation>& evaluations() const;  // by id
  std::optional<Evaluation> find(std::int64_t id) const;
  std::optional<Evaluation> find(const EvaluationKey& key) const;  // the memo
  std::vector<SearchDescription> searches() const;
  /// The rounds of one search, in order.
  std::vector<std::vector<Evaluation>> rounds(const std::string& search_name) const;

  void fold();  // the journal into results.h5

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace elastiform
