#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "kernels/errors.hpp"
#include "supernet/formats/foreign_model.hpp"
#include "supernet/formats/gguf_file.hpp"

namespace elastiform::gguf {
namespace {

constexpr std::size_t kMaxRank = 4, kMaxName = 4096;
constexpr std::uint64_t kMaxText = 1 << 24, kMaxAlignment = 1 << 20;

enum Type : std::uint32_t { kUint8, kInt8, kUint16, kInt16, kUint32, kInt32, kFloat32, kBool, kString, kArray, kUint64, kInt64, kFloat64 };

/// Bytes of a value of fixed size; 0: text, an array or no type.
std::uint64_t bytes_of(std::uint32_t type) {
  constexpr std::array<std::uint64_t, 13> sizes{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return type < sizes.size() ? sizes[type] : 0;
}

InputError bad(const std::string& path, std::string expected, std::string found) {
  return InputError({path, std::move(expected), std::move(found), "the file is damaged or no GGUF file"});
}

}  // namespace

/// Reads the header from front to back, never beyond the end of the file.
class Reader::Cursor {
 public:
  explicit Cursor(const UntrustedFile& file) : file_(file) {}
  std::uint64_t at() const { return at_; }
  std::uint64_t left() const { return file_.size() - at_; }
  template <class T>
  T number() {
    T value;
    take(&value, sizeof value);
    return value;
  }
  /// A count of things that take at least `each` bytes apiece.
  std::uint64_t count(std::uint64_t each, const char* what) {
    const auto value = number<std::uint64_t>();
    if (value > left() / each) throw bad(file_.path(), std::string(what) + " inside the file", std::to_string(value) + " of them");
    return value;
  }
  std::string string(std::uint64_t limit) {
    const auto length = number<std::uint64_t>();
    if (length > left() || length > limit) throw bad(file_.path(), "text inside the file", "one of " + std::to_string(length) + " bytes");
    std::string text(static_cast<std::size_t>(length), '\0');
    take(text.data(), length);
    return text;
  }
  void skip(std::uint64_t bytes) {
    if (bytes > left()) throw bad(file_.path(), "a whole header", "an end after " + std::to_string(file_.size()) + " bytes");
    at_ += bytes;
  }

 private:
  void take(void* into, std::uint64_t bytes) {
    const std::uint64_t from = at_;
    skip(bytes);
    if (bytes > buffer_.size()) return file_.read(from, into, bytes);
    if (from < buffer_at_ || from + bytes > buffer_at_ + buffered_) {
      buffer_at_ = from;
      buffered_ = std::min<std::uint64_t>(buffer_.size(), file_.size() - from);
      file_.read(from, buffer_.data(), buffered_);
    }
    std::memcpy(into, buffer_.data() + (from - buffer_at_), static_cast<std::size_t>(bytes));
  }
  const UntrustedFile& file_;
  std::uint64_t at_ = 0, buffer_at_ = 0, buffered_ = 0;
  std::array<char, 4096> buffer_{};
};

Reader::Reader(const std::string& path) : file_(path, "a GGUF file") {
  Cursor cursor(file_);
  constexpr std::uint64_t kFixed = 4 + 4 + 8 + 8;
  if (file_.size() < kFixed) throw bad(path, "at least 24 bytes", std::to_string(file_.size()));
  const auto magic = cursor.number<std::array<char, 4>>();
  if (std::string_view(magic.data(), 4) != "GGUF") throw bad(path, "GGUF at the beginning", "something else");
  const auto version = cursor.number<std::uint32_t>();
  if (version != 3) throw bad(path, "version 3", std::to_string(version));
  const std::uint64_t tensors = cursor.count(8 + 4 + 8 + 4 + 8, "tensors"), pairs = cursor.count(8 + 4 + 1, "metadata");
  for (std::uint64_t i = 0; i < pairs; ++i) {
    const std::string key = cursor.string(kMaxName);
    if (has_key(key)) throw bad(path, "every key once", in_quotes(key) + " twice");
    read_value(cursor, key);
  }
  const std::int64_t alignment = has_key("general.alignment") ? integer("general.alignment") : 32;
  if (alignment < 1 || alignment > static_cast<std::int64_t>(kMaxAlignment) || (alignment & (alignment - 1)) != 0)
    throw bad(path, "general.alignment, a power of two", std::to_string(alignment));
  const auto step = static_cast<std::uint64_t>(alignment);
  const auto aligned = [step](std::uint64_t bytes) { return (bytes + step - 1) / step * step; };
  std::uint64_t next = 0, end = 0;
  for (std::uint64_t i = 0; i < tensors; ++i) {
    const std::string name = cursor.string(kMaxName);
    if (has(name)) throw bad(path, "every tensor once", in_quotes(name) + " twice");
    const Entry entry = read_tensor(cursor, name, next, step);
    end = entry.end;
    next = aligned(end);
    entries_.emplace(name, entry);
  }
  const std::uint64_t start = tensors == 0 ? cursor.at() : aligned(cursor.at());
  // The last tensor's padding may be left out.
  if (file_.size() < start + end || file_.size() > start + next)
    throw bad(path, std::to_string(start + end) + " bytes", std::to_string(file_.size()));
  for (auto& [name, entry] : entries_) entry.begin += start, entry.end += start;
}

Reader::Found Reader::scalar(Cursor& cursor, std::uint32_t type) const {
  switch (type) {
    case kUint8: return std::int64_t{cursor.number<std::uint8_t>()};
    case kInt8: return std::int64_t{cursor.number<std::int8_t>()};
    case kUint16: return std::int64_t{cursor.number<std::uint16_t>()};
    case kInt16: return std::int64_t{cursor.number<std::int16_t>()};
    case kUint32: return std::int64_t{cursor.number<std::uint32_t>()};
    case kInt32: return std::int64_t{cursor.number<std::int32_t>()};
    case kFloat32: return double{cursor.number<float>()};
    case kBool: return cursor.number<std::uint8_t>() != 0;
    case kUint64: {
      const auto value = cursor.number<std::uint64_t>();
      if (value > INT64_MAX) throw bad(path(), "whole numbers below 2^63", std::to_string(value));
      return static_cast<std::int64_t>(value);
    }
    case kInt64: return cursor.number<std::int64_t>();
    case kFloat64: return cursor.number<double>();
    case kString: return cursor.string(kMaxText);
    default: throw bad(path(), "a type from 0 to 12", std::to_string(type));
  }
}

void Reader::read_value(Cursor& cursor, const std::string& key) {
  const auto type = cursor.number<std::uint32_t>();
  if (type != kArray) {
    values_.emplace(key, scalar(cursor, type));
    return;
  }
  Array array{.type = cursor.number<std::uint32_t>()};
  const std::uint64_t each = bytes_of(array.type);
  if (each == 0 && array.type != kString) throw bad(path(), "arrays of numbers or texts in " + in_quotes(key), std::to_string(array.type));
  array.length = cursor.count(each == 0 ? sizeof(std::uint64_t) : each, "elements of arrays");
  array.at = cursor.at();
  if (each != 0) cursor.skip(each * array.length);
  else
    for (std::uint64_t i = 0; i < array.length; ++i) cursor.skip(cursor.number<std::uint64_t>());
  values_.emplace(key, array);
}

Reader::Entry Reader::read_tensor(Cursor& cursor, const std::string& name, std::uint64_t next, std::uint64_t alignment) const {
  const std::string what = "tensor " + in_quotes(name);
  const auto rank = cursor.number<std::uint32_t>();
  if (rank < 1 || rank > kMaxRank) throw bad(path(), what + " of 1 to 4 dimensions", std::to_string(rank));
  Entry entry;
  std::uint64_t elements = 1;
  for (std::uint32_t i = 0; i < rank; ++i) {
    const auto size = cursor.number<std::uint64_t>();
    if (size < 1 || size > INT64_MAX || __builtin_mul_overflow(elements, size, &elements))
      throw bad(path(), "sizes of " + what, std::to_string(size));
    entry.shape.insert(entry.shape.begin(), static_cast<std::int64_t>(size));
  }
  entry.element = cursor.number<std::uint32_t>();
  const BlockSize block = block_size(entry.element);
  if (block.elements == 0)
    throw InputError({path(), what + " of F32, F16, BF16, Q8_0, Q4_0 or Q4_1", "ggml's type " + std::to_string(entry.element), ""});
  if (entry.shape.back() % block.elements != 0)
    throw bad(path(), what + " in rows of whole blocks of " + std::to_string(block.elements), std::to_string(entry.shape.back()));
  std::uint64_t bytes = elements / static_cast<std::uint64_t>(block.elements);
  if (__builtin_mul_overflow(bytes, static_cast<std::uint64_t>(block.bytes), &bytes) || bytes > file_.size())
    throw bad(path(), what + " inside the file", std::to_string(elements) + " elements");
  entry.begin = cursor.number<std::uint64_t>();
  if (entry.begin != next || next > std::numeric_limits<std::uint64_t>::max() / 2 - bytes - alignment)
    throw bad(path(), what + " at byte " + std::to_string(next) + " of the data", std::to_string(entry.begin));
  entry.end = entry.begin + bytes;
  return entry;
}

void Reader::require(std::string_view name, const std::vector<std::int64_t>& shape) const {
  const auto found = entries_.find(name);
  const std::string expected = "tensor " + in_quotes(name) + " " + shape_text(shape);
  if (found == entries_.end()) throw InputError({path(), expected, "none", ""});
  if (found->second.shape != shape) throw InputError({path(), expected, "shape " + shape_text(found->second.shape), ""});
}

std::vector<float> Reader::floats(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw std::logic_error("gguf: no tensor " + std::string(name));
  const Entry& entry = found->second;
  if (static_cast<Element>(entry.element) == Element::f32) {  // as it stands: the memory of one copy
    std::vector<float> values(static_cast<std::size_t>((entry.end - entry.begin) / sizeof(float)));
    file_.read(entry.begin, values.data(), entry.end - entry.begin);
    return values;
  }
  std::string bytes(static_cast<std::size_t>(entry.end - entry.begin), '\0');
  file_.read(entry.begin, bytes.data(), bytes.size());
  return decode(entry.element, bytes);
}

const Reader::Found& Reader::at(std::string_view key) const {
  const auto found = values_.find(key);
  if (found == values_.end()) throw InputError({path(), "key " + in_quotes(key), "none", ""});
  return found->second;
}

std::int64_t Reader::integer(std::string_view key) const {
  const auto* value = std::get_if<std::int64_t>(&at(key));
  if (value == nullptr) throw InputError({path(), "a whole number as " + in_quotes(key), "something else", ""});
  return *value;
}

double Reader::real(std::string_view key) const {
  const auto* value = std::get_if<double>(&at(key));
  if (value == nullptr) throw InputError({path(), "a number with a point as " + in_quotes(key), "something else", ""});
  return *value;
}

std::string Reader::text(std::string_view key) const {
  const auto* value = std::get_if<std::string>(&at(key));
  if (value == nullptr) throw InputError({path(), "text as " + in_quotes(key), "something else", ""});
  return *value;
}

bool Reader::flag(std::string_view key) const {
  const auto* value = std::get_if<bool>(&at(key));
  if (value == nullptr) throw InputError({path(), "true or false as " + in_quotes(key), "something else", ""});
  return *value;
}

std::vector<std::string> Reader::texts(std::string_view key) const {
  const auto* array = std::get_if<Array>(&at(key));
  if (array == nullptr || array->type != kString)
    throw InputError({path(), "an array of texts as " + in_quotes(key), "something else", ""});
  Cursor cursor(file_);
  cursor.skip(array->at);
  std::vector<std::string> values;
  for (std::uint64_t i = 0; i < array->length; ++i) values.push_back(cursor.string(kMaxText));
  return values;
}

/// The array of `count` numbers that `key` is; null when it is none.
const Reader::Array* Reader::array_of(std::string_view key, std::size_t count) const {
  const auto* array = std::get_if<Array>(&at(key));
  if (array != nullptr && array->length != count)
    throw InputError({path(), std::to_string(count) + " numbers as " + in_quotes(key), std::to_string(array->length), ""});
  return array;
}

std::vector<double> Reader::reals(std::string_view key, std::size_t count) const {
  const Array* array = array_of(key, count);
  if (array == nullptr || (array->type != kFloat32 && array->type != kFloat64))
    throw InputError({path(), "an array of numbers with a point as " + in_quotes(key), "something else", ""});
  Cursor cursor(file_);
  cursor.skip(array->at);
  std::vector<double> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(std::get<double>(scalar(cursor, array->type)));
  return values;
}

std::vector<std::int64_t> Reader::integers(std::string_view key, std::size_t count) const {
  const Array* array = array_of(key, count);
  if (array == nullptr) return std::vector<std::int64_t>(count, integer(key));
  Cursor cursor(file_);
  cursor.skip(array->at);
  std::vector<std::int64_t> values;
  for (std::size_t i = 0; i < count; ++i) {
    const Found value = scalar(cursor, array->type);
    if (!std::holds_alternative<std::int64_t>(value))
      throw InputError({path(), "whole numbers as " + in_quotes(key), "something else", ""});
    values.push_back(std::get<std::int64_t>(value));
  }
  return values;
}

std::uint64_t Reader::array_length(std::string_view key) const {
  const auto* array = std::get_if<Array>(&at(key));
  if (array == nullptr) throw InputError({path(), "an array as " + in_quotes(key), "something else", ""});
  return array->length;
}

}  // namespace elastiform::gguf
