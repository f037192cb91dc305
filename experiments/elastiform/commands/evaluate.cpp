#include <fmt/core.h>

#include <filesystem>
#include <fstream>
#include <utility>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/evaluation_output.hpp"
#include "experiments/elastiform/search_steps.hpp"
#include "kernels/errors.hpp"

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
    options.option("subnet", subnet_, "A subnet's text, largest (the default), middle, smallest or an id of the run");
    options.choice("split", split_, {"search", "report"}, "Held-out data to score on; looks at report are counted");
    options.choice("weights", weights_, kWeightChoices, kWeightsHelp);
    options.option("rank", rank_, kRankHelp, 1);
    options.flag("share-weights", shares_, kShareHelp);
    options.option("against", against_, "A second subnet: paired difference with its interval and a verdict");
    options.option("subnets", list_, "A file of subnets, one a line, scored together as a search scores them, with its memo ([search])");
  }
  int run(const CommonOptions& common) override {
    Run run(run_, weights_, rank_, shares_ ? Placing::mapped : Placing::copied);
    if (list_) return score_list(run, common);
    std::vector<Subnet> subnets = {run.subnet(subnet_.value_or("largest"))};
    if (against_) subnets.push_back(run.subnet(*against_));
    const ScoringSet set = run.report_set(parse_split(split_));
    const std::int64_t inputs = scored_tokens(run, set);
    auto [evaluations, store] = evaluate_in_turn(run, subnets, set, common);
    Shown shown{run.metric(), run.unit(), inputs, report_looks(*store), {}, {}};
    store.reset();  // others write now
    if (run.metric().classifies && (common.json || against_)) shown.hits = hits_of(run, evaluations, set, common);
    if (evaluations.size() == 2)
      shown.difference = run.metric().classifies ? paired_difference(shown.hits[0], shown.hits[1], 0)
                                                 : difference_in_bits(evaluations[0], evaluations[1], 0);
    if (common.json) print_json(evaluations, shown);
    else print_text(evaluations, shown);
    for (const Evaluation& one : evaluations)
      fmt::print(text_stream(common.json), "{}",
                 chance_warning(format(one.subnet), one.score.loss, run.space().model(), set.bytes_per_token));
    return 0;
  }

 private:
  /// Scores every subnet of a file on what a search looks at: what they share is computed once.
  int score_list(Run& run, const CommonOptions& common) const {
    const std::string where = "elastiform evaluate: --subnets";
    for (const auto& other : {subnet_, against_})
      if (other) throw InputError({where, "no --subnet and --against beside it", *other, "leave one of them out"});
    if (split_ != name_of(Split::search)) throw InputError({where, "--split search", split_, "reports are of one subnet, or two"});
    const std::vector<Subnet> subnets = read_list(run, *list_, where);
    const std::vector<Evaluation> evaluations = evaluate_in_turn(run, subnets, run.search_set(), common).evaluations;
    std::vector<std::string> documents;
    for (const Evaluation& one : evaluations) {
      documents.push_back(evaluation_json(one, run.metric()).text());
      if (!common.json) fmt::print("{}  (id {})  {}\n", format(one.subnet), one.id, quality_text(one, run.metric()));
    }
    if (common.json) fmt::print("{}\n", json_list(documents));
    return 0;
  }

  /// A subnet a line; blanks around it, empty lines and the CR of other systems' lines say nothing.
  static std::vector<Subnet> read_list(Run& run, const std::string& path, const std::string& where) {
    std::error_code error;
    std::ifstream file(path);
    if (!file || std::filesystem::is_directory(path, error))
      throw InputError({where, "a file of subnets, one a line", file ? "a folder, " + path : "nothing that can be read at " + path, ""});
    std::vector<Subnet> subnets;
    std::string line;
    for (int number = 1; std::getline(file, line); ++number) {
      const std::size_t begin = line.find_first_not_of(" \t\r"), end = line.find_last_not_of(" \t\r");
      if (begin == std::string::npos) continue;
      try {
        subnets.push_back(run.subnet(line.substr(begin, end - begin + 1)));
      } catch (const InputError& wrong) {
        InputError::Parts parts = wrong.parts();
        parts.where = fmt::format("{}:{}: {}", path, number, parts.where);
        throw InputError(std::move(parts));
      }
    }
    if (file.bad()) throw InputError({where, "a file of subnets, one a line", path + ", which could not be read to its end", ""});
    if (subnets.empty()) throw InputError({where, "a subnet a line", "none in " + path, ""});
    return subnets;
  }

  /// What is printed beside the evaluations.
  struct Shown {
    const Metric& metric;
    const char* unit;  // of the inputs
    std::int64_t inputs, looks;
    std::vector<std::vector<float>> hits;        // of a classifier
    std::optional<PairedDifference> difference;  // of two subnets
  };

  /// "1101": which images a subnet names rightly, in the order of the split.
  static std::string hits_text(const std::vector<float>& hits) {
    std::string text;
    for (const float hit : hits) text += hit > 0.5f ? '1' : '0';
    return text;
  }

  void print_text(const std::vector<Evaluation>& evaluations, const Shown& shown) const {
    const Metric& metric = shown.metric;
    fmt::print("{} split, {} {}, {}\n", split_, grouped(shown.inputs), shown.unit, evaluations.front().blocks);
    for (const Evaluation& one : evaluations)
      fmt::print("{}  (id {})\n    {}{}\n    {} parameters, {} macs/{}\n", format(one.subnet), one.id, quality_text(one, metric),
                 metric.classifies ? "" : fmt::format(", accuracy {:.2f} %", 100 * one.score.accuracy), grouped(one.costs.parameters),
                 grouped(one.costs.macs), metric.input);
    if (shown.difference)
      fmt::print("first - second: {}\n",
                 metric.classifies ? difference_of_hits_text(*shown.difference) : difference_text(*shown.difference));
    if (shown.looks > 0) fmt::print("the report split was looked at {} time{} in this run\n", shown.looks, shown.looks == 1 ? "" : "s");
  }

  static void print_json(const std::vector<Evaluation>& evaluations, const Shown& shown) {
    JsonObject object = evaluation_json(evaluations.front(), shown.metric);
    object.add(shown.metric.inputs, shown.inputs).add("report_looks", shown.looks);
    if (shown.metric.classifies) object.add("hits", hits_text(shown.hits[0]));
    if (shown.difference) {
      const PairedDifference& difference = *shown.difference;
      JsonObject against = evaluation_json(evaluations[1], shown.metric);
      if (shown.metric.classifies) against.add("hits", hits_text(shown.hits[1]));
      against.add("difference", difference.mean).add("difference_low", difference.low).add("difference_high", difference.high);
      against.add("difference_blocks", static_cast<std::int64_t>(difference.blocks));
      against.add("verdict", shown.metric.classifies ? verdict_of_hits(difference) : verdict(difference, kMargin));
      object.add_json("against", against.text());
    }
    fmt::print("{}\n", object.text());
  }

  std::string run_, split_ = "search", weights_ = "trained";
  std::optional<std::int64_t> rank_;
  bool shares_ = false;
  std::optional<std::string> subnet_, against_, list_;
};

}  // namespace

std::unique_ptr<Command> make_evaluate_command() { return std::make_unique<EvaluateCommand>(); }

}  // namespace elastiform
