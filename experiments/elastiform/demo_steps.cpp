#include "experiments/elastiform/demo_steps.hpp"

#include <fmt/core.h>

#include <algorithm>

#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/utf8_stream.hpp"
#include "supernet/generation.hpp"

namespace elastiform {
namespace {

const NamedSubnet* find_row(const std::vector<NamedSubnet>& rows, const Subnet& subnet) {
  for (const auto& row : rows)
    if (row.subnet == subnet) return &row;
  return nullptr;
}

std::string set_name(const SearchOutcome& outcome) {
  return (outcome.budget.empty() ? "no budget" : outcome.budget) +
         (outcome.deployable == name_of(Deployable::any) ? "" : " as " + outcome.deployable);
}

}  // namespace

std::vector<NamedSubnet> score_on_report(Run& run, const std::vector<SearchOutcome>& outcomes, const CommonOptions& common) {
  std::vector<NamedSubnet> rows{
      {"smallest", run.space().smallest(), {}}, {"middle", run.space().middle(), {}}, {"largest", run.space().largest(), {}}};
  for (const auto& outcome : outcomes) {
    if (outcome.best) rows.push_back({"found inside " + set_name(outcome), outcome.best->subnet, {}});
    for (const auto& [name, other] : {std::pair{outcome.algorithm + " alone there", &outcome.best_of_algorithm},
                                      {std::string("best homogeneous there"), &outcome.best_homogeneous}})
      if (*other && (!outcome.best || (*other)->subnet != outcome.best->subnet)) rows.push_back({name, (*other)->subnet, {}});
  }
  std::vector<Subnet> distinct;
  for (const auto& row : rows)
    if (std::find(distinct.begin(), distinct.end(), row.subnet) == distinct.end()) distinct.push_back(row.subnet);
  const auto store = run.results(ResultStore::Mode::write);
  const auto evaluations = evaluate_in_run(run, distinct, run.report_set(Split::report), *store, common);
  for (auto& row : rows)
    row.report = *std::find_if(evaluations.begin(), evaluations.end(), [&](const Evaluation& e) { return e.subnet == row.subnet; });
  return rows;
}

std::string report_text(const std::vector<NamedSubnet>& rows, const std::vector<SearchOutcome>& outcomes, const ByteModels& models) {
  Table table({"network", "parameters", "bits/byte"});
  for (const auto& row : rows)
    table.row({fmt::format("{}  {}", row.name, format(row.subnet)), grouped(row.report.costs.parameters),
               fmt::format("{:.3f} ± {:.3f}", bits_per_nat(row.report) * row.report.score.loss,
                           kNormal95 * bits_per_nat(row.report) * row.report.score.loss_se)});
  for (const auto& model : models.models)
    table.row({fmt::format("Kneser-Ney, {} bytes of context", model.order - 1), "", fmt::format("{:.3f}", model.bits_per_byte)});
  auto text = table.text() + "± is 95 % over blocks of text; it does not cover seeds of training.\n";
  if (models.models.empty()) text += fmt::format("No byte models beside them: {}.\n", models.why_not);
  std::vector<std::string> names;
  std::vector<PairedDifference> differences;
  for (const auto& outcome : outcomes) {
    if (!outcome.best_of_algorithm || !outcome.best_homogeneous) continue;
    const auto *found = find_row(rows, outcome.best_of_algorithm->subnet), *rival = find_row(rows, outcome.best_homogeneous->subnet);
    const auto name = fmt::format("{}: best of {} - best homogeneous: ", set_name(outcome), outcome.algorithm);
    if (found->subnet == rival->subnet) {
      text += name + "they are the same network\n";
      continue;
    }
    names.push_back(name);
    differences.push_back(difference_in_bits(found->report, rival->report, 0));
  }
  const auto judged = verdicts(differences, kMargin);  // Holm-corrected over these lines
  for (std::size_t i = 0; i < names.size(); ++i) text += names[i] + difference_text(differences[i], judged[i]) + "\n";
  return text;
}

std::string demo_prompt(Run& run) {
  const auto& segment = run.text().segments(Split::report).front();
  const std::string text = run.tokenizer().decode(run.text().tokens(segment.begin, std::min(segment.end, segment.begin + 400)));
  const auto line = text.find('\n');
  auto prompt = text.substr(line == std::string::npos || line + 60 > text.size() ? 0 : line + 1, 40);
  for (char& c : prompt)
    if (c == '\n' || c == '\r') c = ' ';
  if (const auto blank = prompt.rfind(' '); blank != std::string::npos && blank > 10) prompt.resize(blank + 1);  // end with a whole word
  return prompt;
}

std::string continuation(const std::string& path, const std::string& prompt, std::int64_t tokens, const CommonOptions& common) {
  const auto model = load_model(path);
  const ThreadPool pool(threads_of(common));
  const auto backend = make_backend(Compute(common.device, Precision::f32), pool);
  const Network network(model.weights.table().space(), DType::float32, backend->memory());
  const PlacedWeights placed(model.weights, backend->memory());
  std::vector<std::int32_t> ids;
  for (const char c : prompt) ids.push_back(static_cast<unsigned char>(c));
  GenerationOptions options;
  options.tokens = tokens;
  options.temperature = 0.7;
  auto text = prompt;
  generate(*backend, network, *placed, model.subnet, ids, options, [&](std::int32_t id) {
    text += static_cast<char>(id);
    return !interrupted();
  });
  return valid_utf8(text);
}

}  // namespace elastiform
