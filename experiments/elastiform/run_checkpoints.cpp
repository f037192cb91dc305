#include "experiments/elastiform/run_checkpoints.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "kernels/errors.hpp"
#include "supernet/storage/durable_file.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

std::int64_t step_of(const fs::path& checkpoint) {
  const auto name = checkpoint.filename().string();  // step-000400.h5
  std::int64_t step = -1;
  if (name.size() > 8 && name.rfind("step-", 0) == 0 && checkpoint.extension() == ".h5")
    std::from_chars(name.data() + 5, name.data() + name.size() - 3, step);
  return step;
}

bool is_sound(const std::string& checkpoint) {
  try {
    load_supernet(checkpoint);
    return true;
  } catch (const InputError&) {
    return false;
  }
}

}  // namespace

std::vector<std::string> step_checkpoints(const RunPaths& paths) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(paths.checkpoints(), error), end; !error && entry != end; entry.increment(error))
    if (step_of(entry->path()) >= 0) found.push_back(entry->path());
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) { return step_of(a) > step_of(b); });
  return {found.begin(), found.end()};
}

void replace_lost_supernet(const RunPaths& paths, std::FILE* stream) {
  std::error_code error;
  if (fs::exists(paths.supernet(), error)) return;
  for (const auto& checkpoint : step_checkpoints(paths)) {
    if (!is_sound(checkpoint)) continue;
    // A kill between writing the two leaves the same: then they would have been equal.
    write_durably(paths.supernet(), [&](const std::string& beside) { fs::copy_file(checkpoint, beside); });
    fmt::print(stream, "note: {} was not there; {} takes its place\n", paths.supernet(), checkpoint);
    return;
  }
}

}  // namespace elastiform
