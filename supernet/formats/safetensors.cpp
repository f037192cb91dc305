#include "supernet/formats/safetensors.hpp"

#include <fcntl.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <stdexcept>

#include "kernels/errors.hpp"
#include "supernet/formats/foreign_model.hpp"
#include "supernet/formats/half_floats.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/file_descriptor.hpp"

namespace elastiform::safetensors {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

constexpr std::uint64_t kMaxHeader = 100'000'000;  // the library's own limit
constexpr std::uint64_t kLengthBytes = 8;
constexpr std::size_t kMaxRank = 16;

std::uint64_t element_bytes(std::string_view dtype) {
  static const std::map<std::string_view, std::uint64_t> sizes{{"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1},
                                                               {"I16", 2},  {"U16", 2}, {"F16", 2}, {"BF16", 2},    {"I32", 4},
                                                               {"U32", 4},  {"F32", 4}, {"F64", 8}, {"I64", 8},     {"U64", 8}};
  const auto found = sizes.find(dtype);
  return found == sizes.end() ? 0 : found->second;
}

InputError bad(const std::string& path, std::string expected, std::string found) {
  return InputError({path, std::move(expected), std::move(found), "the file is damaged or no safetensors file"});
}

Reader::Entry parse_entry(const nlohmann::json& json, const std::string& path, const std::string& name) {
  const auto field = [&](const char* key) -> const nlohmann::json& {
    const auto found = json.find(key);
    if (found == json.end()) throw bad(path, std::string("tensor ") + in_quotes(name) + " with " + key, "none");
    return *found;
  };
  if (!json.is_object()) throw bad(path, "an object for tensor " + in_quotes(name), json.type_name());
  const auto& dtype = field("dtype");
  const auto& shape = field("shape");
  const auto& offsets = field("data_offsets");
  Reader::Entry entry;
  if (!dtype.is_string() || element_bytes(dtype.get_ref<const std::string&>()) == 0)
    throw bad(path, "a known dtype for tensor " + in_quotes(name),
              dtype.is_string() ? in_quotes(dtype.get<std::string>()) : dtype.type_name());
  entry.dtype = dtype.get<std::string>();
  if (!shape.is_array() || shape.size() > kMaxRank) throw bad(path, "a shape of tensor " + in_quotes(name), shape.type_name());
  std::uint64_t bytes = element_bytes(entry.dtype);
  for (const auto& size : shape) {
    if (!size.is_number_unsigned()) throw bad(path, "whole sizes in the shape of " + in_quotes(name), size.type_name());
    const auto value = size.get<std::uint64_t>();
    if (value > INT64_MAX || __builtin_mul_overflow(bytes, value, &bytes)) throw bad(path, "a size of " + in_quotes(name), "an overflow");
    entry.shape.push_back(static_cast<std::int64_t>(value));
  }
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() || !offsets[1].is_number_unsigned())
    throw bad(path, "two data_offsets of " + in_quotes(name), "something else");
  entry.begin = offsets[0].get<std::uint64_t>();
  entry.end = offsets[1].get<std::uint64_t>();
  if (entry.end < entry.begin || entry.end - entry.begin != bytes)
    throw bad(path, std::to_string(bytes) + " bytes for tensor " + in_quotes(name), "data_offsets of another length");
  return entry;
}

void check_metadata(const nlohmann::json& json, const std::string& path) {
  if (!json.is_object()) throw bad(path, "__metadata__ as an object", json.type_name());
  for (const auto& [key, value] : json.items())
    if (!value.is_string()) throw bad(path, "text as metadata " + in_quotes(key), value.type_name());
}

/// The tensors must tile the data: first at 0, each where the one before ends, the last at the end of the file.
void check_layout(const std::map<std::string, Reader::Entry, std::less<>>& entries, std::uint64_t data_bytes, const std::string& path) {
  std::vector<const Reader::Entry*> order;
  for (const auto& [name, entry] : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(),
            [](const auto* a, const auto* b) { return std::pair(a->begin, a->end) < std::pair(b->begin, b->end); });
  std::uint64_t end = 0;
  for (const auto* entry : order) {
    if (entry->begin != end) throw bad(path, "tensors without gap or overlap", "one that begins at byte " + std::to_string(entry->begin));
    end = entry->end;
  }
  if (end != data_bytes) throw bad(path, std::to_string(end) + " bytes of data", std::to_string(data_bytes));
}

}  // namespace

void write(const std::string& path, std::vector<Tensor> tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const Tensor& a, const Tensor& b) { return a.name < b.name; });
  nlohmann::ordered_json header{{"__metadata__", {{"format", "pt"}}}};  // transformers refuses a file without this mark
  std::uint64_t end = 0;
  for (const Tensor& tensor : tensors) {
    std::uint64_t bytes = sizeof(float);
    for (const std::int64_t size : tensor.shape) bytes *= static_cast<std::uint64_t>(size);
    header[tensor.name] = {{"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {end, end + bytes}}};
    end += bytes;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  write_durably(path, [&](const std::string& beside) {
    const FileDescriptor file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!file.is_open()) throw_system_error("create", path);
    const auto put = [&](const void* bytes, std::size_t size) {
      write_all(file.get(), std::string_view(static_cast<const char*>(bytes), size), path);
    };
    const std::uint64_t length = text.size();
    put(&length, sizeof length);
    put(text.data(), text.size());
    for (const Tensor& tensor : tensors) {
      const std::vector<float> values = tensor.values();
      std::uint64_t count = 1;
      for (const std::int64_t size : tensor.shape) count *= static_cast<std::uint64_t>(size);
      if (values.size() != count) throw std::logic_error("safetensors: " + tensor.name + " does not fill its shape");
      put(values.data(), values.size() * sizeof(float));
    }
  });
}

Reader::Reader(const std::string& path) : path_(path), file_(path, "a safetensors file") {
  const std::uint64_t size = file_.size();
  if (size < kLengthBytes) throw bad(path, "at least 8 bytes", std::to_string(size));
  std::uint64_t length = 0;
  file_.read(0, &length, sizeof length);
  if (length > kMaxHeader) throw bad(path, "a header of at most 100000000 bytes", std::to_string(length));
  if (length > size - kLengthBytes) throw bad(path, "a header inside the file", "one of " + std::to_string(length) + " bytes");
  std::string text(static_cast<std::size_t>(length), '\0');
  file_.read(kLengthBytes, text.data(), length);
  data_start_ = kLengthBytes + length;

  const nlohmann::json header = parse_untrusted_json(text, path, 4);
  if (!header.is_object()) throw bad(path, "a JSON object as header", header.type_name());
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") check_metadata(entry, path);
    else entries_.emplace(name, parse_entry(entry, path, name));
  }
  check_layout(entries_, size - data_start_, path);
}

void Reader::require(std::string_view name, const std::vector<std::int64_t>& shape) const {
  const auto found = entries_.find(name);
  const std::string expected = "tensor " + in_quotes(name) + " " + shape_text(shape);
  if (found == entries_.end()) throw InputError({path_, expected, "none", ""});
  const Entry& entry = found->second;
  if (entry.shape != shape) throw InputError({path_, expected, "shape " + shape_text(entry.shape), ""});
  if (entry.dtype != "F32" && entry.dtype != "F16" && entry.dtype != "BF16")
    throw InputError({path_, expected + " of F32, F16 or BF16", entry.dtype, ""});
}

std::vector<float> Reader::floats(std::string_view name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) throw std::logic_error("safetensors: no tensor " + std::string(name));
  const Entry& entry = found->second;
  const std::uint64_t bytes = entry.end - entry.begin, width = element_bytes(entry.dtype);
  std::vector<float> values(static_cast<std::size_t>(bytes / width));
  if (width == sizeof(float)) {
    file_.read(data_start_ + entry.begin, values.data(), bytes);
    return values;
  }
  std::vector<std::byte> raw(static_cast<std::size_t>(bytes));
  file_.read(data_start_ + entry.begin, raw.data(), bytes);
  const bool brain = entry.dtype == "BF16";
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t half = 0;
    std::memcpy(&half, raw.data() + 2 * i, sizeof half);  // data may stand at any address: header lengths need not be multiples of 8
    values[i] = brain ? from_bfloat16(half) : from_float16(half);
  }
  return values;
}

}  // namespace elastiform::safetensors
