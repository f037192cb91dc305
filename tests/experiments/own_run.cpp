#include "tests/experiments/own_run.hpp"

#include <algorithm>
#include <filesystem>

#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

std::string line_of(const std::vector<std::string>& arguments) {
  std::string line = "elastiform";
  for (const std::string& word : arguments) line += " " + word;
  return line;
}

}  // namespace

ProgramResult succeed_in(const std::string& folder, const std::vector<std::string>& arguments) {
  const ProgramResult result = run_program_in(folder, arguments);
  INFO(line_of(arguments) << "\n" << result.err);
  REQUIRE(result.status == 0);
  return result;
}

nlohmann::json json_of(const std::string& line, const std::string& folder) {
  return nlohmann::json::parse(succeed_in(folder, words(line + " --json")).out);
}

ProgramResult check_refused(const std::string& folder, const std::vector<std::string>& arguments, const std::string& says) {
  const ProgramResult result = run_program_in(folder, arguments);
  INFO(line_of(arguments) << "\n" << result.out << result.err);
  CHECK(result.status == 2);
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(result.err.rfind("error: ", 0) == 0);
  CHECK_THAT(result.err, Catch::Matchers::Contains(says));
  return result;
}

void check_all_refused(const std::vector<std::pair<std::string, std::string>>& cases) {
  const std::string& folder = micro_folder().path();
  const std::string before = state_of(folder);
  for (const auto& [line, says] : cases) check_refused(folder, words(line), says);
  CHECK((state_of(folder) == before));  // as one bool: a difference would fill the screen
}

ProgramResult OwnFolder::run(const std::string& line, const std::vector<std::string>& more) const {
  return run_program_in(folder.path(), joined(words(line), more));
}

ProgramResult OwnFolder::succeed(const std::string& line, const std::vector<std::string>& more) const {
  return succeed_in(folder.path(), joined(words(line), more));
}

nlohmann::json OwnFolder::json_of(const std::string& line, const std::vector<std::string>& more) const {
  return nlohmann::json::parse(succeed(line, joined(more, {"--json"})).out);
}

OwnRun::OwnRun(const TemporaryFolder& trained) {
  namespace fs = std::filesystem;
  fs::copy(trained.path(), folder.path(), fs::copy_options::recursive | fs::copy_options::overwrite_existing);
}

}  // namespace elastiform
