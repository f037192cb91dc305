// The real program under the real mpirun, on more processes than this machine may have cores.
#include <csignal>
#include <filesystem>

#include "tests/experiments/program.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
namespace fs = std::filesystem;

/// A machine without MPI has nothing to test here, and says so.
bool skipped() {
  if (no_mpirun().empty()) return false;
  WARN("mpirun does not run the program here: " << no_mpirun());
  return true;
}

/// Micro runs of four micro-batches, with one stage that trains a sandwich.
const std::string kOptions = " --set train.accumulation=4 --set train.sequences=2 --threads 1";

std::string digest_of(const std::string& folder, const std::string& run) {
  const auto result = run_program_in(folder, words("inspect " + run + " --digest"));
  REQUIRE(result.status == 0);
  return result.out;
}

/// Lines that begin as our errors do; what a launcher says beside them is its own.
std::vector<std::string> error_lines(const std::string& err) {
  std::vector<std::string> found;
  for (std::size_t begin = 0; begin < err.size();) {
    const std::size_t end = std::min(err.find('\n', begin), err.size());
    if (err.compare(begin, 7, "error: ") == 0) found.push_back(err.substr(begin, end - begin));
    begin = end + 1;
  }
  return found;
}

TEST_CASE("under mpirun a training has the bits of one process that accumulates", "[experiments][mpi]") {
  if (skipped()) return;
  const auto& folder = micro_folder();
  const auto one = run_program_in(folder.path(), words("train micro.toml --run mpi/one" + kOptions));
  REQUIRE(one.status == 0);
  for (const int ranks : {2, 4}) {
    CAPTURE(ranks);
    const auto run = "mpi/train" + std::to_string(ranks);
    const auto result = run_ranks_in(folder.path(), ranks, words("train micro.toml --run " + run + kOptions));
    INFO(result.err);
    REQUIRE(result.status == 0);
    CHECK(digest_of(folder.path(), run) == digest_of(folder.path(), "mpi/one"));
    CHECK((content_of(folder / run + "/supernet.h5") == content_of(folder / "mpi/one/supernet.h5")));
    // One process prints.
    CHECK(std::count(result.out.begin(), result.out.end(), '\n') == std::count(one.out.begin(), one.out.end(), '\n') + 1);
    CHECK_THAT(result.out, Contains("all of this is of one of " + std::to_string(ranks) + " processes"));
  }
}

TEST_CASE("under mpirun a search finds what one process finds", "[experiments][mpi]") {
  if (skipped()) return;
  const TemporaryFolder folder;
  std::string expected;
  for (const int ranks : {1, 2, 4}) {
    CAPTURE(ranks);
    const auto run = "run" + std::to_string(ranks);
    fs::copy(micro_folder() / "runs/micro", folder / run, fs::copy_options::recursive);
    folder.write(run + "/recipe.toml", [&] {  // the text stands elsewhere now
      auto recipe = content_of(folder / run + "/recipe.toml");
      const std::string text = "text = \"../../text.txt\"";
      const auto at = recipe.find(text);
      REQUIRE(at != std::string::npos);
      return recipe.replace(at, text.size(), "text = \"../text.txt\"");
    }());
    fs::copy_file(micro_folder() / "text.txt", folder / "text.txt", fs::copy_options::overwrite_existing);
    const auto line = words("search " + run + " --budget parameters=..70% --evaluations 9 --threads 1 --json");
    const auto result = ranks == 1 ? run_program_in(folder.path(), line) : run_ranks_in(folder.path(), ranks, line);
    INFO(result.err);
    REQUIRE(result.status == 0);
    CHECK(std::count(result.out.begin(), result.out.end(), '\n') == 1);  // one document
    if (ranks == 1) expected = digest_of(folder.path(), run);
    CHECK(digest_of(folder.path(), run) == expected);
  }
}

TEST_CASE("a rank that is killed ends the job in one line, and a resume goes on as if nothing had happened", "[experiments][mpi][resume]") {
  if (skipped()) return;
  const auto& folder = micro_folder();
  const std::string options = kOptions + " --set train.steps=300";
  if (!fs::exists(folder / "mpi/whole"))
    REQUIRE(run_program_in(folder.path(), words("train micro.toml --run mpi/whole" + options)).status == 0);
  const int victim = GENERATE(0, 2);
  CAPTURE(victim);
  const auto run = "mpi/killed" + std::to_string(victim);
  bool killed = false;
  const auto result =
      run_ranks_in(folder.path(), 4, words("train micro.toml --run " + run + options), [&](int mpirun, const std::string& line) {
        if (killed || line.rfind("step ", 0) != 0) return;
        const int process = process_of_rank(mpirun, victim);
        REQUIRE(process > 0);
        killed = ::kill(process, SIGKILL) == 0;
      });
  INFO(result.err);
  REQUIRE(killed);
  CHECK(result.status != 0);
  const auto errors = error_lines(result.err);
  REQUIRE(errors.size() == 1);
  CHECK_THAT(errors.front(), Contains("rank " + std::to_string(victim) + " of 4 was lost") && Contains("elastiform train --resume " + run));
  const auto rest = victim == 0 ? run_program_in(folder.path(), words("train --resume " + run + " --threads 1"))
                                : run_ranks_in(folder.path(), 2, words("train --resume " + run + " --threads 1"));
  INFO(rest.err);
  REQUIRE(rest.status == 0);
  CHECK(digest_of(folder.path(), run) == digest_of(folder.path(), "mpi/whole"));
}

TEST_CASE("under mpirun wrong input is one line and status 2", "[experiments][mpi]") {
  if (skipped()) return;
  const auto& folder = micro_folder();
  const auto [line, says] = GENERATE(table<std::string, std::string>(
      {{"train micro.toml --run mpi/no --set train.accumulation=3", "train.accumulation: expected a multiple of the 2 ranks"},
       {"train micro.toml --run mpi/no --set train.nothing=3", "nothing"},
       {"train nowhere.toml", "nowhere.toml"},
       {"train --resume nowhere", "nowhere"},
       {"search runs/micro --budget parameters=..1", "runs/micro"},
       {"serach", "search"},
       {"inspect runs/micro", "elastiform inspect: expected one process, found 2 of mpirun"}}));
  CAPTURE(line);
  const auto result = run_ranks_in(folder.path(), 2, words(line));
  CHECK(result.status == 2);
  INFO(result.err);
  const auto errors = error_lines(result.err);
  REQUIRE(errors.size() == 1);
  CHECK_THAT(errors.front(), Contains(says));
  CHECK_FALSE(fs::exists(folder / "mpi/no"));
}

TEST_CASE("help, the version and a dry run come once under mpirun", "[experiments][mpi]") {
  if (skipped()) return;
  const auto& folder = micro_folder();
  for (const char* line : {"--version", "--help", "train --help"})
    CHECK(run_ranks_in(folder.path(), 3, words(line)).out == run_program_in(folder.path(), words(line)).out);
  const auto dry = run_ranks_in(folder.path(), 2, words("train micro.toml --dry-run --json --threads 1 --set train.accumulation=2"));
  INFO(dry.err);
  CHECK(dry.status == 0);
  CHECK(std::count(dry.out.begin(), dry.out.end(), '\n') == 1);
  CHECK_THAT(dry.out, Contains("\"memory_bytes\""));
}

}  // namespace
}  // namespace elastiform
