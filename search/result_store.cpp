#include "search/result_store.hpp"

#include <cmath>
#include <filesystem>
#include <stdexcept>
#include <tuple>

#include "kernels/errors.hpp"
#include "search/result_file.hpp"
#include "supernet/sha256.hpp"
#include "supernet/storage/durable_file.hpp"

namespace elastiform {

namespace fs = std::filesystem;

std::string SearchDescription::name() const {
  Sha256 sum;
  for (const std::string* field : {&algorithm, &options, &budget, &law, &deployable, &deploy, &weights_hash, &blocks}) {
    const std::uint64_t size = field->size();  // so that moving text from one field to the next changes the name
    sum.add(&size, sizeof size).add(*field);
  }
  return sum.add(&seed, sizeof seed).hex().substr(0, 16);
}

EvaluationKey key_of(const Evaluation& evaluation) {
  return {evaluation.weights_hash, evaluation.split, evaluation.blocks, evaluation.precision, format(evaluation.subnet)};
}

struct ResultStore::State {
  std::string path, journal_path;
  std::unique_ptr<FolderLock> lock;  // both only of a writer
  std::unique_ptr<Journal> journal;
  StoredResults results;
  std::map<EvaluationKey, std::size_t> by_key;                // index in results.evaluations
  std::map<std::string, std::vector<std::size_t>> rounds_of;  // search name → indices in results.rounds
  struct Kept {
    Costs costs;
    double latency_ms = NAN;
  };
  std::map<std::size_t, Kept> kept;  // what the files have of evaluations that are shown with other costs
  std::uintmax_t file_bytes = 0;

  void index_evaluation(std::size_t i) { by_key.emplace(key_of(results.evaluations[i]), i); }

  void load(const std::string& space_hash, const std::string& recipe) {
    if (!fs::exists(path)) {
      results.space_hash = space_hash;
      results.recipe = recipe;
      return;
    }
    results = read_results(path);
    file_bytes = fs::file_size(path);
    if (!space_hash.empty() && results.space_hash != space_hash)
      throw InputError({path, "results of the space " + space_hash.substr(0, 16), "those of " + results.space_hash.substr(0, 16),
                        "use another run folder"});
    for (std::size_t i = 0; i < results.evaluations.size(); ++i) index_evaluation(i);
    for (const SearchDescription& search : results.searches) rounds_of[search.name()];
    for (std::size_t i = 0; i < results.rounds.size(); ++i) {
      const StoredResults::Round& round = results.rounds[i];
      const auto found = rounds_of.find(round.search);
      if (found == rounds_of.end() || round.round != static_cast<std::int64_t>(found->second.size()))
        throw InputError(
            {path + ": /rounds", "the rounds of each search in order", "round " + std::to_string(round.round) + " of " + round.search, ""});
      found->second.push_back(i);
    }
  }

  /// Takes a round over into memory. One that results.h5 has already is passed over: a kill between writing results.h5 and emptying
  /// the journal leaves it in both.
  void apply(StoredRound&& stored) {
    const std::string name = stored.search.name();
    const auto found = rounds_of.find(name);
    const std::int64_t next = found == rounds_of.end() ? 0 : static_cast<std::int64_t>(found->second.size());
    if (stored.round < next) return;
    const std::int64_t first_id = static_cast<std::int64_t>(results.evaluations.size()) + 1;
    const std::int64_t count = static_cast<std::int64_t>(stored.added.size());
    bool whole = stored.round == next;
    for (std::int64_t i = 0; i < count; ++i) whole = whole && stored.added[static_cast<std::size_t>(i)].id == first_id + i;
    for (const std::int64_t id : stored.members) whole = whole && id >= 1 && id < first_id + count;
    if (!whole)
      throw InputError({journal_path, "the rounds that follow results.h5", "others", "put back the results.h5 that it belongs to"});
    if (found == rounds_of.end()) results.searches.push_back(stored.search);
    rounds_of[name].push_back(results.rounds.size());
    results.rounds.push_back({name, stored.round, first_id, count, std::move(stored.members)});
    for (Evaluation& evaluation : stored.added) {
      results.evaluations.push_back(std::move(evaluation));
      index_evaluation(results.evaluations.size() - 1);
    }
  }
};

ResultStore::ResultStore(const std::string& folder, Mode mode, std::string space_hash, std::string recipe,
                         std::chrono::milliseconds patience)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  if (!fs::is_directory(folder)) throw InputError({folder, "a run folder", "none", ""});
  s.path = folder + "/results.h5";
  s.journal_path = folder + "/results.journal";
  if (mode == Mode::write) {
    s.lock = std::make_unique<FolderLock>(folder, "results.lock", patience);
    s.journal = std::make_unique<Journal>(s.journal_path);
  }
  // The journal first: a writer puts rounds into results.h5 before it empties the journal, so none can be missed in between.
  std::vector<StoredRound> rounds;
  Journal::read(s.journal_path, [&](std::uint64_t, std::string_view record) { rounds.push_back(decode_round(record, s.journal_path)); });
  s.load(space_hash, recipe);
  for (StoredRound& round : rounds) s.apply(std::move(round));
  if (mode == Mode::write && (!rounds.empty() || !fs::exists(s.path))) fold();
}

ResultStore::~ResultStore() {
  try {
    if (state_->journal && state_->journal->bytes() > 0) fold();
  } catch (const std::exception&) {
    // Nothing is lost: the journal has every round, and the next writer folds it.
  }
}

void ResultStore::append(const SearchDescription& search, std::vector<Evaluation>& round) {
  State& s = *state_;
  if (!s.journal) throw std::logic_error("append to a result store that was opened to read");
  if (round.empty()) return;
  const std::int64_t known = static_cast<std::int64_t>(s.results.evaluations.size());
  const std::string name = search.name();
  const auto past = s.rounds_of.find(name);
  StoredRound stored{search, past == s.rounds_of.end() ? 0 : static_cast<std::int64_t>(past->second.size()), {}, {}};
  std::map<EvaluationKey, std::int64_t> added;  // an equal key twice in a round is one evaluation
  for (const Evaluation& evaluation : round) {
    if (evaluation.id < 0 || evaluation.id > known)
      throw std::logic_error("evaluation " + std::to_string(evaluation.id) + " is not in the store");
    std::int64_t id = evaluation.id;
    if (id == 0) {
      const EvaluationKey key = key_of(evaluation);
      const auto memo = s.by_key.find(key);
      id = memo != s.by_key.end() ? s.results.evaluations[memo->second].id
                                  : added.emplace(key, known + 1 + static_cast<std::int64_t>(added.size())).first->second;
    }
    if (id == known + 1 + static_cast<std::int64_t>(stored.added.size())) {
      Evaluation& fresh = stored.added.emplace_back(evaluation);
      fresh.id = id;
      fresh.round = stored.round;
      if (fresh.search.empty()) fresh.search = name;
    }
    stored.members.push_back(id);
  }
  s.journal->append(encode_round(stored));
  s.journal->commit();
  const std::vector<std::int64_t> members = stored.members;
  s.apply(std::move(stored));
  for (std::size_t i = 0; i < round.size(); ++i) round[i] = s.results.evaluations[static_cast<std::size_t>(members[i] - 1)];
  if (s.journal->bytes() > s.file_bytes / 4) fold();
}

void ResultStore::show_costs(const std::string& deploy, const std::function<Costs(const Subnet&)>& costs) {
  State& s = *state_;
  std::map<std::string, bool> same;
  for (const SearchDescription& search : s.results.searches) same[search.name()] = search.deploy == deploy;
  for (std::size_t i = 0; i < s.results.evaluations.size(); ++i) {
    Evaluation& evaluation = s.results.evaluations[i];
    if (same[evaluation.search]) continue;
    s.kept.emplace(i, State::Kept{evaluation.costs, evaluation.latency_ms});
    evaluation.costs = costs(evaluation.subnet);
    evaluation.latency_ms = NAN;
  }
}

void ResultStore::show_latencies(const std::function<void(const Subnet&, Costs&)>& predict) {
  for (Evaluation& evaluation : state_->results.evaluations) predict(evaluation.subnet, evaluation.costs);
}

void ResultStore::set_latencies(const std::vector<std::pair<std::int64_t, double>>& milliseconds) {
  auto& all = state_->results.evaluations;
  for (const auto& [id, median] : milliseconds) {
    if (id < 1 || id > static_cast<std::int64_t>(all.size())) throw std::logic_error("set_latencies: no evaluation of that id");
    all[static_cast<std::size_t>(id - 1)].latency_ms = median;
  }
  if (!milliseconds.empty()) fold();  // the journal only has new rounds
}

void ResultStore::forget_latencies() {
  State& s = *state_;
  for (Evaluation& evaluation : s.results.evaluations) evaluation.latency_ms = NAN;
  for (auto& [i, kept] : s.kept) kept.latency_ms = NAN;
  fold();
}

const std::vector<Evaluation>& ResultStore::evaluations() const { return state_->results.evaluations; }

std::optional<Evaluation> ResultStore::find(std::int64_t id) const {
  const auto& all = state_->results.evaluations;
  if (id < 1 || id > static_cast<std::int64_t>(all.size())) return std::nullopt;
  return all[static_cast<std::size_t>(id - 1)];
}

std::optional<Evaluation> ResultStore::find(const EvaluationKey& key) const {
  const auto found = state_->by_key.find(key);
  if (found == state_->by_key.end()) return std::nullopt;
  return state_->results.evaluations[found->second];
}

std::vector<SearchDescription> ResultStore::searches() const { return state_->results.searches; }

std::vector<std::vector<Evaluation>> ResultStore::rounds(const std::string& search_name) const {
  std::vector<std::vector<Evaluation>> rounds;
  const auto found = state_->rounds_of.find(search_name);
  if (found == state_->rounds_of.end()) return rounds;
  for (const std::size_t i : found->second) {
    auto& round = rounds.emplace_back();
    for (const std::int64_t id : state_->results.rounds[i].members)
      round.push_back(state_->results.evaluations[static_cast<std::size_t>(id - 1)]);
  }
  return rounds;
}

void ResultStore::fold() {
  State& s = *state_;
  if (!s.journal) throw std::logic_error("fold of a result store that was opened to read");
  const auto exchange = [&] {
    for (auto& [i, kept] : s.kept) {
      std::swap(kept.costs, s.results.evaluations[i].costs);
      std::swap(kept.latency_ms, s.results.evaluations[i].latency_ms);
    }
  };
  exchange();
  try {
    write_results(s.results, s.path);
  } catch (...) {
    exchange();
    throw;
  }
  exchange();
  s.file_bytes = fs::file_size(s.path);
  fail_point();
  s.journal->clear();
}

}  // namespace elastiform
