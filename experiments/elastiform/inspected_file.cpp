#include "experiments/elastiform/inspected_file.hpp"

#include <filesystem>
#include <fstream>

#include "experiments/elastiform/run_folder.hpp"
#include "kernels/errors.hpp"
#include "supernet/formats/json.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostLogBytes = std::size_t{1} << 30;

std::string beginning_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes(16, '\0');
  file.read(bytes.data(), 16);
  bytes.resize(static_cast<std::size_t>(file.gcount()));
  return bytes;
}

}  // namespace

InspectedKind kind_of_path(const std::string& path) {
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  const std::string known = "a run folder, an export, or a file of a run (.h5, .journal, .jsonl)";
  if (!fs::exists(status)) throw InputError({path, known, error ? error.message() : "nothing", ""});
  if (is_run_folder(path)) return InspectedKind::run;
  if (fs::is_directory(status)) {
    if (fs::exists(path + "/config.json", error)) return InspectedKind::hugging_face;
    throw InputError({path, known, "a folder without recipe.toml or config.json", ""});
  }
  if (!fs::is_regular_file(status)) throw InputError({path, known, "no regular file", ""});
  const std::string beginning = beginning_of(path), extension = fs::path(path).extension().string();
  if (beginning.starts_with("elastiform-hdf5 ") || beginning.starts_with("\x89HDF") || extension == ".h5") return InspectedKind::hdf5;
  if (beginning.starts_with("efjourn\n") || extension == ".journal") return InspectedKind::journal;
  if (extension == ".jsonl") return InspectedKind::training_log;
  if (extension == ".safetensors") return InspectedKind::safetensors;
  throw InputError({path, known, "another kind of file", ""});
}

void for_training_rows(const std::string& path, bool with_timings, const std::function<void(std::string_view)>& each) {
  const std::string text = read_small_file(path, kMostLogBytes);
  std::size_t line = 1;
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1, ++line) {
    auto row = nlohmann::json::parse(text.begin() + static_cast<std::ptrdiff_t>(begin), text.begin() + static_cast<std::ptrdiff_t>(end),
                                     nullptr, false);
    if (!row.is_object()) throw InputError({path + ": line " + std::to_string(line), "a JSON object", "something else", ""});
    if (!with_timings)
      for (const char* timing : {"seconds", "tokens_per_second", "flops_per_second"}) row.erase(timing);
    each(row.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  }
}

}  // namespace elastiform
