#include "search/result_file.hpp"

#include <map>
#include <utility>

#include "kernels/errors.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "version.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kVersion = 1;

// One list of columns a row type, so that writing and reading cannot disagree. A row is visited with (name, member).
template <class Row, class Visit>
void for_columns_of_evaluation(Row& e, Visit&& visit) {
  visit("id", e.id);
  visit("subnet", e.subnet);
  visit("weights_hash", e.weights_hash);
  visit("split", e.split);
  visit("blocks", e.blocks);
  visit("precision", e.precision);
  visit("loss", e.score.loss);
  visit("loss_se", e.score.loss_se);
  visit("accuracy", e.score.accuracy);
  visit("parameters", e.costs.parameters);
  visit("block_parameters", e.costs.block_parameters);
  visit("macs", e.costs.macs);
  visit("inference_bytes", e.costs.inference_bytes);
  visit("training_bytes", e.costs.training_bytes);
  visit("latency_ms", e.latency_ms);
  visit("search", e.search);
  visit("round", e.round);
  visit("seconds", e.score.seconds);
}

template <class Row, class Visit>
void for_columns_of_search(Row& s, Visit&& visit) {
  visit("algorithm", s.algorithm);
  visit("options", s.options);
  visit("budget", s.budget);
  visit("law", s.law);
  visit("deployable", s.deployable);
  visit("seed", s.seed);
  visit("deploy", s.deploy);
  visit("weights_hash", s.weights_hash);
  visit("blocks", s.blocks);
}

std::string cell(const std::string& value) { return value; }
std::string cell(const Subnet& value) { return format(value); }
double cell(double value) { return value; }
std::int64_t cell(std::int64_t value) { return value; }
std::int64_t cell(std::uint64_t value) { return static_cast<std::int64_t>(value); }  // a seed from 2^63 reads as negative

void from_cell(std::string& member, const std::string& value) { member = value; }
void from_cell(Subnet& member, const std::string& value) { member = parse_subnet(value); }
void from_cell(double& member, double value) { member = value; }
void from_cell(std::int64_t& member, std::int64_t value) { member = value; }
void from_cell(std::uint64_t& member, std::int64_t value) { member = static_cast<std::uint64_t>(value); }

const auto& column_like(const ColumnTable& table, const char* name, const std::string&) { return table.texts(name); }
const auto& column_like(const ColumnTable& table, const char* name, const Subnet&) { return table.texts(name); }
const auto& column_like(const ColumnTable& table, const char* name, double) { return table.reals(name); }
const auto& column_like(const ColumnTable& table, const char* name, std::int64_t) { return table.integers(name); }
const auto& column_like(const ColumnTable& table, const char* name, std::uint64_t) { return table.integers(name); }

/// for_columns: one of the two lists above, with its type of row bound.
template <class Row, class ForColumns>
ColumnTable to_table(const std::vector<Row>& rows, ForColumns&& for_columns) {
  ColumnTable table;
  const Row names{};
  for_columns(names, [&](const char* name, const auto& member) { table.add(name, std::vector<decltype(cell(member))>()); });
  for (const Row& row : rows) {
    std::size_t c = 0;
    for_columns(row, [&](const char*, const auto& member) {
      std::get<std::vector<decltype(cell(member))>>(table.columns[c++].values).push_back(cell(member));
    });
  }
  return table;
}

template <class Row, class ForColumns>
std::vector<Row> from_table(const ColumnTable& table, ForColumns&& for_columns) {
  std::vector<Row> rows(table.rows());
  Row names{};
  for_columns(names, [&](const char* name, auto& member) { column_like(table, name, member); });  // even of no rows, all columns
  for (std::size_t r = 0; r < rows.size(); ++r)
    for_columns(rows[r], [&](const char* name, auto& member) { from_cell(member, column_like(table, name, member)[r]); });
  return rows;
}

const auto kEvaluationColumns = [](auto& row, auto&& visit) { for_columns_of_evaluation(row, visit); };
const auto kSearchColumns = [](auto& row, auto&& visit) { for_columns_of_search(row, visit); };

}  // namespace

void write_results(const StoredResults& results, const std::string& path) {
  Hdf5Writer file(path, "results");
  file.attribute("/", "format", "elastiform-results");
  file.attribute("/", "version", kVersion);
  file.attribute("/", "space_hash", results.space_hash);
  file.attribute("/", "recipe", results.recipe);
  file.attribute("/", "code_version", ELASTIFORM_VERSION "+" ELASTIFORM_COMMIT);

  ColumnTable evaluations = to_table(results.evaluations, kEvaluationColumns);
  ColumnTable::Integers counts;
  std::vector<std::span<const float>> block_losses;
  for (const Evaluation& e : results.evaluations) {
    counts.push_back(static_cast<std::int64_t>(e.score.block_losses.size()));
    block_losses.emplace_back(e.score.block_losses);
  }
  evaluations.add("block_count", std::move(counts));
  file.table("/evaluations", evaluations);
  file.ragged("/block_losses", block_losses);

  ColumnTable searches = to_table(results.searches, kSearchColumns);
  ColumnTable::Texts names;
  for (const SearchDescription& search : results.searches) names.push_back(search.name());
  searches.columns.insert(searches.columns.begin(), {"name", std::move(names)});
  file.table("/searches", searches);

  ColumnTable::Texts search;
  ColumnTable::Integers round, first_id, count, first_member, member_count, members;
  for (const StoredResults::Round& r : results.rounds) {
    search.push_back(r.search);
    round.push_back(r.round);
    first_id.push_back(r.first_id);
    count.push_back(r.count);
    first_member.push_back(static_cast<std::int64_t>(members.size()));
    member_count.push_back(static_cast<std::int64_t>(r.members.size()));
    members.insert(members.end(), r.members.begin(), r.members.end());
  }
  ColumnTable rounds;
  rounds.add("search", std::move(search));
  rounds.add("round", std::move(round));
  rounds.add("first_id", std::move(first_id));
  rounds.add("count", std::move(count));
  rounds.add("first_member", std::move(first_member));
  rounds.add("members", std::move(member_count));
  file.table("/rounds", rounds);
  file.dataset("/round_members", std::span<const std::int64_t>(members));
  file.close();
}

StoredResults read_results(const std::string& path) {
  const Hdf5Reader file(path, "results");
  if (const std::int64_t version = file.integer_attribute("/", "version"); version > kVersion)
    throw InputError({path, "results of version " + std::to_string(kVersion), std::to_string(version), "use a newer elastiform"});
  StoredResults results;
  results.space_hash = file.text_attribute("/", "space_hash");
  results.recipe = file.text_attribute("/", "recipe");

  const ColumnTable evaluations = file.table("/evaluations");
  results.evaluations = from_table<Evaluation>(evaluations, kEvaluationColumns);
  auto losses = file.ragged("/block_losses", evaluations.integers("block_count"));
  for (std::size_t i = 0; i < results.evaluations.size(); ++i) {
    if (results.evaluations[i].id != static_cast<std::int64_t>(i) + 1)
      throw InputError({evaluations.where, "ids 1, 2, 3, …", std::to_string(results.evaluations[i].id), ""});
    results.evaluations[i].score.block_losses = std::move(losses[i]);
  }

  results.searches = from_table<SearchDescription>(file.table("/searches"), kSearchColumns);
  const ColumnTable rounds = file.table("/rounds");
  const std::vector<std::int64_t> members = file.integers("/round_members");
  const std::int64_t known = static_cast<std::int64_t>(results.evaluations.size()), size = static_cast<std::int64_t>(members.size());
  for (const std::int64_t id : members)
    if (id < 1 || id > known) throw InputError({path + ": /round_members", "ids of evaluations", std::to_string(id), ""});
  for (std::size_t i = 0; i < rounds.rows(); ++i) {
    const std::int64_t first = rounds.integers("first_member")[i], count = rounds.integers("members")[i];
    if (first < 0 || count < 0 || first > size || count > size - first)
      throw InputError(
          {rounds.where, "members inside /round_members", std::to_string(first) + " and " + std::to_string(count) + " more", ""});
    results.rounds.push_back({rounds.texts("search")[i],
                              rounds.integers("round")[i],
                              rounds.integers("first_id")[i],
                              rounds.integers("count")[i],
                              {members.begin() + first, members.begin() + first + count}});
  }
  return results;
}

}  // namespace elastiform
