#include "experiments/elastiform/byte_models.hpp"
#include "supernet/formats/json.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

namespace elastiform {
namespace {

// Runs a program and gives its stdout; status -1 when it could not be started.
int run_child(std::vector<std::string> arguments, std::string& out) {
  std::vector<char*> argv;
  for (auto& text : arguments) argv.push_back(text.data());
  argv.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
  pid_t child = -1;
  const int failed = ::posix_spawn(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  char buffer[4096];
  for (ssize_t got; failed == 0 && ((got = ::read(ends[0], buffer, sizeof buffer)) > 0 || (got < 0 && errno == EINTR));)
    if (got > 0) out.append(buffer, static_cast<std::size_t>(got));
  ::close(ends[0]);
  if (failed != 0) return -1;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

ByteModels measure_byte_models(const Recipe& recipe) {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error).parent_path() / "kneser_ney";
  if (!std::filesystem::exists(program, error)) return {{}, "the program kneser_ney was not built beside this one"};
  const auto& splits = recipe.data.splits;
  std::string out;
  const int status = run_child({program.string(), "--text", recipe.data.text, "--context", std::to_string(recipe.space.model().context),
                                "--splits", fmt::format("{},{},{}", splits[0], splits[1], splits[2]), "--split-block",
                                std::to_string(recipe.data.split_block), "--split", "report", "--json"},
                               out);
  const auto document = nlohmann::json::parse(out, nullptr, false);
  if (status != 0 || !document.is_object() || !document.contains("models"))
    return {{}, fmt::format("kneser_ney ended with status {}", status)};
  ByteModels measured;
  for (const auto& model : document["models"]) measured.models.push_back({model.value("order", 0), model.value("bits_per_byte", 0.0)});
  return measured;
}

}  // namespace elastiform
