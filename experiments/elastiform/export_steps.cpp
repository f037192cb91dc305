#include "experiments/elastiform/export_steps.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "experiments/elastiform/output.hpp"
#include "kernels/errors.hpp"
#include "supernet/data/image_set.hpp"
#include "supernet/formats/hugging_face_tokenizer.hpp"
#include "supernet/formats/proof.hpp"
#include "supernet/tokenizers/tokenizer.hpp"
#include "version.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kConsumerTokens = 64;  // a consumer is asked about more of them than the proof is, and about as many images
static_assert(kConsumerTokens >= kProofTokens);

ModelCard::Quality quality_of(Run& run, const Subnet& subnet, Split split, ResultStore& store, const CommonOptions& common) {
  const ScoringSet set = run.report_set(split);
  const Evaluation evaluation = evaluate_in_run(run, std::span(&subnet, 1), set, store, common).front();
  return {.split = std::string(name_of(split)),
          .loss = evaluation.score.loss,
          .loss_se = evaluation.score.loss_se,
          .bits_per_byte = bits_per_nat(evaluation) * evaluation.score.loss,
          .tokens = scored_tokens(run, set),
          .accuracy = evaluation.score.accuracy};
}

/// The id under which the run knows the subnet: its first evaluation with these weights, which is the one that `front` shows.
std::int64_t id_of(const ResultStore& store, const Subnet& subnet, const std::string& weights_hash) {
  for (const Evaluation& evaluation : store.evaluations())
    if (evaluation.subnet == subnet && evaluation.weights_hash == weights_hash) return evaluation.id;
  return 0;
}

ConsumerReport consumer_report(Run& run, const Subnet& subnet, const Format& format, const std::string& path, const Check& check,
                               const Sample& sample, int threads) {
  const Sample some = sample.first(kConsumerTokens);
  return check_with(*check.consumer, check.python, format, path, some, sample_logits(run.weights(), subnet, some, threads));
}

/// Whether nothing is left to compute for the model card.
bool is_scored(const ResultStore& store, const Subnet& subnet, const std::string& weights_hash) {
  std::set<std::string> splits;
  for (const Evaluation& evaluation : store.evaluations())
    if (evaluation.subnet == subnet && evaluation.weights_hash == weights_hash) splits.insert(evaluation.split);
  return splits.size() == 2;
}

/// The end token that files beside a tokenizer.json name.
std::optional<int> end_token_beside(const std::string& tokenizer, int rows) {
  if (tokenizer == "bytes") return std::nullopt;
  return hugging_face::end_token_of_folder(std::filesystem::path(tokenizer).parent_path().string(), rows);
}

/// The beginning of the search split: what the export is compared on.
Sample comparison_sample(Run& run) {
  const ModelConfig& model = run.space().model();
  if (model.classifies()) {
    const std::vector<Window> images = run.data().scoring_windows(Split::search, model.context, model.context, kProofImages);
    return {run.data().scoring_batch(images, 0, static_cast<std::int64_t>(images.size()), model.context), model.image};
  }
  const TextData& data = run.text();
  const Segment& segment = data.segments(Split::search).front();
  return data.tokens(segment.begin, std::min(segment.end, segment.begin + std::min<std::int64_t>(model.context, kConsumerTokens)));
}

ModelCard unscored_card(Run& run, const Subnet& subnet, const std::string& tokenizer, std::optional<int> end_token) {
  return {.subnet = elastiform::format(subnet),
          .costs = run.costs().of(subnet),
          .deploy = run.costs().deploy(),
          .quality = {},
          .data_sha256 = run.supernet().data_sha256,
          .weights_hash = run.supernet().weights_hash,
          .version = ELASTIFORM_VERSION "+" ELASTIFORM_COMMIT,
          .training_steps = run.supernet().steps,
          .fine_tuned = !run.recipe().base.empty(),
          .averaged = run.supernet().is_average(),
          .tokenizer = tokenizer,
          .end_token = end_token,
          .reading = run.recipe().data.image,
          .class_names = class_names(run.recipe().data.image, run.space().model())};
}

}  // namespace

Exported export_subnet(Run& run, const Subnet& subnet, const Format& format, ExportWishes wishes, const CommonOptions& common) {
  std::string& to = wishes.to;
  const Check& check = wishes.check;
  const bool named_here = to.empty();
  std::error_code error;
  if (named_here && !std::filesystem::create_directories(run.paths().exports(), error) && error)
    throw InputError({run.paths().exports(), "a folder that can be made", error.message(), "--to another place"});
  const auto end_token = end_token_beside(run.recipe().data.tokenizer, run.space().model().vocabulary);
  const bool classifies = run.space().model().classifies();
  const std::string tokenizer = classifies ? "" : run.tokenizer().json();
  const auto name_of_id = [&](const std::string& id) {
    return run.paths().exports() + "/" + id + hash8(subnet) + std::string(format.suffix);
  };
  // Whoever scores may get an id, and with it a name, by that; who does not needs no lock, and knows the name now.
  auto store = run.results(ResultStore::Mode::read);
  std::int64_t id = id_of(*store, subnet, run.supernet().weights_hash);
  const auto id_in_name = [&id] { return id > 0 ? std::to_string(id) + "-" : ""; };
  check_export(format, run.space(), subnet, !named_here ? to : name_of_id(wishes.scores && id == 0 ? "next-" : id_in_name()), wishes.pad,
               tokenizer, end_token);
  const Sample sample = comparison_sample(run);
  ModelCard card = unscored_card(run, subnet, tokenizer, end_token);
  if (wishes.scores) {
    store = run.results(ResultStore::Mode::write);
    if (!is_scored(*store, subnet, card.weights_hash)) run.copy_weights();
    for (const Split split : {Split::search, Split::report}) card.quality.push_back(quality_of(run, subnet, split, *store, common));
  }
  if (id == 0) id = id_of(*store, subnet, card.weights_hash);
  if (named_here) to = name_of_id(id_in_name());
  ExportOptions options{.pad = wishes.pad, .threads = threads_of(common), .check = {}};
  std::optional<ConsumerReport> report;
  if (check.consumer != nullptr)
    options.check = [&](const std::string& beside) {
      report = consumer_report(run, subnet, format, beside, check, sample, options.threads);
    };
  const double difference = export_model(format, run.weights(), subnet, card, sample, to, options);
  Exported exported{.path = std::move(to),
                    .id = id,
                    .difference = difference,
                    .card = std::move(card),
                    .padding = std::nullopt,
                    .report = std::move(report),
                    .note = {}};
  if (format.note_on_tokenizer != nullptr && !tokenizer.empty()) exported.note = format.note_on_tokenizer(tokenizer);
  if (wishes.pad) {
    const Padded padded = format.padded(run.space().model(), subnet);
    exported.padding = Padding{padded.subnet, size_of(run.space().model(), subnet), size_of(padded.model, padded.subnet)};
  }
  return exported;
}

std::string padding_line(const Padding& padding) {
  const auto growth = [](std::int64_t before, std::int64_t after) {
    return before > 0 ? fmt::format("×{:.2f}", static_cast<double>(after) / static_cast<double>(before)) : std::string("from none");
  };
  const NetworkSize &exact = padding.exact, &padded = padding.padded;
  std::string text = fmt::format("padded with zeros to {}: {} parameters ({})", format(padding.subnet), grouped(padded.parameters),
                                 growth(exact.parameters, padded.parameters));
  if (padded.cache_bytes > 0)
    text += fmt::format(", KV cache of a full context {} ({})", bytes_text(static_cast<double>(padded.cache_bytes)),
                        growth(exact.cache_bytes, padded.cache_bytes));
  return text + "\n";
}

void check_deployable_tokenizer(const Recipe& recipe, Deployable target) {
  const std::string& path = recipe.data.tokenizer;
  if (target == Deployable::any || path == "bytes" || !std::filesystem::exists(path)) return;
  check_export_tokenizer(find_format(name_of(target)), Tokenizer::load(path).json(), recipe.space.model().vocabulary,
                         end_token_beside(path, recipe.space.model().vocabulary));
}

std::string try_line(const std::string& path, const ModelConfig& model) {
  return model.classifies() ? "elastiform classify " + path + " image.png"
                            : "elastiform generate " + path + " --prompt \"In the beginning\"";
}

}  // namespace elastiform
