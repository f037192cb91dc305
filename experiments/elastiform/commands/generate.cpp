#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "experiments/elastiform/utf8_stream.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "supernet/formats/format.hpp"
#include "supernet/generation.hpp"

namespace elastiform {
namespace {

std::string as_list(const std::vector<std::int32_t>& ids) {
  std::vector<std::string> items;
  for (const std::int32_t id : ids) items.push_back(std::to_string(id));
  return json_list(items);
}

/// Shows bytes as they come: whole characters on a terminal, raw bytes into a pipe or file. Without a stream it shows nothing.
class Printer {
 public:
  explicit Printer(std::FILE* stream) : stream_(stream), terminal_(stream != nullptr && ::isatty(::fileno(stream)) == 1) {}
  void put(unsigned char byte) { show(terminal_ ? utf8_.take(byte) : std::string(1, static_cast<char>(byte))); }
  void finish() { show(utf8_.finish() + "\n"); }

 private:
  void show(const std::string& text) {
    if (text.empty() || stream_ == nullptr) return;
    std::fwrite(text.data(), 1, text.size(), stream_);
    std::fflush(stream_);
  }
  std::FILE* stream_;
  bool terminal_;
  Utf8Stream utf8_;
};

/// `elastiform generate`: text from an exported model or from a subnet of a run.
class GenerateCommand final : public Command {
 public:
  std::string_view name() const override { return "generate"; }
  std::string_view help() const override { return "Continue a text with an exported model or a subnet of a run"; }
  std::string_view example() const override {
    return "elastiform generate runs/demo --subnet largest --prompt \"In the beginning\" --temperature 0.8";
  }
  bool computes() const override { return true; }
  void declare(Options& options) override {
    options.positional("model", path_, "An exported model (file or folder) or a run folder");
    options.option("subnet", subnet_, "Of a run: a subnet's text, largest (default), middle, smallest or an id");
    options.choice("weights", weights_, kWeightChoices, "Of a run: " + std::string(kWeightsHelp));
    options.option("rank", rank_, kRankHelp, 1);
    options.option("prompt", prompt_, "Text to continue");
    options.option("tokens", options_.tokens, "How many tokens to generate");
    options.option("temperature", options_.temperature, "0: the likeliest token; 1: as the model says", 0, 1000);
    options.option("top-k", top_k_, "Draw among the K likeliest tokens only; 0: all");
    options.option("top-p", options_.top_p, "Draw among the likeliest tokens whose probabilities reach P", 1e-9, 1);
    options.option("seed", seed_, "Of the draws");
  }
  int run(const CommonOptions& common) override {
    options_.top_k = static_cast<int>(std::min<std::int64_t>(top_k_, INT32_MAX));
    options_.seed = static_cast<std::uint64_t>(seed_);
    if (is_run_folder(path_)) {
      Run run(path_, weights_, rank_);
      require_text(run.space().model());
      return generate_with(run.weights(), run.subnet(subnet_.value_or("largest")), run.tokenizer(), common);
    }
    const DenseModel model = load_model(path_);
    require_text(model.model);
    if (subnet_)
      throw InputError({"elastiform generate: --subnet", "a run folder", path_ + ", which holds one network", "leave --subnet out"});
    if (weights_ != kWeightChoices.front())
      throw InputError({"elastiform generate: --weights", "a run folder", path_ + ", which holds one network", "leave --weights out"});
    if (rank_) throw InputError({"elastiform generate: --rank", "a run folder", path_ + ", which holds one network", "leave --rank out"});
    return generate_with(model.weights, model.subnet, tokenizer_of(model), common);
  }

 private:
  void require_text(const ModelConfig& model) const {
    if (model.classifies())
      throw InputError({path_, "a language model", "a classifier of images", "elastiform classify names the classes of images"});
  }

  Tokenizer tokenizer_of(const DenseModel& model) const {
    if (model.no_tokenizer) throw *model.no_tokenizer;
    if (!model.tokenizer.empty()) return Tokenizer::parse(model.tokenizer, path_ + ": tokenizer");
    if (model.model.vocabulary != Tokenizer::bytes().vocabulary())
      throw InputError({path_, "a tokenizer.json or tokenizer.model, or a byte vocabulary of 256 ids",
                        std::to_string(model.model.vocabulary) + " ids without one", "its tokenizer is not known here"});
    return Tokenizer::bytes();
  }

  std::vector<std::int32_t> prompt_of(const Tokenizer& tokenizer) const {
    std::vector<std::int32_t> prompt = tokenizer.prefix();
    const std::vector<std::int32_t> ids = tokenizer.encode(prompt_);
    prompt.insert(prompt.end(), ids.begin(), ids.end());
    return prompt;
  }

  int generate_with(const Weights& weights, const Subnet& subnet, const Tokenizer& tokenizer, const CommonOptions& common) {
    const int rows = weights.table().space().model().vocabulary;
    if (tokenizer.vocabulary() > rows)
      throw InputError({path_, "a tokenizer of at most " + std::to_string(rows) + " ids", std::to_string(tokenizer.vocabulary()), ""});
    options_.vocabulary = tokenizer.vocabulary();
    const ThreadPool pool(threads_of(common));
    const auto backend = make_backend(Compute(common.device, Precision::f32), pool);
    const Network network(weights.table().space(), DType::float32, backend->memory());
    const PlacedWeights placed(weights, backend->memory());
    const std::vector<std::int32_t> prompt = prompt_of(tokenizer);
    std::vector<std::int32_t> ids;
    Printer printer(common.json ? nullptr : stdout);
    for (const char byte : prompt_) printer.put(static_cast<unsigned char>(byte));
    std::string text;
    // With nothing before it the first token begins a text.
    const auto text_of = [&](std::int32_t id) {
      return prompt_.empty() && ids.size() == 1 ? tokenizer.decode(ids) : std::string(tokenizer.text_of(id));
    };
    // A text begins at a line's start.
    const std::vector<std::int32_t> first = prompt.empty() ? tokenizer.encode("\n") : prompt;
    generate(*backend, network, *placed, subnet, first, options_, [&](std::int32_t id) {
      if (interrupted()) return false;
      ids.push_back(id);
      const std::string part = text_of(id);
      text += part;
      for (const char byte : part) printer.put(static_cast<unsigned char>(byte));
      return true;
    });
    printer.finish();
    if (common.json)
      fmt::print("{}\n", JsonObject()
                             .add("subnet", format(subnet))
                             .add("prompt", valid_utf8(prompt_))
                             .add("text", valid_utf8(text))
                             .add_json("prompt_ids", as_list(prompt))
                             .add_json("ids", as_list(ids))
                             .text());
    return interrupted() ? kInterruptedStatus : 0;
  }

  std::string path_, prompt_, weights_ = kWeightChoices.front();
  std::optional<std::int64_t> rank_;
  std::optional<std::string> subnet_;
  GenerationOptions options_;
  std::int64_t top_k_ = 0, seed_ = 0;
};

}  // namespace

std::unique_ptr<Command> make_generate_command() { return std::make_unique<GenerateCommand>(); }

}  // namespace elastiform
