#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "experiments/elastiform/job.hpp"
#include "kernels/device.hpp"

namespace elastiform {

/// Options that every command has.
struct CommonOptions {
  bool json = false;  // one JSON document on stdout, everything else on stderr
  int threads = 0;    // 0: the machine's
  Device device = Device::cpu;
  Job* job = nullptr;  // nullptr: one process
};

/// Where a command declares what it takes. Hides the command-line library, which only command_line.cpp includes.
class Options {
 public:
  virtual ~Options() = default;
  virtual void positional(std::string name, std::string& target, std::string help, bool required = true) = 0;
  virtual void positionals(std::string name, std::vector<std::string>& target, std::string help) = 0;  // one or more, the last ones
  // Names with or without the leading dashes.
  virtual void option(std::string name, std::string& target, std::string help) = 0;
  virtual void option(std::string name, std::int64_t& target, std::string help, std::int64_t minimum = 0) = 0;
  virtual void option(std::string name, double& target, std::string help, double minimum, double maximum) = 0;
  virtual void option(std::string name, std::optional<std::int64_t>& target, std::string help, std::int64_t minimum = 0) = 0;
  virtual void option(std::string name, std::optional<double>& target, std::string help, double minimum, double maximum) = 0;
  virtual void option(std::string name, std::optional<std::string>& target, std::string help) = 0;
  virtual void option(std::string name, std::vector<std::string>& target, std::string help) = 0;  // may be repeated
  virtual void choice(std::string name, std::string& target, std::vector<std::string> values, std::string help) = 0;
  virtual void flag(std::string name, bool& target, std::string help) = 0;
};

/// One command of the program, in commands/NAME.cpp.
class Command {
 public:
  virtual ~Command() = default;
  virtual std::string_view name() const = 0;
  virtual std::string_view help() const = 0;     // one line
  virtual std::string_view example() const = 0;  // a line that works, shown by --help
  virtual void declare(Options& options) = 0;
  /// Whether it runs networks, and so takes --device.
  virtual bool computes() const { return false; }
  /// Whether several processes can run it together: then it calls the followers (Job).
  virtual bool shares_work() const { return false; }
  /// Does the work; returns the exit status. Throws InputError for bad input (status 2), anything else is a failure (status 1).
  virtual int run(const CommonOptions& common) = 0;
};

// One factory a command; main.cpp lists them in the order of a user's day.
std::unique_ptr<Command> make_import_command();
std::unique_ptr<Command> make_tokenize_command();
std::unique_ptr<Command> make_train_command();
std::unique_ptr<Command> make_finetune_command();
std::unique_ptr<Command> make_space_command();
std::unique_ptr<Command> make_sample_command();
std::unique_ptr<Command> make_cost_command();
std::unique_ptr<Command> make_evaluate_command();
std::unique_ptr<Command> make_latency_command();
std::unique_ptr<Command> make_profile_command();
std::unique_ptr<Command> make_search_command();
std::unique_ptr<Command> make_front_command();
std::unique_ptr<Command> make_show_command();
std::unique_ptr<Command> make_export_command();
std::unique_ptr<Command> make_generate_command();
std::unique_ptr<Command> make_classify_command();
std::unique_ptr<Command> make_inspect_command();
std::unique_ptr<Command> make_compare_command();
std::unique_ptr<Command> make_methods_command();
std::unique_ptr<Command> make_demo_command();

/// Parses argv, runs one command, maps errors: one line on stderr and 2 for bad input (unknown options and commands name the nearest known
/// one), 1 for failures, 130 when Ctrl-C left something undone.
int run_program(int argc, const char* const* argv, std::span<const std::unique_ptr<Command>> commands);

constexpr int kInterruptedStatus = 130;

/// --threads, or this process's share of the machine's number.
int threads_of(const CommonOptions& common);

/// The processes that run the command together.
Communicator& ranks_of(const CommonOptions& common);

/// True once Ctrl-C was pressed: long loops look at it between steps, save and leave.
bool interrupted();

}  // namespace elastiform
