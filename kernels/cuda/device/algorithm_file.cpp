#include "kernels/cuda/device/algorithm_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <utility>

namespace elastiform {
namespace {

constexpr const char* kDigits = "0123456789abcdef";

std::string hex_of(const std::string& bytes) {
  std::string hex;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    hex += kDigits[byte / 16];
    hex += kDigits[byte % 16];
  }
  return hex;
}

std::optional<std::string> bytes_of_hex(const std::string& hex) {
  std::string bytes;
  if (hex.size() % 2 != 0) return std::nullopt;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    int value = 0;
    for (const char c : {hex[i], hex[i + 1]}) {
      const auto digit = std::string_view(kDigits).find(c);
      if (digit == std::string_view::npos) return std::nullopt;
      value = value * 16 + static_cast<int>(digit);
    }
    bytes += static_cast<char>(value);
  }
  return bytes;
}

/// Other processes wait until the end of the scope; where that cannot be had, for instance in a folder that nobody may write, nobody does.
class Lock {
 public:
  explicit Lock(const std::string& path) : file_(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644)) {
    if (file_ >= 0) static_cast<void>(::flock(file_, LOCK_EX));
  }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
  ~Lock() {
    if (file_ >= 0) ::close(file_);
  }

 private:
  int file_;
};

}  // namespace

std::string AlgorithmFile::default_path() {
  const char* const cache = std::getenv("XDG_CACHE_HOME");
  const char* const home = std::getenv("HOME");
  if (cache && *cache) return std::string(cache) + "/elastiform/algorithms.txt";
  return home && *home ? std::string(home) + "/.cache/elastiform/algorithms.txt" : std::string();
}

AlgorithmFile::AlgorithmFile(std::string heading, std::string path) : heading_(std::move(heading)), path_(std::move(path)) { read(); }

void AlgorithmFile::read() {
  std::ifstream file(path_);
  std::string line;
  if (!file || !std::getline(file, line) || line != heading_) return;
  while (std::getline(file, line)) {
    const std::size_t blank = line.find(' ');
    if (blank == std::string::npos) continue;
    if (auto bytes = bytes_of_hex(line.substr(blank + 1))) lines_[line.substr(0, blank)] = std::move(*bytes);
  }
}

void AlgorithmFile::write() const {
  std::error_code error;
  const std::string beside = path_ + "." + std::to_string(::getpid());
  std::ofstream file(beside);
  file << heading_ << '\n';
  for (const auto& [key, bytes] : lines_) file << key << ' ' << hex_of(bytes) << '\n';
  file.close();
  if (file) std::filesystem::rename(beside, path_, error);
  if (!file || error) std::filesystem::remove(beside, error);
}

std::optional<std::string> AlgorithmFile::find(const std::string& key) const {
  const auto found = lines_.find(key);
  return found == lines_.end() ? std::nullopt : std::optional(found->second);
}

std::string AlgorithmFile::add(const std::string& key, std::string algorithm) {
  if (path_.empty()) return lines_[key] = std::move(algorithm);
  std::error_code error;
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), error);
  const Lock lock(path_ + ".lock");
  read();
  const auto [kept, is_new] = lines_.try_emplace(key, std::move(algorithm));
  if (is_new) write();
  return kept->second;
}

}  // namespace elastiform
