#include "tests/experiments/program.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iterator>
#include <sstream>
#include <stdexcept>

#include "kernels/random.hpp"
#include "supernet/sha256.hpp"

namespace elastiform {
namespace {

[[noreturn]] void become_program(const std::string& folder, const std::vector<std::string>& line, int out, const std::string& err,
                                 const std::string& cache) {
  ::setenv("XDG_CACHE_HOME", cache.c_str(), 1);
  std::vector<char*> argv;
  std::vector<std::string> copies = line;
  for (auto& text : copies) argv.push_back(text.data());
  argv.push_back(nullptr);
  const int error = ::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  if (::chdir(folder.c_str()) != 0 || ::dup2(out, 1) < 0 || ::dup2(error, 2) < 0) ::_exit(126);
  ::execvp(argv.front(), argv.data());
  ::_exit(127);
}

// Words of a small vocabulary: enough structure that a network of seconds beats chance.
std::string synthetic_text(std::size_t bytes) {
  RandomStream random(1, Purpose::test);
  std::vector<std::string> vocabulary;
  for (int i = 0; i < 200; ++i) {
    std::string word;
    for (auto letters = 2 + random.below(6); letters > 0; --letters) word += static_cast<char>('a' + random.below(26));
    vocabulary.push_back(word);
  }
  std::string text;
  while (text.size() < bytes) text += vocabulary[random.below(200)] + (random.below(9) == 0 ? ".\n" : " ");
  return text;
}

ProgramResult run_line_in(const std::string& folder, const std::vector<std::string>& command,
                          const std::function<void(int, const std::string&)>& on_line) {
  static const TemporaryFolder cache;  // a test leaves the user's alone, and measures the machine's peak once
  const TemporaryFolder scratch;
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("pipe");
  const pid_t process = ::fork();
  if (process < 0) throw std::runtime_error("fork");
  if (process == 0) become_program(folder, command, ends[1], scratch / "err", cache.path());
  ::close(ends[1]);
  ProgramResult result;
  std::string line;
  char buffer[4096];
  for (ssize_t got; (got = ::read(ends[0], buffer, sizeof buffer)) > 0;)
    for (const char c : std::string(buffer, static_cast<std::size_t>(got))) {
      result.out += c;
      if (c != '\n') {
        line += c;
        continue;
      }
      if (on_line) on_line(process, line);
      line.clear();
    }
  ::close(ends[0]);
  int status = 0;
  ::waitpid(process, &status, 0);
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.err = content_of(scratch / "err");
  return result;
}

}  // namespace

ProgramResult run_program_in(const std::string& folder, const std::vector<std::string>& arguments,
                             const std::function<void(int, const std::string&)>& on_line) {
  return run_line_in(folder, joined({ELASTIFORM_PROGRAM}, arguments), on_line);
}

ProgramResult run_ranks_in(const std::string& folder, int ranks, const std::vector<std::string>& arguments,
                           const std::function<void(int, const std::string&)>& on_line) {
  // Containers run tests as root, on few cores.
  for (const char* name :
       {"OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "OMPI_MCA_rmaps_base_oversubscribe", "OMPI_MCA_mpi_yield_when_idle"})
    ::setenv(name, "1", 1);
  return run_line_in(folder, joined({"mpirun", "-np", std::to_string(ranks), ELASTIFORM_PROGRAM}, arguments), on_line);
}

std::string no_mpirun() {
  static const std::string reason = [] {
    const TemporaryFolder folder;
    const ProgramResult result = run_ranks_in(folder.path(), 2, {"--version"});
    return result.status == 0 ? "" : "status " + std::to_string(result.status) + ": " + result.err;
  }();
  return reason;
}

int process_of_rank(int mpirun, int rank) {
  const std::string variable = "OMPI_COMM_WORLD_RANK=" + std::to_string(rank), parent = "PPid:\t" + std::to_string(mpirun) + "\n";
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    if (content_of(entry.path().string() + "/status").find(parent) == std::string::npos) continue;
    const std::string environment = '\0' + content_of(entry.path().string() + "/environ");
    if (environment.find('\0' + variable + '\0') != std::string::npos) return std::stoi(name);
  }
  return 0;
}

std::vector<std::string> words(const std::string& line) {
  std::istringstream stream(line);
  return {std::istream_iterator<std::string>(stream), std::istream_iterator<std::string>()};
}

std::vector<std::string> joined(std::vector<std::string> line, const std::vector<std::string>& arguments) {
  line.insert(line.end(), arguments.begin(), arguments.end());
  return line;
}

std::string state_of(const std::string& folder) {
  namespace fs = std::filesystem;
  std::vector<std::string> lines;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.path().extension() == ".lock" || entry.path().filename() == "lock") continue;  // taking a lock touches it
    lines.push_back(entry.path().string() + (entry.is_regular_file()
                                                 ? " " + sha256_hex(content_of(entry.path().string())) + " " +
                                                       std::to_string(entry.last_write_time().time_since_epoch().count())
                                                 : ""));
  }
  std::sort(lines.begin(), lines.end());
  std::string state;
  for (const auto& line : lines) state += line + "\n";
  return state;
}

std::string micro_recipe() {
  return R"([data]
text = "text.txt"
split_block = "4KiB"

[model]
preset = "llama"
context = 32
head_dim = 8

[space]
embed = [16, 32]
depth = [1, 2]
heads = [1, 2]
ffn_ratio = [2, 4]

[train]
steps = 60
sequences = 4
rate = 1e-2
log_every = 20
checkpoint_every = 20

[search]
evaluations = 6
round_size = 3
population = 4
budgets = ["parameters=..60%"]
)";
}

std::string staged_micro_recipe() {
  return micro_recipe() + R"(
[[stage]]
share = 0.3
sampler = "largest"

[[stage]]
share = 0.7
largest = 0.25
smallest = 0.125
)";
}

const TemporaryFolder& micro_folder() {
  static const TemporaryFolder folder;
  static const bool made = [] {
    folder.write("text.txt", synthetic_text(200'000));
    folder.write("micro.toml", staged_micro_recipe());
    const auto trained = run_program_in(folder.path(), words("train micro.toml"));
    if (trained.status != 0) throw std::runtime_error("the micro run failed: " + trained.err);
    return true;
  }();
  static_cast<void>(made);
  return folder;
}

void write_micro(const TemporaryFolder& folder, const std::string& recipe) {
  folder.write("text.txt", content_of(micro_folder() / "text.txt"));
  folder.write("micro.toml", recipe);
}

std::string edited_run(const TemporaryFolder& folder, const std::string& line, const std::string& instead) {
  namespace fs = std::filesystem;
  folder.write("text.txt", content_of(micro_folder() / "text.txt"));
  const auto run = folder / "runs/edited";
  if (!fs::exists(run)) {
    fs::create_directories(folder / "runs");
    fs::copy(micro_folder() / "runs/micro", run, fs::copy_options::recursive);
  }
  auto recipe = content_of(run + "/recipe.toml");
  const auto at = recipe.find(line);
  if (at == std::string::npos) throw std::runtime_error("no line " + line + " in the recipe of the micro run");
  folder.write("runs/edited/recipe.toml", recipe.replace(at, line.size(), instead));
  return run;
}

}  // namespace elastiform
