#include "supernet/formats/format.hpp"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <stdexcept>

#include <fmt/format.h>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "supernet/data/class_names.hpp"
#include "supernet/formats/elastiform_file.hpp"
#include "supernet/formats/hugging_face.hpp"
#include "supernet/formats/padding.hpp"
#include "supernet/formats/proof.hpp"
#include "supernet/network.hpp"
#include "supernet/parametrizations/parametrization.hpp"
#include "supernet/residual_rules/residual_rule.hpp"
#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/new_file.hpp"

namespace elastiform {
namespace {

/// x + s·γ∘(h·W + b) = x + (h·(s·W·γ) + s·γ∘b), γ a factor a column: targets know neither. A tensor's columns times s and its gate.
void fold_into(const Weights& weights, const TensorSpec& tensor, const std::string& gate, float scale, View view) {
  const ConstView from = weights.view(tensor), gains = weights.table().has(gate) ? weights.view(gate) : ConstView{};
  for (std::int64_t row = 0; row < view.rows; ++row)
    for (std::int64_t column = 0; column < view.columns; ++column)
      view.row<float>(row)[column] = from.row<float>(row)[column] * scale * (gains.empty() ? 1 : gains.row<float>(0)[column]);
}

/// The same network without a branch scale or gates, and without the tensors of these.
Weights folded(const Weights& weights, ModelConfig& model, const Subnet& dense) {
  const auto scale = static_cast<float>(branch_scale(model, dense.depth()));
  model.branch_scale = 1;
  model.residual = ResidualRule::branch_scale;
  Weights plain(std::make_shared<const WeightTable>(SearchSpace::of(model, dense)), DType::float32);
  std::map<std::string, std::string, std::less<>> gates;  // what writes to the residual stream, with its biases: its branch's gate
  for (const TensorSpec& tensor : plain.table().tensors()) {
    if (tensor.role != Role::residual_out) continue;
    const std::string gate = tensor.name.substr(0, tensor.name.rfind('.')) + ".residual.gate";
    gates[tensor.name] = gates[tensor.name + ".bias"] = gate;
  }
  for (const TensorSpec& tensor : plain.table().tensors()) {
    const auto found = gates.find(tensor.name);
    fold_into(weights, weights.table().at(tensor.name), found == gates.end() ? "" : found->second, found == gates.end() ? 1 : scale,
              plain.view(tensor));
  }
  return plain;
}

DenseModel cut_out(const Weights& weights, const Subnet& subnet) {
  ModelConfig model = weights.table().space().model();
  Subnet renumbered = subnet;
  renumbered.kept.clear();
  Weights values = extract(weights, subnet);
  if (residual_form(model).folds()) values = folded(values, model, renumbered);
  return {std::move(model), std::move(renumbered), std::move(values)};
}

/// Why `format` does not take the subnet, as it is or padded.
std::string why_not(const Format& format, const ModelConfig& model, const Subnet& subnet, bool pad) {
  if (!pad) return format.why_not(model, subnet);
  const Padded padded = format.padded(model, subnet);
  return format.why_not(padded.model, padded.subnet);
}

}  // namespace

std::string why_not_language_model(const ModelConfig& model) {
  return model.classifies() ? "it is a classifier of images, and this format holds language models" : "";
}

std::string why_not_plain_blocks(const ModelConfig& model) {
  if (const ParametrizationEntry& tuning = parametrization_of(model.tuning); tuning.method != TuningMethod::full)
    return "it was tuned with " + std::string(tuning.name) + ", which does not merge into its linear maps";
  const ResidualRuleEntry& rule = residual_rule(model.residual);
  if (rule.form.folds()) return "";
  return "its residual rule " + std::string(rule.name) +
         (rule.form.norm == NormPlace::none ? " has no norms" : " has its norms after the branches") +
         "; this format's branches begin with one";
}

void check_export_tokenizer(const Format& format, const std::string& tokenizer, int rows, std::optional<int> end_token) {
  if (format.why_not_tokenizer == nullptr || tokenizer.empty()) return;
  if (const std::string why = format.why_not_tokenizer(tokenizer, rows, end_token); !why.empty())
    throw InputError({"--format " + std::string(format.name), "a tokenizer that it can hold", why, "use another format"});
}

void check_export(const Format& format, const SearchSpace& space, const Subnet& subnet, const std::string& path, bool pad,
                  const std::string& tokenizer, std::optional<int> end_token) {
  namespace fs = std::filesystem;
  if (pad && format.padded == nullptr)
    throw InputError({"--pad", "a format whose blocks are all alike", std::string(format.name), "leave --pad out"});
  const std::string reason = why_not(format, space.model(), subnet, pad);
  if (!reason.empty()) {
    const bool other_subnets_help = format.why_not(space.model(), Subnet{}) != reason;  // the reason is not the model's
    std::string remedy = "use --format elastiform";
    if (other_subnets_help) remedy += ", or a subnet that sample --deployable " + std::string(format.name) + " draws";
    if (!pad && format.padded != nullptr && why_not(format, space.model(), subnet, true).empty()) remedy += ", or --pad, which adds zeros";
    throw InputError({"subnet " + elastiform::format(subnet), "one that " + std::string(format.name) + " can express", reason, remedy});
  }
  check_export_tokenizer(format, tokenizer, space.model().vocabulary, end_token);
  if (path.empty()) throw InputError({"--to", "a path", "an empty one", ""});
  if (fs::exists(fs::symlink_status(path))) throw InputError({path, "nothing there yet", "something", "choose another path or remove it"});
  const fs::path parent = fs::path(path).lexically_normal().parent_path();
  if (!parent.empty() && !fs::is_directory(parent)) throw InputError({path, "a folder " + parent.string(), "none", "make it first"});
}

double export_model(const Format& format, const Weights& weights, const Subnet& subnet, const ModelCard& card, const Sample& sample,
                    const std::string& path, const ExportOptions& options) {
  const SearchSpace& space = weights.table().space();
  space.check(subnet, "the supernet");
  check_export(format, space, subnet, path, options.pad, card.tokenizer, card.end_token);
  check_class_names(card.class_names, "export: names of classes");
  if (weights.dtype() != DType::float32) throw std::logic_error("export: weights must be float32");
  const Sample compared =
      sample.first(space.model().classifies() ? kProofImages : std::min<std::int64_t>(space.model().context, kProofTokens));
  if (compared.size() == 0) throw std::logic_error("export: nothing to compare on");

  const auto padded = [&](const DenseModel& exact) { return elastiform::pad(exact, format.padded(exact.model, exact.subnet)); };
  const DenseModel dense = options.pad ? padded(cut_out(weights, subnet)) : cut_out(weights, subnet);
  const std::vector<float> expected = sample_logits(weights, subnet, compared, options.threads);
  double difference = 0;
  const auto write = [&](const std::string& beside) {
    format.write(dense, card, beside);
    difference = prove(format, dense, card, expected, compared, beside, options.threads);
    if (options.check) options.check(beside);
  };
  if (format.folder()) create_folder_durably(path, write);
  else create_file_durably(path, write);
  return difference;
}

DenseModel load_model(const std::string& path, std::optional<int> context) {
  namespace fs = std::filesystem;
  if (!fs::exists(path)) throw InputError({path, "an exported model: a folder with config.json or a file", "nothing", ""});
  // Opening a pipe to look at its first bytes would wait for a writer forever.
  if (!fs::is_directory(path) && !fs::is_regular_file(path))
    throw InputError({path, "an exported model: a folder with config.json or a file", "neither", ""});
  for (const Format& format : export_formats())
    if (format.recognizes != nullptr && format.recognizes(path)) return format.read(path, context);
  if (!fs::is_directory(path)) return elastiform_file::read(path, context);  // which says what it is instead
  if (!fs::exists(path + "/config.json"))
    throw InputError({path, "an exported model: a folder with config.json or a file", "a folder without config.json", ""});
  hugging_face::refuse_folder(path);
}

}  // namespace elastiform
