#include <fmt/core.h>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/inspected_file.hpp"
#include "experiments/elastiform/output.hpp"
#include "experiments/elastiform/run_folder.hpp"

namespace elastiform {
namespace {

/// `elastiform inspect`: what a run or any of its files contains, or one digest to compare two of them by.
class InspectCommand final : public Command {
 public:
  std::string_view name() const override { return "inspect"; }
  std::string_view help() const override { return "What a run, one of its files or an export contains"; }
  std::string_view example() const override { return "elastiform inspect runs/demo --digest"; }
  void declare(Options& options) override {
    options.positional("file-or-run", path_, "Run folder, .h5, .journal, .jsonl or .safetensors file, or a Hugging Face folder");
    options.flag("digest", digest_, "One SHA-256 of the content without timings and the build's identity");
  }
  int run(const CommonOptions& common) override {
    path_ = without_slash(path_);
    JsonObject object;
    object.add("path", path_);
    if (digest_) {
      const auto digest = digest_of_path(path_);
      if (common.json) fmt::print("{}\n", object.add("digest", digest).text());
      else fmt::print("{}\n", digest);
      return 0;
    }
    std::vector<std::string> quoted;
    for (const auto& line : summary_of_path(path_)) {
      if (common.json) quoted.push_back(json_text(line));
      else fmt::print("{}\n", line);
    }
    if (common.json) fmt::print("{}\n", object.add_json("contains", json_list(quoted)).text());
    return 0;
  }

 private:
  std::string path_;
  bool digest_ = false;
};

}  // namespace

std::unique_ptr<Command> make_inspect_command() { return std::make_unique<InspectCommand>(); }

}  // namespace elastiform
