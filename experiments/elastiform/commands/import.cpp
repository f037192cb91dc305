#include <fmt/core.h>

#include <algorithm>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/import_steps.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/run_folder.hpp"
#include "kernels/errors.hpp"
#include "supernet/importance.hpp"

namespace elastiform {
namespace {

std::vector<std::string> importance_names() {
  std::vector<std::string> names;
  for (const ImportanceEntry& entry : importances()) names.emplace_back(entry.name);
  return names;
}

/// `elastiform import`: a checkpoint made elsewhere as the largest subnet of a new run.
class ImportCommand final : public Command {
 public:
  std::string_view name() const override { return "import"; }
  std::string_view help() const override { return "Make a run whose largest subnet is a checkpoint made elsewhere"; }
  std::string_view example() const override {
    return "elastiform import smollm --run runs/smollm --text kjv.txt --context 512 --space embed=384,576 --set train.steps=2000";
  }
  void declare(Options& options) override {
    options.positional(
        "path", request_.path,
        "A Hugging Face folder (Llama, Mistral, Qwen2, GPT-2, ViT, DeiT, DINOv2), a GGUF file or an export of ours; tokenizers of "
        "byte-level BPE and of sentencepiece (docs/imports.md)");
    options.option("run", request_.run, "Folder of the new run");
    options.option("text", request_.text, "Of a language model: file or folder of text, or token shards, to train and score on");
    options.option("images", request_.images, "Of a classifier: file or folder of images, as data.images (docs/vision.md)");
    options.option("labels", request_.labels, "Of a classifier: the file of labels beside .npy and IDX images");
    options.option("classes", classes_, "Of a classifier's body that has no head: how many classes its new head has", 2);
    options.option("tokenizer", request_.tokenizer,
                   "Instead of the checkpoint's: bytes, or the place of a tokenizer.json or tokenizer.model");
    options.option("context", context_, "Tokens that a position can see, at most the checkpoint's (the default)", 1);
    options.choice("importance", request_.importance, importance_names(), "What puts heads, FFN columns and channels in order");
    options.option("calibration", request_.calibration, "With --importance activations: the text to look at (default: --text)");
    options.option("space", request_.space, "A key of [space]: embed=384,576; depth, heads and ffn likewise (docs/recipes.md)");
    options.option("set", request_.set, "A value of the run's recipe: table.key=value");
  }
  int run(const CommonOptions& common) override {
    request_.run = without_slash(request_.run);
    request_.path = without_slash(request_.path);
    if (request_.run.empty()) throw InputError({"elastiform import", "--run FOLDER", "none", ""});
    if (request_.text.empty() && request_.images.empty())
      throw InputError(
          {"elastiform import", "--text FILE, or --images FILE of a classifier", "neither", "what the run is trained and scored on"});
    if (classes_) request_.classes = static_cast<int>(std::min<std::int64_t>(*classes_, INT32_MAX));
    if (context_) request_.context = static_cast<int>(std::min<std::int64_t>(*context_, INT32_MAX));
    request_.threads = threads_of(common);
    const ImportedRun made = import_checkpoint(request_);
    if (common.json) {
      fmt::print("{}\n", JsonObject()
                             .add("run", made.folder)
                             .add("subnet", made.subnet)
                             .add("parameters", made.parameters)
                             .add("subnets", made.subnets)
                             .add("vocabulary", static_cast<std::int64_t>(made.vocabulary))
                             .add("context", static_cast<std::int64_t>(made.context))
                             .add("bytes_per_token", made.bytes_per_token)
                             .add("importance", request_.importance)
                             .add("calibration_tokens", made.calibrated_on)
                             .text());
      return 0;
    }
    const bool images = !request_.images.empty();
    fmt::print("{}: {}, {} parameters, {} {} tokens, {} {}\n", made.folder, made.subnet, grouped(made.parameters),
               images ? "images of" : "context", made.context, grouped(made.vocabulary), images ? "classes" : "ids");
    fmt::print("the largest of {} subnets{}\n", grouped(made.subnets),
               images ? "" : fmt::format("; {:.3f} bytes of text a token", made.bytes_per_token));
    if (made.calibrated_on > 0) fmt::print("put in order by {} on {} tokens\n", request_.importance, grouped(made.calibrated_on));
    fmt::print("next: elastiform evaluate {0} --subnet largest, elastiform train --resume {0}\n", made.folder);
    return 0;
  }

 private:
  ImportRequest request_;
  std::optional<std::int64_t> context_, classes_;
};

}  // namespace

std::unique_ptr<Command> make_import_command() { return std::make_unique<ImportCommand>(); }

}  // namespace elastiform
