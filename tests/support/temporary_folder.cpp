#include "tests/support/temporary_folder.hpp"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <system_error>

namespace elastiform {

TemporaryFolder::TemporaryFolder() : path_((std::filesystem::temp_directory_path() / "elastiform-XXXXXX").string()) {
  if (!::mkdtemp(path_.data())) throw std::runtime_error("no temporary folder can be made at " + path_);
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;  // a folder that a test removed itself
  std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryFolder::write(std::string_view name, std::string_view content) const {
  const std::string path = *this / name;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  overwrite(path, content);
  return path;
}

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

void overwrite(const std::string& path, std::string_view content) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(content.data(), static_cast<std::streamsize>(content.size()));
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

}  // namespace elastiform
