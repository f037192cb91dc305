#include "experiments/elastiform/import_steps.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <stdexcept>

#include "experiments/elastiform/recipe_data.hpp"
#include "experiments/elastiform/recipe_space.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/teacher_file.hpp"
#include "kernels/device.hpp"
#include "kernels/errors.hpp"
#include "search/feasible_set.hpp"
#include "supernet/data/image_set.hpp"
#include "supernet/importance.hpp"
#include "supernet/storage/durable_file.hpp"
#include "trainers/checkpoint.hpp"
#include "trainers/objectives/objective.hpp"

namespace elastiform {
namespace {

constexpr int kMultiple = 32;  // widths of slices that are fastest
// Tokens that importance looks at: 8 batches of 2,048 in windows of at most 512.
constexpr std::int64_t kCalibrationContext = 512, kCalibrationRows = 2048;
constexpr std::size_t kCalibrationBatches = 8;

/// Fractions of `whole`, rounded up to multiples of `unit`; each once, ascending.
std::vector<int> fractions(int whole, std::initializer_list<double> shares, int unit) {
  std::vector<int> choices;
  for (const double share : shares) {
    const int units = std::max(1, static_cast<int>(std::ceil(share * whole / unit - 1e-9)));
    choices.push_back(std::min(whole, units * unit));
  }
  std::sort(choices.begin(), choices.end());
  choices.erase(std::unique(choices.begin(), choices.end()), choices.end());
  return choices;
}

bool alike(const Subnet& subnet) {
  return std::all_of(subnet.blocks.begin(), subnet.blocks.end(), [&](const BlockGenes& genes) { return genes == subnet.blocks.front(); });
}

// Small steps from weights that are good already; every step trains the largest and two others, and the checkpoint as it was teaches them all
// (arXiv 2003.11142, 2110.08460). A body whose head is zeros has no predictions yet, so there the largest teaches as it learns. Searches begin
// with even cuts, which of trained weights may be ahead of all draws, and learn what blocks are worth (experiments/results/pretrained.md).
std::string training_tables(bool headless) {
  return fmt::format(R"(
[train]
steps = 1000
sequences = 8
rate = 3e-4
decay = 0.01
log_every = 50

[[stage]]
sampler = "sandwich"
objective = "{}"

[search]
algorithm = "predictor"
founders = 16
budgets = ["parameters=..85%", "parameters=..70%"]
)",
                     headless ? "labels+largest" : "labels+teacher");
}

/// Text of the tokenizer.json that goes into the run; empty: bytes.
std::string tokenizer_of(const ImportRequest& request, const DenseModel& model) {
  if (!request.tokenizer && model.no_tokenizer) throw *model.no_tokenizer;
  const Tokenizer tokenizer = request.tokenizer         ? Tokenizer::named(*request.tokenizer)
                              : model.tokenizer.empty() ? Tokenizer::bytes()
                                                        : Tokenizer::parse(model.tokenizer, request.path + ": tokenizer");
  const int ids = tokenizer.vocabulary(), rows = model.model.vocabulary;
  if (!request.tokenizer && tokenizer.is_bytes() && rows != ids)
    throw InputError({request.path, "a tokenizer.json or tokenizer.model for " + std::to_string(rows) + " ids", "none",
                      "--tokenizer PATH/tokenizer.json"});
  if (ids > rows)
    throw InputError({request.tokenizer.value_or(request.path + ": tokenizer"), "ids below " + std::to_string(rows),
                      "ids up to " + std::to_string(ids - 1), ""});
  return tokenizer.json();
}

std::string text_table(const ImportRequest& request, const std::string& tokenizer) {
  return fmt::format("[data]\ntext = {}\ntokenizer = {}\n\n", toml_text(request.text),
                     toml_text(tokenizer.empty() ? "bytes" : request.run + "/tokenizer.json"));
}

std::string images_table(const ImportRequest& request, const DenseModel& model) {
  DataOptions data;
  data.image = model.reading;
  data.image.images = request.images;
  data.image.labels = request.labels;
  return data_table(data);
}

/// What the command must have been given, and must not, for the checkpoint's family.
void check_family(const ImportRequest& request, const ModelConfig& model) {
  const bool images = model.classifies();
  const auto refuse = [&](const char* option, const char* found) {
    throw InputError({std::string("elastiform import: ") + option, images ? "only of a language model" : "only of a classifier of images",
                      found, images ? "leave it out: images are what it reads" : "leave it out: text is what it reads"});
  };
  if (images && request.images.empty())
    throw InputError({"elastiform import", "--images FILE-or-FOLDER", "none", "what the classifier is trained and scored on"});
  if (!images && request.text.empty())
    throw InputError({"elastiform import", "--text FILE", "none", "what the run is trained and scored on"});
  if (images && !request.text.empty()) refuse("--text", request.text.c_str());
  if (images && request.tokenizer) refuse("--tokenizer", request.tokenizer->c_str());
  if (!images && !request.images.empty()) refuse("--images", request.images.c_str());
  if (!images && !request.labels.empty()) refuse("--labels", request.labels.c_str());
  if (!images && request.classes) refuse("--classes", "a language model");
}

/// The body with a head of zeros for so many classes.
DenseModel with_classes(const DenseModel& body, std::optional<int> classes) {
  ModelConfig config = body.model;
  config.vocabulary = *classes;
  DenseModel made{config, body.subnet, Weights(std::make_shared<const WeightTable>(SearchSpace::of(config, body.subnet)), DType::float32)};
  for (const TensorSpec& tensor : made.weights.table().tensors()) {
    if (tensor.name == "head" || tensor.name == "head.bias") continue;
    const ConstView from = body.weights.view(tensor.name);
    const View to = made.weights.view(tensor);
    for (std::int64_t row = 0; row < to.rows; ++row) std::copy_n(from.row<float>(row), to.columns, to.row<float>(row));
  }
  made.reading = body.reading;
  made.headless = true;
  return made;
}

DenseModel load(const ImportRequest& request) {
  DenseModel model = load_model(request.path, request.context);
  check_family(request, model.model);
  if (model.headless && !request.classes)
    throw InputError({request.path, "a head, or --classes N, which gives the body one of zeros", "neither", ""});
  if (!model.headless && request.classes)
    throw InputError({"elastiform import: --classes", "a body without a head",
                      request.path + ", which has one for " + std::to_string(model.model.vocabulary) + " classes", "leave it out"});
  return model.headless ? with_classes(model, request.classes) : std::move(model);
}

/// Whether they are more than their numbers, which is what is written where there are no names.
bool are_names(const std::vector<std::string>& classes) {
  for (std::size_t i = 0; i < classes.size(); ++i)
    if (const std::string number = std::to_string(i); classes[i] != number && classes[i] != "LABEL_" + number) return true;
  return false;
}

/// A class that both sides know must have one number. A name that one side has alone, as a WordNet id, says nothing of the order.
void check_classes(const ImportRequest& request, const std::vector<std::string>& ours, const std::vector<std::string>& theirs) {
  if (!are_names(ours) || !are_names(theirs)) return;
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    const auto found = std::find(ours.begin(), ours.end(), theirs[i]);
    if (found == ours.end() || (i < ours.size() && ours[i] == theirs[i])) continue;
    throw InputError({request.images, fmt::format("class {} to be \"{}\", as in {}", i, theirs[i], request.path),
                      fmt::format("\"{}\" as class {}", theirs[i], found - ours.begin()),
                      fmt::format("name the folders so that they sort in the checkpoint's order, e.g. {:03}_{}", i, theirs[i])});
  }
}

Recipe recipe_of(const ImportRequest& request, const DenseModel& model, const std::string& tokenizer) {
  std::vector<std::string> overrides;
  for (const std::string& text : request.space) overrides.push_back("space." + text);
  for (const std::string& text : request.set) {
    for (const char* taken : {"model.", "tune.", "teacher.", "data.text=", "data.tokenizer=", "data.images=", "data.labels="})
      if (text.starts_with(taken))
        throw InputError({"elastiform import: --set", "a key that the checkpoint and the command's options leave open", text, ""});
    overrides.push_back(text);
  }
  const std::string toml = (model.model.classifies() ? images_table(request, model) : text_table(request, tokenizer)) +
                           space_tables(default_import_space(model.model, model.subnet)) + training_tables(model.headless);
  Recipe recipe = Recipe::parse(toml, "of the import", overrides);
  for (const Stage& stage : recipe.stages)
    if (model.headless && make_objective(stage)->needs_teacher())
      throw InputError({"elastiform import: --set", "objectives without a frozen teacher: a head of zeros finds all classes equally likely",
                        stage.objective, "labels+largest, or labels"});
  if (recipe.space.largest() != model.subnet)
    throw InputError({"elastiform import: --space", "a space whose largest subnet is the checkpoint, " + format(model.subnet),
                      format(recipe.space.largest()), "let every list hold the checkpoint's own size as its largest"});
  if (!(recipe.space.model() == model.model)) throw std::logic_error("import: the recipe describes another model");
  if (model.model.classifies()) check_classes(request, class_names(recipe.data.image, recipe.space.model()), model.class_names);
  return recipe;
}

/// The network as the largest subnet of the recipe's space.
Weights placed(const DenseModel& model, const SearchSpace& space) {
  Weights weights(std::make_shared<const WeightTable>(space), DType::float32);
  for (const TensorSpec& tensor : weights.table().tensors()) {
    const ConstView from = model.weights.view(tensor.name);
    const View to = weights.view(tensor);
    if (from.rows != to.rows || from.columns != to.columns) throw std::logic_error("import: " + tensor.name + " has another shape");
    for (std::int64_t row = 0; row < to.rows; ++row) std::copy_n(from.row<float>(row), to.columns, to.row<float>(row));
  }
  return weights;
}

/// What the network does with places drawn from the training part of a text, the run's own unless another is named.
ActivationStatistics observed(const Recipe& recipe, const std::optional<std::string>& calibration, const Weights& weights,
                              Backend& backend) {
  Recipe of_text = recipe;
  if (calibration) of_text.data.text = *calibration;
  const auto data = open_data(of_text);
  const ModelConfig& model = recipe.space.model();
  const std::int64_t tokens = model.classifies() ? model.context : std::min<std::int64_t>(model.context, kCalibrationContext);
  const std::int64_t sequences = std::max<std::int64_t>(1, kCalibrationRows / tokens);
  std::vector<Batch> batches(kCalibrationBatches);
  for (std::size_t i = 0; i < batches.size(); ++i) data->training_batch(0, i, sequences, tokens, batches[i]);
  return activation_statistics(backend, weights, batches);
}

/// The file under a second name. It stays as it is when a checkpoint takes the place of the first, as files are replaced and never changed; a
/// file system without links has a copy.
void name_again(const std::string& file, const std::string& name) {
  std::error_code error;
  std::filesystem::create_hard_link(file, name, error);
  if (error) std::filesystem::copy_file(file, name);
}

/// supernet.h5, teacher.h5 where the recipe needs one, and the recipe, which names that, into `beside`, which is to become the folder `run`. The
/// teacher is the largest subnet of the weights that the run begins with: the same file.
void save_run(Recipe& recipe, const std::string& run, const std::string& beside, const Weights& weights, const std::string& data_sha256) {
  const BuildIdentity build = this_build(*make_backend(training_compute(recipe, Device::cpu), ThreadPool(1)));
  const RunPaths paths{beside};
  const std::string hash = weights_hash(weights);
  if (needs_teacher(recipe)) take_teacher(recipe, recipe.space.largest(), hash);
  const std::string stored = as_stored(recipe, run).text();
  save_first_weights(weights, hash, stored, data_sha256, recipe.train.seed, build, paths.supernet());
  if (needs_teacher(recipe)) name_again(paths.supernet(), paths.teacher());
  write_durably(paths.recipe(), stored);
}

/// The folders above a run, made for it. Those that were not there go again while they are empty, so that nothing is left of what failed.
class MadeFolders {
 public:
  explicit MadeFolders(const std::string& run) {
    namespace fs = std::filesystem;
    std::error_code error;
    const fs::path parent = fs::path(run).parent_path();
    for (fs::path folder = parent; !folder.empty() && !fs::exists(folder, error); folder = folder.parent_path()) made_.push_back(folder);
    if (!parent.empty() && !fs::create_directories(parent, error) && error)
      throw InputError({run, "a folder that can be made", error.message(), ""});
  }
  ~MadeFolders() {
    std::error_code ignored;
    for (const auto& folder : made_) std::filesystem::remove(folder, ignored);  // not when something stands in it
  }
  MadeFolders(const MadeFolders&) = delete;
  MadeFolders& operator=(const MadeFolders&) = delete;

 private:
  std::vector<std::filesystem::path> made_;  // innermost first
};

}  // namespace

SearchSpace default_import_space(const ModelConfig& model, const Subnet& subnet) {
  const std::vector<int> embed = fractions(subnet.embed, {0.75, 1}, kMultiple), depth = fractions(subnet.depth(), {0.75, 0.875, 1}, 1);
  std::vector<SearchSpace::Block> blocks;
  for (const BlockGenes& genes : subnet.blocks) {
    SearchSpace::Block block{.heads = {genes.heads}, .ffn = {.widths = {genes.ffn}, .ratios = {}}};
    if (alike(subnet) && genes.groups > 0) block.heads = fractions(genes.heads, {0.5, 0.75, 1}, model.queries_per_group);
    if (alike(subnet) && genes.ffn > 0) block.ffn.widths = fractions(genes.ffn, {0.5, 0.75, 1}, kMultiple);
    blocks.push_back(std::move(block));
  }
  return {model, embed, depth, std::move(blocks)};
}

ImportedRun import_checkpoint(const ImportRequest& request) {
  const ImportanceEntry& importance = find_importance(request.importance, "elastiform import: --importance");
  if (request.calibration && !importance.observes)
    throw InputError(
        {"elastiform import: --calibration", "--importance activations", "--importance " + request.importance, "leave --calibration out"});
  const DenseModel model = load(request);
  if (request.calibration && model.model.classifies())
    throw InputError({"elastiform import: --calibration", "a language model", "a classifier, which looks at --images", "leave it out"});
  const std::string tokenizer = model.model.classifies() ? "" : tokenizer_of(request, model);  // or why it has no place
  Recipe recipe = recipe_of(request, model, tokenizer);
  const CostModel costs = cost_model_of(recipe);
  ImportedRun made{.folder = request.run,
                   .subnet = format(model.subnet),
                   .parameters = costs.of(model.subnet).parameters,
                   .subnets = FeasibleSet(costs, Budget()).count().str(),
                   .vocabulary = model.model.vocabulary,
                   .context = model.model.context};
  const MadeFolders above(request.run);
  create_folder_durably(request.run, [&](const std::string& beside) {
    std::filesystem::create_directories(beside);
    Recipe opened = recipe;
    if (!tokenizer.empty()) {
      opened.data.tokenizer = beside + "/tokenizer.json";
      write_durably(opened.data.tokenizer, tokenizer);
      // Where export looks for it: a tokenizer.json does not say which of its tokens ends a text.
      if (model.end_token) write_durably(beside + "/generation_config.json", fmt::format("{{\"eos_token_id\": {}}}\n", *model.end_token));
    }
    const auto data = open_data(opened);
    made.bytes_per_token =
        scoring_set(*data, recipe.space.model().context, {Split::search, recipe.space.model().context, 0}).bytes_per_token;
    const ThreadPool pool(request.threads);
    const auto backend = make_backend({Device::cpu, Precision::f32}, pool);
    Weights weights = placed(model, recipe.space);
    ActivationStatistics statistics;
    if (importance.observes) statistics = observed(opened, request.calibration, weights, *backend);
    importance.sort(weights, statistics);
    made.calibrated_on = statistics.tokens;
    save_run(recipe, request.run, beside, weights, data->sha256());
  });
  return made;
}

}  // namespace elastiform
