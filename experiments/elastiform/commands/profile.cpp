#include <fmt/core.h>

#include <algorithm>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/latency_steps.hpp"
#include "kernels/errors.hpp"
#include "search/latency_file.hpp"
#include "search/latency_profile.hpp"
#include "version.hpp"

namespace elastiform {
namespace {

/// `elastiform profile`: measures the table of latencies that budgets of a run use, or takes one over.
class ProfileCommand final : public Command {
 public:
  std::string_view name() const override { return "profile"; }
  std::string_view help() const override { return "Measure the parts of a run's networks here, so that budgets can limit latency"; }
  std::string_view example() const override { return "elastiform profile runs/demo --rounds 40"; }
  bool computes() const override { return true; }
  void declare(Options& options) override {
    options.positional("run", run_, "Run folder");
    options.option("rounds", rounds_, "Visits of every network, in turn; an even number (default: 20)", 2);
    options.option("passes", passes_, "Timed inferences of a visit (default: 5)", 1);
    options.option("networks", networks_, "Random subnets that are measured whole, to judge the table by (default: 40)", 1);
    options.option("seed", seed_, "Of these subnets (default: 0)", 0);
    options.option("import", import_, "Take this table over instead, from another machine or program (docs/latency.md)");
  }
  int run(const CommonOptions& common) override {
    Run run(run_);
    const bool taken = import_.has_value();
    const std::optional<LatencyTable> table = taken ? imported(run, common) : measured(run, common);
    if (!table) {
      fmt::print(stderr, "interrupted: {} was not written\n", run.paths().latency());
      return kInterruptedStatus;
    }
    forget_other_medians(run, *table);
    save_latency(*table, run.paths().latency());
    if (common.json) fmt::print("{}\n", table_json(*table, run.space(), run.paths().latency()));
    else fmt::print("{}\nnext: elastiform search {} --budget latency=..60%\n", table_text(*table, run.space()), run.name());
    return 0;
  }

 private:
  LatencyTable imported(const Run& run, const CommonOptions& common) const {
    for (const auto& [given, option] : {std::pair{rounds_.has_value(), "--rounds"},
                                        {passes_.has_value(), "--passes"},
                                        {networks_.has_value(), "--networks"},
                                        {seed_.has_value(), "--seed"},
                                        {common.threads > 0, "--threads"},
                                        {common.device != Device::cpu, "--device"}})
      if (given)
        throw InputError(
            {std::string("elastiform profile: ") + option, "nothing beside --import, which measures nothing", option, "leave it out"});
    LatencyTable table = load_latency(*import_);
    table.imported = true;
    for (const auto* networks : {&table.calibration, &table.networks})
      for (const LatencyTable::Network& network : *networks) run.space().check(network.subnet, *import_);
    if (const std::string why = why_unusable(table, run.space(), run.costs().deploy(), *import_, run.name()); !why.empty())
      throw InputError({*import_, "a table for " + run.name(), why, ""});
    return table;
  }

  std::optional<LatencyTable> measured(const Run& run, const CommonOptions& common) const {
    const Deploy& deploy = run.costs().deploy();
    if (common.threads > 0 && common.threads != deploy.threads)
      throw InputError({"elastiform profile: --threads", fmt::format("{}, deploy.threads of {}", deploy.threads, run.paths().recipe()),
                        std::to_string(common.threads), "edit [deploy] there"});
    if (rounds_.value_or(2) % 2 != 0)
      throw InputError(
          {"elastiform profile: --rounds", "an even number: the noise floor is between the halves", std::to_string(*rounds_), ""});
    ProfilePlan plan;
    const auto take = [](const std::optional<std::int64_t>& given, int& value) {
      if (given) value = static_cast<int>(std::min<std::int64_t>(*given, 1'000'000));
    };
    take(rounds_, plan.rounds), take(passes_, plan.passes), take(networks_, plan.networks);
    plan.seed = static_cast<std::uint64_t>(seed_.value_or(0));
    RunClock clock(run, deploy, common.device);
    Progress progress(common.json, "profile");
    auto table = measure_table(run.costs(), clock, plan, [&](std::int64_t done, std::int64_t total) {
      progress.update(done, total);
      return !interrupted();
    });
    if (!table) return std::nullopt;
    table->source = "elastiform " ELASTIFORM_VERSION "+" ELASTIFORM_COMMIT;
    table->machine = clock.machine();
    table->device = std::string(name_of(common.device));
    table->deploy = deploy;
    return table;
  }

  /// Medians of results.h5 belong to the machine of the run's table: those of another one, of a table that was imported, or of one that is
  /// not there to say whose it was, go.
  static void forget_other_medians(const Run& run, const LatencyTable& table) {
    try {
      const LatencyTable before = load_latency(run.paths().latency());
      if (before.machine == table.machine && before.imported == table.imported && before.device == table.device) return;
    } catch (const InputError&) {  // gone, or no table
    }
    if (!run.results(ResultStore::Mode::read)->evaluations().empty()) run.results(ResultStore::Mode::write)->forget_latencies();
  }

  std::string run_;
  std::optional<std::int64_t> rounds_, passes_, networks_, seed_;
  std::optional<std::string> import_;
};

}  // namespace

std::unique_ptr<Command> make_profile_command() { return std::make_unique<ProfileCommand>(); }

}  // namespace elastiform
