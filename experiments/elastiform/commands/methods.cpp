#include <fmt/core.h>

#include "experiments/elastiform/command_line.hpp"
#include "experiments/elastiform/method_list.hpp"
#include "experiments/elastiform/output.hpp"

namespace elastiform {
namespace {

/// `elastiform methods`: what a recipe can choose between.
class MethodsCommand final : public Command {
 public:
  std::string_view name() const override { return "methods"; }
  std::string_view help() const override { return "List the methods that a recipe can choose, with their recipe lines"; }
  std::string_view example() const override { return "elastiform methods --of train.optimizer"; }
  void declare(Options& options) override { options.option("of", of_, "Only those of one key, e.g. train.optimizer"); }
  int run(const CommonOptions& common) override {
    const std::vector<Method> methods = methods_of(of_.value_or(""));
    if (common.json) {
      fmt::print("{}\n", methods_json(methods));
      return 0;
    }
    std::string_view key;
    for (const Method& method : methods) {
      if (method.key != key) fmt::print("{}{}\n", key.empty() ? "" : "\n", method.key);
      key = method.key;
      fmt::print("  {:<22} {}{}\n", method.value, method.help, method.source.empty() ? "" : " (" + method.source + ")");
    }
    return 0;
  }

 private:
  std::optional<std::string> of_;
};

}  // namespace

std::unique_ptr<Command> make_methods_command() { return std::make_unique<MethodsCommand>(); }

}  // namespace elastiform
