#pragma once

#include <map>
#include <optional>
#include <string>

namespace elastiform {

/// Which algorithm of a library is fastest for a shape on one machine: lines `key hex` under a heading that names device and library, in
/// the user's cache folder, so that the next process neither times again nor gets other bits. Each is written as it is added, with what other
/// processes have added meanwhile, beside and renamed: a killed process loses none. A file that cannot be read or written is none.
class AlgorithmFile {
 public:
  /// heading: device and version; what another one wrote is not read, and lost when something is added.
  explicit AlgorithmFile(std::string heading, std::string path = default_path());

  std::optional<std::string> find(const std::string& key) const;
  /// algorithm: bytes; empty: the library has none. Returns what is kept for the key, which is another process's if that was first.
  std::string add(const std::string& key, std::string algorithm);

  static std::string default_path();  // "" without a cache folder

 private:
  void read();
  void write() const;

  std::string heading_, path_;
  std::map<std::string, std::string> lines_;
};

}  // namespace elastiform
