#include "experiments/elastiform/command_line.hpp"

#include <fmt/core.h>

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <new>

#include "experiments/elastiform/devices.hpp"
#include "kernels/collectives/mpi.hpp"
#include "kernels/cpu/identity.hpp"
#include "kernels/errors.hpp"
#include "kernels/parallel.hpp"
#include "kernels/verbose.hpp"
#include "search/evaluator.hpp"
#include "supernet/nearest_name.hpp"
#include "supernet/storage/durable_file.hpp"
#include "version.hpp"

namespace elastiform {
namespace {

volatile std::sig_atomic_t g_interrupted = 0;  // the only state a signal handler may write

// The second Ctrl-C ends the process at once: a step that hangs must not hold the terminal. Files are durable at every moment.
extern "C" void note_interrupt(int) {
  g_interrupted = 1;
  std::signal(SIGINT, SIG_DFL);
}

std::string bare(const std::string& name) { return name.substr(std::min(name.find_first_not_of('-'), name.size())); }

template <class Number>
Number parse_number(const std::string& where, const std::string& text, const std::string& expected, Number minimum, Number maximum) {
  Number value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || !(value >= minimum && value <= maximum))
    throw InputError({where, expected, text.empty() ? "nothing" : text, ""});
  return value;
}

std::int64_t parse_integer(const std::string& where, const std::string& text, std::int64_t minimum) {
  return parse_number<std::int64_t>(where, text, fmt::format("an integer of at least {}", minimum), minimum, INT64_MAX);
}

// Every value is taken as text and converted after parsing: the library's own conversion messages name neither range nor value.
class CommandOptions final : public Options {
 public:
  CommandOptions(CLI::App& app, std::string command) : app_(app), command_(std::move(command)) {}

  void positional(std::string name, std::string& target, std::string help, bool required) override {
    auto& entry = add(name, name, "TEXT", help, [&target](const std::string&, const std::string& text) { target = text; });
    entry.positional = true;
    entry.required = required;
  }
  void option(std::string name, std::string& target, std::string help) override {
    add(name, dashed(name), "TEXT", with_default(help, target), [&target](const std::string&, const std::string& text) { target = text; });
  }
  void option(std::string name, std::int64_t& target, std::string help, std::int64_t minimum) override {
    add(name, dashed(name), "INT", with_default(help, std::to_string(target)),
        [&target, minimum](const std::string& where, const std::string& text) { target = parse_integer(where, text, minimum); });
  }
  void option(std::string name, double& target, std::string help, double minimum, double maximum) override {
    add(name, dashed(name), "NUMBER", with_default(help, fmt::format("{}", target)),
        [&target, minimum, maximum](const std::string& where, const std::string& text) {
          target = parse_number<double>(where, text, fmt::format("a number from {} to {}", minimum, maximum), minimum, maximum);
        });
  }
  void option(std::string name, std::optional<std::int64_t>& target, std::string help, std::int64_t minimum) override {
    add(name, dashed(name), "INT", help,
        [&target, minimum](const std::string& where, const std::string& text) { target = parse_integer(where, text, minimum); });
  }
  void option(std::string name, std::optional<double>& target, std::string help, double minimum, double maximum) override {
    add(name, dashed(name), "NUMBER", help, [&target, minimum, maximum](const std::string& where, const std::string& text) {
      target = parse_number<double>(where, text, fmt::format("a number from {} to {}", minimum, maximum), minimum, maximum);
    });
  }
  void option(std::string name, std::optional<std::string>& target, std::string help) override {
    add(name, dashed(name), "TEXT", help, [&target](const std::string&, const std::string& text) { target = text; });
  }
  void option(std::string name, std::vector<std::string>& target, std::string help) override {
    add(name, dashed(name), "TEXT", help + " (may be repeated)", [&target](const std::string&, const std::string& text) {
      target.push_back(text);
    }).repeated = true;
  }
  void choice(std::string name, std::string& target, std::vector<std::string> values, std::string help) override {
    add(name, dashed(name), "{" + list_of(values) + "}", with_default(help, target),
        [&target, values](const std::string& where, const std::string& text) {
          if (std::find(values.begin(), values.end(), text) == values.end())
            throw unknown_name(where, text, std::vector<std::string_view>(values.begin(), values.end()));
          target = text;
        });
  }
  void flag(std::string name, bool& target, std::string help) override {
    auto* option =
        app_.add_flag(dashed(name), std::as_const(help))->disable_flag_override()->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    names_.push_back(dashed(name));
    flags_.push_back({option, &target});
  }

  /// Only for the help text: the library's own check would hide an unknown option behind a missing argument.
  void mark_required() {
    for (const auto& entry : entries_) entry.option->required(entry.required);
  }
  /// Converts what was typed into the commands' targets; the first mistake is thrown.
  void store() const {
    for (const auto& [option, target] : flags_) *target = option->count() > 0;
    for (const auto& entry : entries_) {
      const auto& values = entry.option->results();
      if (entry.required && values.empty())
        throw InputError({"elastiform " + command_, entry.name, "nothing", fmt::format("see elastiform {} --help", command_)});
      if (!entry.repeated && values.size() > 1)
        throw InputError({"elastiform " + command_ + ": " + entry.name, "one value", list_of(values), ""});
      for (const auto& value : values)
        if (!entry.positional && std::find(names_.begin(), names_.end(), value) != names_.end())  // the library takes it: --run --json
          throw InputError({"elastiform " + command_ + ": " + entry.name, "a value", "the option " + value, ""});
      for (const auto& value : values) entry.convert("elastiform " + command_ + ": " + entry.name, value);
    }
  }
  /// The library said that something is wrong with argv: says it in our words.
  [[noreturn]] void explain(std::span<const std::string> arguments, const std::string& library_says) const {
    const auto where = "elastiform " + command_;
    const auto remedy = fmt::format("see elastiform {} --help", command_);
    for (const auto& text : app_.remaining()) {
      if (text.size() < 2 || text[0] != '-') continue;
      const auto typed = text.substr(0, text.find('='));
      const auto nearest = nearest_name(typed, std::vector<std::string_view>(names_.begin(), names_.end()));
      throw InputError({where, "a known option", typed, fmt::format("nearest {}; {}", nearest, remedy)});
    }
    if (!app_.remaining().empty()) throw InputError({where, "no further argument", app_.remaining().front(), remedy});
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      const auto* entry = find(arguments[i]);
      if (entry == nullptr || (i + 1 < arguments.size() && arguments[i + 1].rfind("--", 0) != 0)) continue;
      throw InputError({where + ": " + entry->name, "a value", i + 1 < arguments.size() ? arguments[i + 1] : "nothing", remedy});
    }
    throw InputError({where, "", library_says, remedy});
  }

 private:
  struct Entry {
    std::string name;
    CLI::Option* option = nullptr;
    std::function<void(const std::string& where, const std::string& text)> convert;
    bool positional = false, required = false, repeated = false;
  };

  static std::string dashed(const std::string& name) { return "--" + bare(name); }
  static std::string with_default(const std::string& help, const std::string& value) {
    return value.empty() ? help : fmt::format("{} (default {})", help, value);
  }
  const Entry* find(const std::string& name) const {
    for (const auto& entry : entries_)
      if (!entry.positional && entry.name == name) return &entry;
    return nullptr;
  }
  Entry& add(const std::string& name, const std::string& library_name, const std::string& type, const std::string& help,
             std::function<void(const std::string&, const std::string&)> convert) {
    auto* option = app_.add_option(
                           library_name, [](const CLI::results_t&) { return true; }, help)
                       ->type_name(type)
                       ->expected(1);
    // Takes one value each time, as often as it comes; store() refuses what may not be repeated, naming both values.
    option->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    if (library_name[0] == '-') names_.push_back(library_name);
    entries_.push_back({library_name[0] == '-' ? library_name : name, option, std::move(convert)});
    return entries_.back();
  }

  CLI::App& app_;
  std::string command_;
  std::vector<Entry> entries_;
  std::vector<std::pair<CLI::Option*, bool*>> flags_;
  std::vector<std::string> names_{"--help"};
};

std::string program_help(std::span<const std::unique_ptr<Command>> commands) {
  std::string text =
      "Elastiform trains one Transformer whose depth and widths are elastic, finds its best subnets for a budget and exports them.\n\n"
      "Usage: elastiform COMMAND [OPTIONS]\n\nCommands:\n";
  for (const auto& command : commands) text += fmt::format("  {:<10} {}\n", command->name(), command->help());
  text +=
      "\n`elastiform COMMAND --help` shows a command's options and an example; `elastiform --version` the version.\n"
      "Exit status: 0 done, 1 failed, 2 bad input, 130 stopped by Ctrl-C before it was done.\n";
  return text;
}

Command& find_command(std::span<const std::unique_ptr<Command>> commands, const std::string& name) {
  std::vector<std::string_view> names;
  for (const auto& command : commands) {
    if (command->name() == name) return *command;
    names.push_back(command->name());
  }
  if (name.empty()) throw InputError({"elastiform", "a command", "nothing", "see elastiform --help"});
  throw unknown_name("elastiform", name, names);
}

int run_command(Command& command, const std::vector<std::string>& arguments, Job& job) {
  const std::string name(command.name());
  CLI::App app{std::string(command.help()), "elastiform " + name};
  app.footer("\nExample:\n  " + std::string(command.example()));
  app.get_formatter()->column_width(36);
  CommandOptions options(app, name);
  CommonOptions common;
  std::optional<std::int64_t> threads;
  command.declare(options);
  options.flag("json", common.json, "One JSON document on stdout, everything else on stderr");
  options.option("threads", threads, "Threads to use (default: the machine's)", 1);
  std::string device(name_of(common.device));
  if (command.computes()) options.choice("device", device, {"cpu", "cuda", "cuda-on-host"}, "What computes");
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());  // the order that the library wants
    app.parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    options.mark_required();
    fmt::print("{}", app.help());
    return 0;
  } catch (const CLI::ParseError& error) {
    options.explain(arguments, error.what());
  }
  options.store();
  if (job.ranks().size() > 1 && !command.shares_work())
    throw InputError({"elastiform " + name, "one process", fmt::format("{} of mpirun", job.ranks().size()),
                      "train and search are the commands that processes share"});
  common.job = &job;
  if (!job.ranks().leads()) common.json = false;  // a follower's stdout leads nowhere, its stderr does not
  if (threads && *threads > kMaxThreads)
    throw InputError({"elastiform " + name + ": --threads", fmt::format("at most {}", kMaxThreads), std::to_string(*threads), ""});
  common.threads = static_cast<int>(threads.value_or(0));
  common.device = parse_device(device, "--device");
  std::signal(SIGINT, note_interrupt);
  return command.run(common);
}

// All of them, whether this command would come to read them or not: a typo must not pass unnoticed, nor show when half the output is out.
void check_environment() {
  default_threads();
  choose_isa();
  verbose("");
  chosen_fail_point();
}

int report(Job* job, std::string text, int status) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  if (job != nullptr) return job->fail(text, status);
  // There is no job yet, so every process comes here with the same words.
  const auto launch = launched();
  if (!launch || launch->rank == 0) fmt::print(stderr, "error: {}\n", text);
  return status;
}

/// Processes on one machine share its cores, unless somebody has dealt them (mpirun binds) or said how many each takes.
int threads_beside(int machine_ranks) {
  const int cores = default_threads();
  const char* const said = std::getenv("ELASTIFORM_THREADS");
  if (machine_ranks == 1 || (said != nullptr && *said != '\0') || cores < ::sysconf(_SC_NPROCESSORS_ONLN)) return cores;
  return std::max(1, cores / machine_ranks);
}

}  // namespace

bool interrupted() { return g_interrupted != 0; }
void interrupt() { g_interrupted = 1; }

int threads_of(const CommonOptions& common) {
  return common.threads > 0 ? common.threads : threads_beside(common.job != nullptr ? common.job->machine_ranks() : 1);
}
Communicator& ranks_of(const CommonOptions& common) { return common.job != nullptr ? common.job->ranks() : alone(); }

int run_program(int argc, const char* const* argv, std::span<const std::unique_ptr<Command>> commands) {
  std::setvbuf(stdout, nullptr, _IOLBF, 1 << 16);  // a long run's lines show at once in a file or a pipe too
  std::optional<Job> started;
  Job* job = nullptr;
  try {
    check_environment();
    job = &started.emplace();
    offer_devices(job->machine_rank(), job->machine_ranks());
    if (const auto status = job->wait_for_leader()) return *status;
    std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
    const std::string first = arguments.empty() ? "" : arguments.front();
    int status = 0;
    if (first == "--help" || first == "-h" || first == "help") {
      fmt::print("{}", program_help(commands));
    } else if (first == "--version") {
      fmt::print("elastiform {} ({})\n", ELASTIFORM_VERSION, ELASTIFORM_COMMIT);
    } else {
      auto& command = find_command(commands, first);
      arguments.erase(arguments.begin());
      status = run_command(command, arguments, *job);
    }
    // A full disk or a closed pipe shows only when the buffer is written.
    if (status == 0 && (std::fflush(stdout) != 0 || std::ferror(stdout) != 0))
      return report(job, fmt::format("stdout: {}", std::strerror(errno)), 1);
    return job->end(status);
  } catch (const InputError& error) {
    return report(job, error.what(), 2);
  } catch (const Interrupted&) {
    return report(job, "interrupted; what was not finished was not kept", kInterruptedStatus);
  } catch (const RankLost& error) {
    return job != nullptr ? job->lose(error.rank()) : report(job, error.what(), 1);
  } catch (const std::bad_alloc&) {
    return report(job, "out of memory; a smaller space, batch or context needs less", 1);
  } catch (const std::exception& error) {
    return report(job, error.what(), 1);
  }
}

}  // namespace elastiform
