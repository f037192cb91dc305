#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tests/support/temporary_folder.hpp"

namespace elastiform {

/// What the real program did.
struct ProgramResult {
  int status = -1;  // exit status; 128 + signal when it was killed
  std::string out, err;
};

/// Runs the real program in `folder`. `on_line` sees its stdout line by line while it runs, with the process id, so a test can interrupt it.
ProgramResult run_program_in(const std::string& folder, const std::vector<std::string>& arguments,
                             const std::function<void(int process, const std::string& line)>& on_line = nullptr);

/// The same under mpirun on so many processes, more than the machine has cores perhaps; `process` is mpirun's.
ProgramResult run_ranks_in(const std::string& folder, int ranks, const std::vector<std::string>& arguments,
                           const std::function<void(int process, const std::string& line)>& on_line = nullptr);
/// "" where the program runs under mpirun, else why it cannot.
std::string no_mpirun();
/// The process of a rank that this mpirun started; 0: none.
int process_of_rank(int mpirun, int rank);

/// "cost micro.toml --subnet largest" as arguments.
std::vector<std::string> words(const std::string& line);
/// `arguments` after `line`: those with spaces in them.
std::vector<std::string> joined(std::vector<std::string> line, const std::vector<std::string>& arguments);

/// Every file below a folder with size, time of last change and content's hash: equal states mean that nothing was written.
std::string state_of(const std::string& folder);

/// A folder with a synthetic text (text.txt), a recipe of a space of seconds (micro.toml) and a run trained from it (runs/micro); made once a
/// test program. Tests must leave it as it is: they write to folders of their own.
const TemporaryFolder& micro_folder();
std::string micro_recipe();
std::string staged_micro_recipe();  // first the largest alone, then draws with returns of both ends

/// The micro text, and this recipe as micro.toml.
void write_micro(const TemporaryFolder& folder, const std::string& recipe);

/// A copy of the trained micro run as runs/edited of `folder`, beside its text, with one line of its recipe replaced. Once more on the same
/// folder edits it further.
std::string edited_run(const TemporaryFolder& folder, const std::string& line, const std::string& instead);

}  // namespace elastiform
