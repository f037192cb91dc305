#include <fcntl.h>

#include <stdexcept>
#include <string_view>

#include "supernet/formats/gguf_file.hpp"
#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/file_descriptor.hpp"

namespace elastiform::gguf {
namespace {

constexpr std::uint64_t kAlignment = 32;  // the format's default, so it is not written
constexpr std::size_t kLongestName = 63;  // of a tensor, in llama.cpp

std::uint64_t aligned(std::uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

/// Numbers of the types that we write, in the order of Value's alternatives.
enum Type : std::uint32_t { kUint32 = 4, kInt32 = 5, kFloat32 = 6, kBool = 7, kString = 8, kArray = 9 };

class Header {
 public:
  template <class T>
  void number(T value) {
    bytes_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  void string(std::string_view text) {
    number<std::uint64_t>(text.size());
    bytes_.append(text);
  }
  // Overloads for std::visit, one an alternative: type, then value.
  void operator()(std::uint32_t value) { number<std::uint32_t>(kUint32), number(value); }
  void operator()(float value) { number<std::uint32_t>(kFloat32), number(value); }
  void operator()(bool value) { number<std::uint32_t>(kBool), number<std::uint8_t>(value ? 1 : 0); }
  void operator()(const std::string& value) { number<std::uint32_t>(kString), string(value); }
  void operator()(const std::vector<std::int32_t>& values) {
    array(kInt32, values.size());
    for (const std::int32_t value : values) number(value);
  }
  void operator()(const std::vector<float>& values) {
    array(kFloat32, values.size());
    for (const float value : values) number(value);
  }
  void operator()(const std::vector<std::string>& values) {
    array(kString, values.size());
    for (const std::string& value : values) string(value);
  }
  std::string take() {
    bytes_.resize(aligned(bytes_.size()), '\0');
    return std::move(bytes_);
  }

 private:
  void array(Type type, std::size_t length) { number<std::uint32_t>(kArray), number<std::uint32_t>(type), number<std::uint64_t>(length); }
  std::string bytes_;
};

std::uint64_t bytes_of(const Tensor& tensor) {
  const BlockSize block = block_size(static_cast<std::uint32_t>(tensor.element));
  std::int64_t elements = 1;
  for (const std::int64_t size : tensor.shape) elements *= size;
  if (tensor.shape.empty() || tensor.shape.back() % block.elements != 0 || tensor.name.size() > kLongestName)
    throw std::logic_error("gguf: " + tensor.name + " cannot be written");
  return static_cast<std::uint64_t>(elements / block.elements * block.bytes);
}

std::string header_of(const Metadata& metadata, const std::vector<Tensor>& tensors) {
  Header header;
  for (const char c : std::string_view("GGUF")) header.number(c);
  header.number<std::uint32_t>(3);
  header.number<std::uint64_t>(tensors.size());
  header.number<std::uint64_t>(metadata.size());
  for (const auto& [key, value] : metadata) {
    header.string(key);
    std::visit(header, value);
  }
  std::uint64_t offset = 0;
  for (const Tensor& tensor : tensors) {
    header.string(tensor.name);
    header.number(static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) header.number(*size);  // innermost first
    header.number(static_cast<std::uint32_t>(tensor.element));
    header.number(offset);
    offset += aligned(bytes_of(tensor));
  }
  return header.take();
}

}  // namespace

void write(const std::string& path, const Metadata& metadata, const std::vector<Tensor>& tensors) {
  write_durably(path, [&](const std::string& beside) {
    const FileDescriptor file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!file.is_open()) throw_system_error("create", path);
    write_all(file.get(), header_of(metadata, tensors), path);
    for (const Tensor& tensor : tensors) {
      std::string bytes = encode(tensor.element, tensor.values());
      if (bytes.size() != bytes_of(tensor)) throw std::logic_error("gguf: " + tensor.name + " does not fill its shape");
      bytes.resize(aligned(bytes.size()), '\0');
      write_all(file.get(), bytes, path);
    }
  });
}

}  // namespace elastiform::gguf
