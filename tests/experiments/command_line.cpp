#include "experiments/elastiform/command_line.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
namespace fs = std::filesystem;

/// A command that gets a Ctrl-C when it begins to work.
class Interrupting final : public Command {
 public:
  explicit Interrupting(std::unique_ptr<Command> command) : command_(std::move(command)) {}
  std::string_view name() const override { return command_->name(); }
  std::string_view help() const override { return command_->help(); }
  std::string_view example() const override { return command_->example(); }
  void declare(Options& options) override { command_->declare(options); }
  int run(const CommonOptions& common) override {
    std::raise(SIGINT);
    return interrupted() ? command_->run(common) : 7;
  }

 private:
  std::unique_ptr<Command> command_;
};

// In a process of its own: that there was a Ctrl-C stays true in one.
int status_when_interrupted(std::unique_ptr<Command> command, const std::string& folder, const std::vector<std::string>& arguments) {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const int nowhere = ::open("/dev/null", O_WRONLY);
    if (::chdir(folder.c_str()) != 0 || ::dup2(nowhere, 1) < 0 || ::dup2(nowhere, 2) < 0) ::_exit(126);
    std::vector<std::unique_ptr<Command>> commands;
    commands.push_back(std::make_unique<Interrupting>(std::move(command)));
    std::vector<const char*> argv{"elastiform"};
    for (const auto& argument : arguments) argv.push_back(argument.c_str());
    ::_exit(run_program(static_cast<int>(argv.size()), argv.data(), commands));
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

TEST_CASE("Ctrl-C ends an evaluation, an export and a dry run, which keep and write nothing", "[experiments][interrupt]") {
  const OwnRun own;
  const TemporaryFolder& folder = own.folder;
  fs::remove(folder / "runs/micro/results.h5");
  fs::remove(folder / "runs/micro/results.journal");
  const auto line = [](const char* text) { return words(text); };
  CHECK(status_when_interrupted(make_evaluate_command(), folder.path(), line("evaluate runs/micro --subnet largest --threads 1")) == 130);
  CHECK(status_when_interrupted(make_export_command(), folder.path(), line("export runs/micro --subnet largest --to x.h5 --threads 1")) ==
        130);
  CHECK(status_when_interrupted(make_train_command(), folder.path(), line("train micro.toml --dry-run --threads 1")) == 130);
  CHECK_FALSE(fs::exists(folder / "x.h5"));
  CHECK_THAT(run_program_in(folder.path(), words("show runs/micro 1")).err, Contains("expected an evaluation, found 1"));
}

TEST_CASE("a command that had nothing left to do when Ctrl-C came has succeeded", "[experiments][interrupt]") {
  CHECK(status_when_interrupted(make_cost_command(), micro_folder().path(), words("cost micro.toml")) == 0);
}

TEST_CASE("every command refuses a wrong environment variable in one line", "[experiments][environment]") {
  struct Case {
    const char *variable, *value, *says;
  };
  const auto c = GENERATE(Case{"ELASTIFORM_THREADS", "abc", "ELASTIFORM_THREADS: expected 1 to 256, found 'abc'"},
                          Case{"ELASTIFORM_THREADS", "257", "ELASTIFORM_THREADS: expected 1 to 256"},
                          Case{"ELASTIFORM_ISA", "zzz", "ELASTIFORM_ISA: expected one of"},
                          Case{"ELASTIFORM_VERBOSE", "x", "ELASTIFORM_VERBOSE: expected kernels or summary"},
                          Case{"ELASTIFORM_FAIL_POINT", "abc", "ELASTIFORM_FAIL_POINT: expected a number from 1"});
  const auto& folder = micro_folder();
  for (const char* line : {"cost micro.toml", "front runs/micro", "show runs/micro 1", "generate runs/micro --prompt a --tokens 2",
                           "evaluate runs/micro --subnet largest", "--version"}) {
    CAPTURE(c.variable, line);
    ::setenv(c.variable, c.value, 1);
    const auto result = run_program_in(folder.path(), words(line));
    ::unsetenv(c.variable);
    CHECK(result.status == 2);
    CHECK(result.out.empty());
    CHECK_THAT(result.err, Contains(c.says));
  }
}

TEST_CASE("more threads than a pool has are refused by the option's name", "[experiments][environment]") {
  const auto& folder = micro_folder();
  check_refused(folder.path(), words("cost micro.toml --threads 257"), "elastiform cost: --threads: expected at most 256, found 257");
  CHECK(run_program_in(folder.path(), words("cost micro.toml --threads 256")).status == 0);
  const auto recipe = check_refused(folder.path(), words("train micro.toml --dry-run --set deploy.threads=257"), "deploy.threads");
  CHECK_THAT(recipe.err, Contains("256"));
}

TEST_CASE("a network that is worse than guessing is not trained, evaluated or exported without a word", "[experiments][diverged]") {
  const TemporaryFolder folder;
  write_micro(folder, micro_recipe());
  const char* says = "worse than guessing (8): the training diverged";
  const auto trained = run_program_in(folder.path(), words("train micro.toml --run bad --set train.rate=10 --set train.clip=0"));
  CHECK(trained.status == 0);
  CHECK_THAT(trained.out, Contains(says));
  CHECK_THAT(run_program_in(folder.path(), words("evaluate bad --subnet largest")).out, Contains(says));
  CHECK_THAT(run_program_in(folder.path(), words("export bad --subnet largest --to model.h5")).out, Contains(says));
  const auto good = run_program_in(folder.path(), words("train micro.toml --run good"));
  CHECK(good.status == 0);
  CHECK_THAT(good.out, !Contains("worse than guessing"));
}

}  // namespace
}  // namespace elastiform
