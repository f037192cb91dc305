#include <fmt/core.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "experiments/elastiform/inspected_file.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/recipe_data.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "kernels/errors.hpp"
#include "search/result_file.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/formats/safetensors.hpp"
#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/hdf5_file.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;
using Lines = std::vector<std::string>;

constexpr std::size_t kMostObjects = 24;  // listed one by one; a supernet has hundreds
constexpr std::size_t kMostJson = 1 << 20;

std::string size_of(const std::string& path) { return bytes_text(static_cast<double>(fs::file_size(path))); }

std::string plural(std::size_t count, const std::string& what) {
  return grouped(static_cast<std::int64_t>(count)) + " " + what + (count == 1 ? "" : "s");
}

std::int64_t product(const auto& shape) {
  std::int64_t elements = 1;
  for (const auto extent : shape) elements *= static_cast<std::int64_t>(extent);
  return elements;
}

std::string search_line(const SearchDescription& search) {
  return fmt::format("search {}: {}, {}, seed {}", search.name(), search.algorithm, search.budget.empty() ? "no budget" : search.budget,
                     search.seed);
}

std::string by_split(const std::vector<Evaluation>& evaluations) {
  std::map<std::string, std::size_t> splits;
  for (const Evaluation& evaluation : evaluations) ++splits[evaluation.split];
  std::string text = plural(evaluations.size(), "evaluation");
  for (const auto& [split, count] : splits) text += fmt::format(", {} on the {} split", count, split);
  return text;
}

void add_store(const ResultStore& store, Lines& lines) {
  lines.push_back(by_split(store.evaluations()));
  for (const SearchDescription& search : store.searches()) {
    const auto rounds = store.rounds(search.name());
    std::size_t evaluations = 0;
    for (const auto& round : rounds) evaluations += round.size();
    lines.push_back(fmt::format("{}: {} of {}", search_line(search), plural(rounds.size(), "round"), plural(evaluations, "evaluation")));
  }
}

/// What every object is when there are few, and what each group holds when there are many.
void add_objects(const Hdf5Reader& file, Lines& lines) {
  Lines attributes, objects;
  std::map<std::string, std::size_t> groups;
  for (const std::string& line : file.listing()) {
    const std::size_t blank = line.find(' '), at = line.find('@');
    if (at < blank) {
      attributes.push_back("  " + line);
      continue;
    }
    objects.push_back("  " + line);
    ++groups[line.substr(0, line.find('/', 1) < blank ? line.find('/', 1) : blank)];
  }
  const auto list = [&](const Lines& some) { lines.insert(lines.end(), some.begin(), some.end()); };
  list(attributes);
  if (objects.size() <= kMostObjects) return list(objects);
  for (const auto& group : groups) {
    const auto first = std::find_if(objects.begin(), objects.end(),
                                    [&](const std::string& line) { return line.compare(2, group.first.size(), group.first) == 0; });
    lines.push_back(fmt::format("  {}: {}, first {}", group.first, plural(group.second, "dataset"), first->substr(2)));
  }
}

Lines summary_of_hdf5(const std::string& path) {
  const Hdf5Reader file(path, "");
  Lines lines{fmt::format("{}: {} file, {}, SHA-256 verified", path, file.kind(), size_of(path))};
  if (file.kind() == "results") {
    const StoredResults results = read_results(path);
    lines.push_back(by_split(results.evaluations));
    for (const SearchDescription& search : results.searches) lines.push_back(search_line(search));
  }
  add_objects(file, lines);
  return lines;
}

Lines summary_of_journal(const std::string& path) {
  std::size_t rounds = 0, evaluations = 0;
  Journal::read(path, [&](std::uint64_t, std::string_view record) {
    ++rounds;
    evaluations += decode_round(record, path).added.size();
  });
  return {fmt::format("{}: journal, {}", path, size_of(path)), fmt::format("{} with {} that are not folded into results.h5 yet",
                                                                           plural(rounds, "round"), plural(evaluations, "new evaluation"))};
}

void add_log(const std::string& path, Lines& lines) {
  std::size_t rows = 0;
  std::string last;
  for_training_rows(path, true, [&](std::string_view row) {
    ++rows;
    last = row;
  });
  std::string text = "training log: " + plural(rows, "row");
  const auto row = nlohmann::json::parse(last, nullptr, false);
  const auto loss = row.is_object() ? row.find("loss") : row.end();
  if (row.is_object() && row.contains("step")) text += ", the last of step " + row["step"].dump();
  if (row.is_object() && loss != row.end() && loss->is_object())
    for (const auto& [name, value] : loss->items())
      if (value.is_number()) text += fmt::format(", {} {:.4f}", name, value.get<double>());
  lines.push_back(text + (loss != row.end() ? " nats/token" : ""));
}

Lines summary_of_safetensors(const std::string& path) {
  const safetensors::Reader file(path);
  std::map<std::string, std::pair<std::size_t, std::int64_t>> types;
  for (const auto& [name, entry] : file.entries()) {
    ++types[entry.dtype].first;
    types[entry.dtype].second += product(entry.shape);
  }
  Lines lines{fmt::format("{}: safetensors file, {}", path, size_of(path))};
  for (const auto& [type, sum] : types)
    lines.push_back(fmt::format("{} of {}, {} values", plural(sum.first, "tensor"), type, grouped(sum.second)));
  return lines;
}

Lines summary_of_hugging_face(const std::string& folder) {
  const std::string path = folder + "/config.json";
  const auto config = parse_untrusted_json(read_small_file(path, kMostJson), path, 16);
  if (!config.is_object()) throw InputError({path, "a JSON object", "something else", ""});
  Lines lines{fmt::format("{}: Hugging Face model", folder)};
  for (const char* key : {"model_type", "vocab_size", "hidden_size", "n_embd", "num_hidden_layers", "n_layer", "num_attention_heads",
                          "n_head", "num_key_value_heads", "intermediate_size", "n_inner", "max_position_embeddings"})
    if (const auto found = config.find(key); found != config.end() && found->is_primitive())
      lines.push_back(fmt::format("  {} = {}", key, found->dump()));
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    const Lines more = summary_of_safetensors(entry.path().string());
    lines.insert(lines.end(), more.begin(), more.end());
  }
  return lines;
}

Lines summary_of_run(const std::string& folder) {
  const RunPaths paths{folder};
  Recipe recipe = Recipe::load(paths.recipe());
  Lines lines{fmt::format("{}: run", folder)};
  lines.push_back(fmt::format("recipe: {} steps of {} sequences, {}, {}, data {}", grouped(recipe.train.steps), recipe.train.sequences,
                              plural(recipe.stages.size(), "stage"), recipe.train.optimizer, *main_path(recipe.data).path));
  lines.push_back(fmt::format("space: smallest {}, largest {}", format(recipe.space.smallest()), format(recipe.space.largest())));
  if (fs::exists(paths.supernet())) {
    const Hdf5Reader file(paths.supernet(), "supernet");
    lines.push_back(fmt::format("supernet.h5: {} after {} steps, {}, {}, commit {}, weights {}", size_of(paths.supernet()),
                                grouped(file.integer_attribute("/", "step")), recipe.train.precision, file.text_attribute("/", "isa"),
                                file.text_attribute("/", "commit"), file.text_attribute("/", "weights_hash").substr(0, 16)));
  } else {
    lines.emplace_back("supernet.h5: none yet");
  }
  if (recipe.train.teacher)
    lines.push_back(fmt::format("taught by: {}, weights {} (teacher.h5)", format(*recipe.train.teacher), recipe.teacher.substr(0, 16)));
  if (!recipe.base.empty()) lines.push_back(fmt::format("tuned from: weights {} (base.h5)", recipe.base.substr(0, 16)));
  std::error_code none;
  for (const auto& [label, directory] :
       {std::pair<const char*, std::string>{"checkpoint", paths.checkpoints()}, {"export", paths.exports()}}) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory, none)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    for (const std::string& name : names) lines.push_back(fmt::format("{}: {}", label, name));
  }
  if (fs::exists(paths.training_log())) add_log(paths.training_log(), lines);
  add_store(ResultStore(folder, ResultStore::Mode::read, "", ""), lines);
  return lines;
}

}  // namespace

std::vector<std::string> summary_of_path(const std::string& path) {
  switch (kind_of_path(path)) {
    case InspectedKind::run: return summary_of_run(path);
    case InspectedKind::hdf5: return summary_of_hdf5(path);
    case InspectedKind::journal: return summary_of_journal(path);
    case InspectedKind::safetensors: return summary_of_safetensors(path);
    case InspectedKind::hugging_face: return summary_of_hugging_face(path);
    case InspectedKind::training_log: break;
  }
  Lines lines{fmt::format("{}: {}", path, size_of(path))};
  add_log(path, lines);
  return lines;
}

}  // namespace elastiform
