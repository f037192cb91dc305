#include <fmt/core.h>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/evaluation_output.hpp"
#include "experiments/elastiform/search_steps.hpp"

namespace elastiform {
namespace {

/// How many times a number of the report split was asked for: each look makes the next one a little less honest.
std::int64_t report_looks(const ResultStore& store) {
  std::int64_t looks = 0;
  for (const SearchDescription& search : store.searches())
    for (const auto& round : store.rounds(search.name()))
      for (const Evaluation& evaluation : round) looks += evaluation.split == name_of(Split::report) ? 1 : 0;
  return looks;
}

/// `elastiform evaluate`: quality of one subnet with its interval, or of two with the interval of their difference.
class EvaluateCommand final : public Command {
 public:
  std::string_view name() const override { return "evaluate"; }
  std::string_view help() const override { return "Quality of a subnet with its interval, alone or against another"; }
  std::string_view example() const override { return "elastiform evaluate runs/demo --subnet 12 --split report --against largest"; }
  bool computes() const override { return true; }
  void declare(Options& options) override {
    options.positional("run", run_, "Run folder");
    options.option("subnet", subnet_, "A subnet's text, largest, middle, smallest or an id of the run");
    options.choice("split", split_, {"search", "report"}, "Held-out text to score on; looks at report are counted");
    options.choice("weights", weights_, kWeightChoices, kWeightsHelp);
    options.option("against", against_, "A second subnet: paired difference with its interval and a verdict");
  }
  int run(const CommonOptions& common) override {
    Run run(run_, weights_);
    std::vector<Subnet> subnets = {run.subnet(subnet_)};
    if (against_) subnets.push_back(run.subnet(*against_));
    const ScoringSet set = run.report_set(parse_split(split_));
    const auto store = run.results(ResultStore::Mode::write);
    const std::vector<Evaluation> evaluations = evaluate_in_run(run, subnets, set, *store, common);
    if (common.json) print_json(evaluations, scored_tokens(run, set), report_looks(*store));
    else print_text(evaluations, scored_tokens(run, set), report_looks(*store), run.tokenizer().is_bytes() ? "bytes" : "tokens");
    for (const Evaluation& one : evaluations)
      fmt::print(text_stream(common.json), "{}",
                 chance_warning(format(one.subnet), one.score.loss, run.space().model().vocabulary, set.bytes_per_token));
    return 0;
  }

 private:
  void print_text(const std::vector<Evaluation>& evaluations, std::int64_t tokens, std::int64_t looks, const char* unit) const {
    fmt::print("{} split, {} {}, {}\n", split_, grouped(tokens), unit, evaluations.front().blocks);
    for (const Evaluation& one : evaluations)
      fmt::print("{}  (id {})\n    {}, accuracy {:.2f} %\n    {} parameters, {} macs/token\n", format(one.subnet), one.id,
                 quality_text(one), 100 * one.score.accuracy, grouped(one.costs.parameters), grouped(one.costs.macs));
    if (evaluations.size() == 2) fmt::print("first - second: {}\n", difference_text(difference_in_bits(evaluations[0], evaluations[1], 0)));
    if (looks > 0) fmt::print("the report split was looked at {} time{} in this run\n", looks, looks == 1 ? "" : "s");
  }

  static void print_json(const std::vector<Evaluation>& evaluations, std::int64_t tokens, std::int64_t looks) {
    JsonObject object = evaluation_json(evaluations.front());
    object.add("tokens", tokens).add("report_looks", looks);
    if (evaluations.size() == 2) {
      const PairedDifference difference = difference_in_bits(evaluations[0], evaluations[1], 0);
      JsonObject against = evaluation_json(evaluations[1]);
      against.add("difference", difference.mean).add("difference_low", difference.low).add("difference_high", difference.high);
      against.add("difference_blocks", static_cast<std::int64_t>(difference.blocks)).add("verdict", verdict(difference, kMargin));
      object.add_json("against", against.text());
    }
    fmt::print("{}\n", object.text());
  }

  std::string run_, subnet_ = "largest", split_ = "search", weights_ = "trained";
  std::optional<std::string> against_;
};

}  // namespace

std::unique_ptr<Command> make_evaluate_command() { return std::make_unique<EvaluateCommand>(); }

}  // namespace elastiform
