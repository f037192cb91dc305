#include <fmt/core.h>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/evaluation_output.hpp"
#include "experiments/elastiform/export_steps.hpp"
#include "experiments/elastiform/output.hpp"
#include "kernels/errors.hpp"
#include "search/statistics.hpp"

namespace elastiform {
namespace {

std::string exported_json(const Exported& exported, const Format& format, bool classifies) {
  std::vector<std::string> quality;
  for (const auto& one : exported.card.quality) {
    JsonObject item;
    item.add("split", one.split).add("loss", one.loss).add("loss_se", one.loss_se);
    if (classifies) item.add("accuracy", one.accuracy).add("images", one.tokens);
    else item.add("bits_per_byte", one.bits_per_byte).add("tokens", one.tokens);
    quality.push_back(item.text());
  }
  JsonObject object;
  object.add("path", exported.path)
      .add("format", format.name)
      .add("id", exported.id)
      .add("subnet", exported.card.subnet)
      .add("parameters", exported.card.costs.parameters)
      .add("difference", exported.difference)
      .add_json("quality", json_list(quality));
  if (exported.padding)
    object.add_json("padded", JsonObject()
                                  .add("subnet", elastiform::format(exported.padding->subnet))
                                  .add("parameters", exported.padding->padded.parameters)
                                  .add("cache_bytes", exported.padding->padded.cache_bytes)
                                  .add("exact_cache_bytes", exported.padding->exact.cache_bytes)
                                  .text());
  if (const auto& report = exported.report)
    object.add_json("checked", JsonObject().add("consumer", report->version).add("difference", report->difference).text());
  if (!exported.note.empty()) object.add("note", exported.note);
  return object.text();
}

/// `elastiform export`: a subnet as a model that other programs load, proven by reading it back.
class ExportCommand final : public Command {
 public:
  std::string_view name() const override { return "export"; }
  std::string_view help() const override { return "Write a subnet as a model that other programs load"; }
  std::string_view example() const override { return "elastiform export runs/demo --subnet 12 --format hf-llama --to demo-llama"; }
  bool computes() const override { return true; }
  void declare(Options& options) override {
    std::vector<std::string> formats;
    for (const Format& format : export_formats()) formats.emplace_back(format.name);
    options.positional("run", run_, "Run folder");
    options.option("subnet", subnet_, "A subnet's text, largest, middle, smallest or an id of the run");
    options.choice("weights", weights_, kWeightChoices, kWeightsHelp);
    options.option("rank", rank_, kRankHelp, 1);
    options.choice("format", format_, formats, "What to write (docs/exports.md)");
    options.flag("pad", pad_, "Where blocks differ and the format's are all alike: add zeros until they are");
    options.option("check", check_, "Have a real consumer load the export, too: transformers, llama-cpp or onnxruntime");
    options.option("python", python_, "For --check: the Python that has it (default: what tests/consumers/make_environment.sh made)");
    options.flag("no-scores", unscored_, "Compute no losses for the model card, which takes a while where the splits are long");
    options.option("to", to_, "Where to write; nothing may be there (default: exports/ of the run)");
  }
  int run(const CommonOptions& common) override {
    if (subnet_.empty()) throw InputError({"elastiform export", "--subnet", "none", "elastiform front RUN lists good ones"});
    if (to_ && to_->empty()) throw InputError({"elastiform export: --to", "a path", "an empty one", ""});
    const Format& format = find_format(format_);
    const Consumer* const consumer = check_ ? &find_consumer(*check_) : nullptr;
    if (python_ && consumer == nullptr) throw InputError({"--python", "--check beside it", "none", ""});
    const std::string python = python_.value_or(cached_python());
    if (consumer != nullptr) require_consumer(*consumer, format, python);
    Run run(run_, weights_, rank_, Placing::mapped);
    const Subnet subnet = run.subnet(subnet_);
    const Exported exported = export_subnet(
        run, subnet, format, {.to = to_.value_or(""), .pad = pad_, .scores = !unscored_, .check = {consumer, python}}, common);
    const auto& report = exported.report;
    if (common.json) fmt::print("{}\n", exported_json(exported, format, run.metric().classifies));
    auto* const stream = text_stream(common.json);
    fmt::print(stream, "{}: {} as {}, {} parameters\n", exported.path, exported.card.subnet, format.name,
               grouped(exported.card.costs.parameters));
    if (exported.padding) fmt::print(stream, "{}", padding_line(*exported.padding));
    if (!exported.note.empty()) fmt::print(stream, "note: {}\n", exported.note);
    for (const auto& quality : exported.card.quality)
      if (run.metric().classifies)
        fmt::print(stream, "{:<6} accuracy {:.2f} %, loss {:.4f} ± {:.4f} nats per image (95 %, over images)\n", quality.split,
                   100 * quality.accuracy, quality.loss, kNormal95 * quality.loss_se);
      else
        fmt::print(stream, "{:<6} loss {:.4f} ± {:.4f} nats per token (95 %, over blocks of data), {:.4f} bits per byte\n", quality.split,
                   quality.loss, kNormal95 * quality.loss_se, quality.bits_per_byte);
    if (!exported.card.quality.empty())
      fmt::print(stream, "{}",
                 chance_warning(exported.card.subnet, exported.card.quality.front().loss, run.space().model(),
                                run.report_set(Split::search).bytes_per_token));
    fmt::print(stream, "{}: logits differ from the subnet inside the supernet by {:.1e} of the largest ({:.0e} allowed)\n",
               format.read != nullptr ? "read back" : "run from the file", exported.difference, format.tolerance);
    if (report)
      fmt::print(stream, "{}: logits differ by {:.1e} of the largest ({:.0e} allowed)\n", report->version, report->difference,
                 report->allowed);
    if (format.read != nullptr) fmt::print(stream, "try it: {}\n", try_line(exported.path, run.space().model()));
    return 0;
  }

 private:
  std::string run_, subnet_, format_ = "elastiform", weights_ = "trained";
  std::optional<std::int64_t> rank_;
  std::optional<std::string> to_, check_, python_;
  bool pad_ = false, unscored_ = false;
};

}  // namespace

std::unique_ptr<Command> make_export_command() { return std::make_unique<ExportCommand>(); }

}  // namespace elastiform
