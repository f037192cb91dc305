#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "supernet/formats/untrusted_file.hpp"

/// GGUF version 3, the container of llama.cpp: typed metadata, then tensors (ggml's docs/gguf.md).
namespace elastiform::gguf {

/// How a tensor's elements are kept, by ggml's numbers. Of blocks of 32 elements of a row q8_0 has a float16 scale and 32 signed bytes, q4_0 a
/// scale and 32 numbers of 4 bits less 8, q4_1 a scale, a least value and 32 numbers of 4 bits. The last two are read only.
enum class Element : std::uint32_t { f32 = 0, f16 = 1, q4_0 = 2, q4_1 = 3, q8_0 = 8, bf16 = 30 };

/// Elements and bytes of a block of one type; no elements: a type that is not known here.
struct BlockSize {
  std::int64_t elements = 0, bytes = 0;
};
BlockSize block_size(std::uint32_t element);

/// One tensor to write, outermost size first; `values` gives its elements in row-major order, one tensor at a time.
struct Tensor {
  std::string name;
  Element element;
  std::vector<std::int64_t> shape;
  std::function<std::vector<float>()> values;
};

using Value =
    std::variant<std::uint32_t, float, bool, std::string, std::vector<std::int32_t>, std::vector<float>, std::vector<std::string>>;
using Metadata = std::vector<std::pair<std::string, Value>>;

void write(const std::string& path, const Metadata& metadata, const std::vector<Tensor>& tensors);

/// A file whose header was checked in full before anything was allocated for its tensors: lengths, types, sizes, offsets that follow each
/// other, every byte accounted for. Arrays stay in the file until they are asked for. Throws InputError naming the file.
class Reader {
 public:
  explicit Reader(const std::string& path);

  struct Entry {
    std::uint32_t element = 0;
    std::vector<std::int64_t> shape;   // outermost first
    std::uint64_t begin = 0, end = 0;  // bytes of the file
  };
  const std::map<std::string, Entry, std::less<>>& entries() const { return entries_; }
  bool has(std::string_view name) const { return entries_.find(name) != entries_.end(); }
  /// Throws InputError unless `name` is there with this shape and an element type that floats() decodes.
  void require(std::string_view name, const std::vector<std::int64_t>& shape) const;
  std::vector<float> floats(std::string_view name) const;  // of a tensor that require() accepts

  // Metadata; each throws InputError when the key is absent or holds something else.
  bool has_key(std::string_view key) const { return values_.find(key) != values_.end(); }
  std::int64_t integer(std::string_view key) const;
  double real(std::string_view key) const;
  std::string text(std::string_view key) const;
  bool flag(std::string_view key) const;
  /// An array of `count` integers, or one integer that stands for all of them.
  std::vector<std::int64_t> integers(std::string_view key, std::size_t count) const;
  std::vector<double> reals(std::string_view key, std::size_t count) const;  // an array of `count` numbers with a point
  std::uint64_t array_length(std::string_view key) const;
  std::vector<std::string> texts(std::string_view key) const;  // an array of texts
  const std::string& path() const { return file_.path(); }
  std::uint64_t bytes() const { return file_.size(); }

 private:
  struct Array {
    std::uint32_t type = 0;
    std::uint64_t length = 0, at = 0;  // `at`: its first element in the file
  };
  using Found = std::variant<std::int64_t, double, bool, std::string, Array>;
  class Cursor;
  void read_value(Cursor& cursor, const std::string& key);
  const Array* array_of(std::string_view key, std::size_t count) const;
  Found scalar(Cursor& cursor, std::uint32_t type) const;
  Entry read_tensor(Cursor& cursor, const std::string& name, std::uint64_t next, std::uint64_t alignment) const;
  const Found& at(std::string_view key) const;

  UntrustedFile file_;
  std::map<std::string, Found, std::less<>> values_;
  std::map<std::string, Entry, std::less<>> entries_;
};

/// Elements of whole rows as bytes and back. encode: std::runtime_error when a value has no place in float16;
/// it writes no 4-bit blocks.
std::string encode(Element element, const std::vector<float>& values);
std::vector<float> decode(std::uint32_t element, std::string_view bytes);

}  // namespace elastiform::gguf
