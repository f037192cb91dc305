#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "supernet/formats/untrusted_file.hpp"

namespace elastiform::safetensors {

/// One float32 tensor to write; `values` gives its elements in row-major order, one tensor at a time, so a model is never in memory twice.
struct Tensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::function<std::vector<float>()> values;
};

/// Writes a safetensors file (the format of Hugging Face's library of that name): tensors sorted by name, data aligned to 8 bytes.
void write(const std::string& path, std::vector<Tensor> tensors);

/// A file whose header was checked in full before anything was allocated: sizes, overlaps, gaps and every byte accounted for. Stricter than
/// the library in one point: duplicate names, which the format's description forbids, are refused. The file stays open, so tensors come from
/// the file whose header was checked even when another has taken its name. Throws InputError naming the file.
class Reader {
 public:
  explicit Reader(const std::string& path);

  struct Entry {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0, end = 0;  // bytes from the start of the data
  };
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  bool has(std::string_view name) const { return entries_.find(name) != entries_.end(); }
  std::uint64_t bytes() const { return file_.size(); }
  /// Throws InputError unless `name` is there with this shape and a dtype of F32, F16 or BF16.
  void require(std::string_view name, const std::vector<std::int64_t>& shape) const;
  std::vector<float> floats(std::string_view name) const;  // of a tensor that require() accepts

 private:
  std::string path_;
  UntrustedFile file_;
  std::uint64_t data_start_ = 0;
  std::map<std::string, Entry, std::less<>> entries_;
};

}  // namespace elastiform::safetensors
