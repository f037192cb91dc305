#pragma once

#include <map>
#include <optional>
#include <string>

namespace elastiform {

/// Which algorithm of a library is fastest for a shape on one machine: lines `key hex` under a heading that names device and library, in
/// the user's cache folder, so that the next process neither times again nor gets other bits. A file that cannot be read or written is
/// none.
class AlgorithmFile {
 public:
  /// heading: device and version; what another one wrote is not read.
  explicit AlgorithmFile(std::string heading, std::string path = default_path());
  ~AlgorithmFile();  // writes what was added, beside and renamed
  AlgorithmFile(const AlgorithmFile&) = delete;
  AlgorithmFile& operator=(const AlgorithmFile&) = delete;

  std::optional<std::string> find(const std::string& key) const;
  void add(const std::string& key, std::string algorithm);  // bytes; empty: the library has none

  static std::string default_path();  // "" without a cache folder

 private:
  std::string heading_, path_;
  std::map<std::string, std::string> lines_;
  bool changed_ = false;
};

}  // namespace elastiform
