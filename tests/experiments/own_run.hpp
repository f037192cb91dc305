#pragma once

#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/experiments/program.hpp"

namespace elastiform {

/// The real program runs these arguments to status 0.
ProgramResult succeed_in(const std::string& folder, const std::vector<std::string>& arguments);

/// The one document that the line prints with --json.
nlohmann::json json_of(const std::string& line, const std::string& folder = micro_folder().path());

/// The real program refuses these arguments: status 2, and all of stderr is one line with `says` in it.
ProgramResult check_refused(const std::string& folder, const std::vector<std::string>& arguments, const std::string& says);

/// In the micro folder it refuses every line with what belongs to it, and writes nothing.
void check_all_refused(const std::vector<std::pair<std::string, std::string>>& cases);

/// A folder of a test's own that the real program runs in. `more` are arguments with spaces in them.
struct OwnFolder {
  TemporaryFolder folder;

  ProgramResult run(const std::string& line, const std::vector<std::string>& more = {}) const;
  ProgramResult succeed(const std::string& line, const std::vector<std::string>& more = {}) const;
  nlohmann::json json_of(const std::string& line, const std::vector<std::string>& more = {}) const;
  ProgramResult refused(const std::string& line, const std::string& says) const { return check_refused(folder.path(), words(line), says); }
};

/// It begins as a copy of a folder with a trained run.
struct OwnRun : OwnFolder {
  explicit OwnRun(const TemporaryFolder& trained = micro_folder());
};

}  // namespace elastiform
