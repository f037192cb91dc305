#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include "experiments/elastiform/inspected_file.hpp"
#include "experiments/elastiform/recipe_data.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "kernels/errors.hpp"
#include "search/result_file.hpp"
#include "supernet/sha256.hpp"
#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/hdf5_file.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

// The same experiment with the data kept somewhere else is the same experiment: data and tokenizer are in the data's SHA-256.
std::string without_place(Recipe recipe) {
  for (const DataPath& place : data_paths(recipe.data)) *place.path = place.key.substr(place.key.find('.') + 1);
  return recipe.text();
}

std::string without_place(const std::string& toml, const std::string& path) { return without_place(Recipe::parse(toml, path)); }

Evaluation without_timings(Evaluation evaluation) {
  evaluation.score.seconds = 0;
  evaluation.latency_ms = 0;
  return evaluation;
}

// Ids count in order of time: a search that was continued after another one has other ids than one in one go, and the same results.
Evaluation without_place(Evaluation evaluation) {
  evaluation.id = evaluation.round = 0;
  evaluation.search.clear();
  return evaluation;
}

std::vector<Evaluation> without_order(const std::vector<Evaluation>& evaluations) {
  std::map<EvaluationKey, Evaluation> sorted;
  for (const Evaluation& evaluation : evaluations) sorted.emplace(key_of(evaluation), without_place(evaluation));
  std::vector<Evaluation> list;
  for (auto& [key, evaluation] : sorted) list.push_back(std::move(evaluation));
  return list;
}

void add_rounds(Sha256& sum, const SearchDescription& search, std::int64_t round, const std::vector<Evaluation>& added,
                const std::vector<std::int64_t>& members) {
  StoredRound stored{search, round, {}, members};
  for (const Evaluation& evaluation : added) stored.added.push_back(without_timings(evaluation));
  sum.add(encode_round(stored));
}

std::string digest_of_store(const ResultStore& store) {
  Sha256 sum;
  add_rounds(sum, {}, 0, without_order(store.evaluations()), {});
  std::map<std::string, SearchDescription> searches;
  for (const SearchDescription& search : store.searches()) searches.emplace(search.name(), search);
  for (const auto& [name, search] : searches) {
    std::int64_t number = 0;
    for (auto& round : store.rounds(name)) {
      for (Evaluation& evaluation : round) evaluation = without_place(evaluation);
      add_rounds(sum, search, number++, round, {});
    }
  }
  return sum.hex();
}

std::string digest_of_journal(const std::string& path) {
  Sha256 sum;
  Journal::read(path, [&](std::uint64_t, std::string_view record) {
    const StoredRound round = decode_round(record, path);
    add_rounds(sum, round.search, round.round, round.added, round.members);
  });
  return sum.hex();
}

std::string digest_of_hdf5(const std::string& path) {
  const Hdf5Reader file(path, "");
  std::vector<std::string> skip = {"/@commit",
                                   "/@isa",
                                   "/@compiler",
                                   "/@code_version",
                                   "/card@version",
                                   "/@recipe",
                                   "/evaluations:seconds",
                                   "/evaluations:latency_ms",
                                   "/training:seconds",
                                   "/training:tokens_per_second",
                                   "/training:flops_per_second"};
  // The program's version is text; the version of the file's own layout is a number, and stays.
  if (file.kind() == "supernet") skip.push_back("/@version");
  Sha256 sum;
  sum.add(file.kind()).add("\n").add(file.digest(skip));
  if (file.has_attribute("/", "recipe")) sum.add(without_place(file.text_attribute("/", "recipe"), path + ": recipe"));
  return sum.hex();
}

std::string digest_of_log(const std::string& path) {
  Sha256 sum;
  for_training_rows(path, false, [&](std::string_view row) { sum.add(row).add("\n"); });
  return sum.hex();
}

std::string digest_of_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<char> buffer(1 << 20);
  Sha256 sum;
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())), file.gcount() > 0)
    sum.add(buffer.data(), static_cast<std::size_t>(file.gcount()));
  if (!file.eof()) throw InputError({path, "a file that can be read", "an error while reading", ""});
  return sum.hex();
}

std::string digest_of_export(const std::string& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.is_regular_file() && entry.path().filename() != "README.md") files.push_back(entry.path());  // names the program's version
  std::sort(files.begin(), files.end());
  Sha256 sum;
  for (const fs::path& file : files) sum.add(file.filename().string() + "\n" + digest_of_bytes(file.string()) + "\n");
  return sum.hex();
}

std::string digest_of_run(const std::string& folder) {
  const RunPaths paths{folder};
  Sha256 sum;
  sum.add("recipe\n").add(without_place(Recipe::load(paths.recipe())));
  if (fs::exists(paths.supernet())) sum.add("supernet\n").add(digest_of_hdf5(paths.supernet()));
  // Through the store: whether a round is still in the journal or already in results.h5 is no difference in results.
  sum.add("results\n").add(digest_of_store(ResultStore(folder, ResultStore::Mode::read, "", "")));
  if (fs::exists(paths.training_log())) sum.add("training\n").add(digest_of_log(paths.training_log()));
  return sum.hex();
}

}  // namespace

std::string digest_of_path(const std::string& path) {
  switch (kind_of_path(path)) {
    case InspectedKind::run: return digest_of_run(path);
    case InspectedKind::hdf5: return digest_of_hdf5(path);
    case InspectedKind::journal: return digest_of_journal(path);
    case InspectedKind::training_log: return digest_of_log(path);
    case InspectedKind::safetensors: return digest_of_bytes(path);
    case InspectedKind::hugging_face: return digest_of_export(path);
  }
  return {};
}

}  // namespace elastiform
