#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "supernet/formats/safetensors.hpp"

namespace elastiform::safetensors {

/// The tensors of a checkpoint's folder: model.safetensors, or the shards that model.safetensors.index.json maps names to. The index is a claim
/// and checked as one: names of files that stand in the folder, every tensor in the shard that it names, none in two, none left out. InputError
/// otherwise, also for pickled weights (.bin), which only Python can read.
class Folder {
 public:
  explicit Folder(const std::string& folder);

  std::vector<std::string> names() const;  // sorted
  bool has(std::string_view name) const { return shards_of_.find(name) != shards_of_.end(); }
  /// As Reader's.
  void require(std::string_view name, const std::vector<std::int64_t>& shape) const;
  std::vector<float> floats(std::string_view name) const;
  std::uint64_t bytes() const;                         // of all files
  const std::string& where() const { return where_; }  // the file or the index, for messages

 private:
  void read_index(const std::string& folder);

  std::string where_;
  std::vector<std::unique_ptr<Reader>> shards_;
  std::map<std::string, std::size_t, std::less<>> shards_of_;
};

}  // namespace elastiform::safetensors
