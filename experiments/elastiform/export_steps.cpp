#include "experiments/elastiform/export_steps.hpp"

#include <algorithm>
#include <filesystem>

#include "kernels/errors.hpp"
#include "version.hpp"

namespace elastiform {
namespace {

ModelCard::Quality quality_of(Run& run, const Subnet& subnet, Split split, ResultStore& store, const CommonOptions& common) {
  const ScoringSet set = run.report_set(split);
  const Evaluation evaluation = evaluate_in_run(run, std::span(&subnet, 1), set, store, common).front();
  return {.split = std::string(name_of(split)),
          .loss = evaluation.score.loss,
          .loss_se = evaluation.score.loss_se,
          .bits_per_byte = bits_per_nat(evaluation) * evaluation.score.loss,
          .tokens = scored_tokens(run, set)};
}

/// The id under which the run knows the subnet: its first evaluation with these weights, which is the one that `front` shows.
std::int64_t id_of(const ResultStore& store, const Subnet& subnet, const std::string& weights_hash) {
  for (const Evaluation& evaluation : store.evaluations())
    if (evaluation.subnet == subnet && evaluation.weights_hash == weights_hash) return evaluation.id;
  return 0;
}

/// The beginning of the search split: what the export is compared on.
std::vector<std::int32_t> comparison_tokens(Run& run) {
  const TextData& data = run.data();
  const Segment& segment = data.segments(Split::search).front();
  return data.tokens(segment.begin, std::min<std::int64_t>(segment.end, segment.begin + run.space().model().context));
}

}  // namespace

Exported export_subnet(Run& run, const Subnet& subnet, const Format& format, std::string to, const CommonOptions& common) {
  const bool named_here = to.empty();
  std::error_code error;
  if (named_here && !std::filesystem::create_directories(run.paths().exports(), error) && error)
    throw InputError({run.paths().exports(), "a folder that can be made", error.message(), "--to another place"});
  // The id, and with it the name, is known only after the subnet was scored.
  check_export(format, run.space(), subnet, named_here ? run.paths().exports() + "/" + hash8(subnet) : to);
  const std::vector<std::int32_t> tokens = comparison_tokens(run);
  const auto store = run.results(ResultStore::Mode::write);
  ModelCard card{.subnet = elastiform::format(subnet),
                 .costs = run.costs().of(subnet),
                 .deploy = run.costs().deploy(),
                 .quality = {},
                 .data_sha256 = run.supernet().data_sha256,
                 .weights_hash = run.supernet().weights_hash,
                 .version = ELASTIFORM_VERSION "+" ELASTIFORM_COMMIT,
                 .training_steps = run.supernet().steps,
                 .fine_tuned = false,
                 .tokenizer = run.tokenizer().json()};
  for (const Split split : {Split::search, Split::report}) card.quality.push_back(quality_of(run, subnet, split, *store, common));
  const std::int64_t id = id_of(*store, subnet, card.weights_hash);
  if (named_here) to = run.paths().exports() + "/" + std::to_string(id) + "-" + hash8(subnet) + (format.folder ? "" : ".h5");
  const double difference = export_model(format, run.weights(), subnet, card, tokens, to);
  return {std::move(to), id, difference, std::move(card)};
}

std::string generate_line(const std::string& path) { return "elastiform generate " + path + " --prompt \"In the beginning\""; }

}  // namespace elastiform
