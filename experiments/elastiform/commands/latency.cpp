#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/latency_steps.hpp"
#include "kernels/errors.hpp"
#include "supernet/nearest_name.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kMostSequences = 256;

/// `elastiform latency`: milliseconds of an inference of extracted subnets.
class LatencyCommand final : public Command {
 public:
  std::string_view name() const override { return "latency"; }
  std::string_view help() const override { return "Milliseconds of an inference of a subnet, extracted, on this machine"; }
  std::string_view example() const override { return "elastiform latency runs/demo --subnet middle --subnet largest --phase prefill"; }
  bool computes() const override { return true; }
  void declare(Options& options) override {
    options.positional("run", run_, "Run folder");
    options.option("subnet", subnets_, "A subnet's text, largest (default), middle, smallest or an id; several are measured in turn");
    options.choice("weights", weights_, kWeightChoices, kWeightsHelp);
    options.option("context", context_, "Tokens (default: [deploy] of the run, as all below)", 1);
    options.option("batch", batch_, "Texts or images at once", 1);
    options.option("phase", phase_, "decode: one token behind a full cache; prefill: a whole context");
    options.option("rounds", rounds_, "Visits of each subnet, in turn", 1);
    options.option("passes", passes_, "Timed inferences of a visit", 1);
  }
  int run(const CommonOptions& common) override {
    Run run(run_, weights_);
    const Deploy deploy = deploy_for(run, common);
    std::vector<Subnet> subnets;
    for (const std::string& text : subnets_.empty() ? std::vector<std::string>{"largest"} : subnets_) subnets.push_back(run.subnet(text));
    RunClock clock(run, deploy, common.device);
    const std::vector<Milliseconds> times = time_in_turn(clock, subnets, small(rounds_), small(passes_), interrupted);
    // The table's [deploy] is the run's, which the options may have left, and its device may be another.
    const bool predicts =
        run.costs().latency() && deploy == run.costs().deploy() && run.costs().latency()->device == name_of(common.device);
    const Machine here = clock.machine();
    std::vector<std::string> documents;
    if (!common.json)
      fmt::print("{} inferences each under {} on {}{}, {}\n", std::int64_t{small(rounds_)} * small(passes_), deploy_text(deploy),
                 here.processor, here.accelerator.empty() ? "" : ", " + here.accelerator, here.hash());
    for (std::size_t i = 0; i < subnets.size(); ++i) {
      const double predicted = predicts ? line_of(*run.costs().latency(), subnets[i]) : NAN;
      if (common.json) documents.push_back(document(subnets[i], times[i], predicted, deploy, common.device, here));
      else
        fmt::print("{}: {}{}\n", format(subnets[i]), time_text(times[i]),
                   predicts ? fmt::format("; predicted {} ({:+.1f} %) by {}", time_text(predicted), 100 * (predicted / times[i].median - 1),
                                          run.costs().latency()->origin)
                            : "");
    }
    if (common.json) fmt::print("{}\n", json_list(documents));
    return 0;
  }

 private:
  static int small(std::int64_t value) { return static_cast<int>(std::min<std::int64_t>(value, 1'000'000)); }

  Deploy deploy_for(const Run& run, const CommonOptions& common) const {
    Deploy deploy = run.costs().deploy();
    const ModelConfig& model = run.space().model();
    const auto refuse = [](const char* option, std::string expected, std::string found) {
      throw InputError({std::string("elastiform latency: ") + option, std::move(expected), std::move(found), ""});
    };
    if (model.classifies()) {
      if (context_) refuse("--context", "a run of a language model", "a classifier of images");
      if (phase_) refuse("--phase", "a run of a language model", "a classifier of images");
    }
    if (context_ && *context_ > model.context)
      refuse("--context", fmt::format("at most the model's {}", model.context), std::to_string(*context_));
    if (batch_ && *batch_ > kMostSequences) refuse("--batch", fmt::format("at most {}", kMostSequences), std::to_string(*batch_));
    if (phase_ && *phase_ != "decode" && *phase_ != "prefill")
      throw unknown_name("elastiform latency: --phase", *phase_, {"decode", "prefill"});
    if (context_) deploy.context = small(*context_);
    if (batch_) deploy.batch = small(*batch_);
    if (phase_) deploy.phase = *phase_;
    if (common.threads > 0) deploy.threads = common.threads;
    return deploy;
  }

  static std::string document(const Subnet& subnet, const Milliseconds& time, double predicted, const Deploy& deploy, Device device,
                              const Machine& here) {
    JsonObject object;
    object.add("subnet", format(subnet)).add("median_ms", time.median).add("low_ms", time.low).add("high_ms", time.high);
    if (std::isfinite(predicted)) object.add("predicted_ms", predicted);
    object.add("deploy", deploy_text(deploy)).add("device", name_of(device)).add("machine", here.hash());
    return object.text();
  }

  std::string run_, weights_ = kWeightChoices.front();
  std::vector<std::string> subnets_;
  std::optional<std::int64_t> context_, batch_;
  std::optional<std::string> phase_;
  std::int64_t rounds_ = 10, passes_ = 10;
};

}  // namespace

std::unique_ptr<Command> make_latency_command() { return std::make_unique<LatencyCommand>(); }

}  // namespace elastiform
