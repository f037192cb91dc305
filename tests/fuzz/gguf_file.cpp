#include "supernet/formats/gguf.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace elastiform;

namespace {

void read_all(std::string_view file) {
  const std::string path = fuzz::file_with(file);
  fuzz::refuses_or_reads([&] {
    const gguf::Reader reader(path);
    for (const auto& [name, entry] : reader.entries()) {
      fuzz::require(entry.begin <= entry.end && entry.end <= file.size());
      reader.require(name, entry.shape);
      reader.floats(name);
    }
  });
  fuzz::refuses_or_reads([&] { gguf::read(path); });
}

template <class T>
std::string number(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
std::string text(std::string_view value) { return number<std::uint64_t>(value.size()) + std::string(value); }

/// A file that is right but for `pairs`, which stand among the metadata of a network without tensors. scaled: its rotary positions are, linearly,
/// by a float of the first four bytes.
std::string framed(std::string_view pairs, std::uint64_t count, bool scaled) {
  std::string file = "GGUF" + number<std::uint32_t>(3) + number<std::uint64_t>(0) + number<std::uint64_t>(count + (scaled ? 7 : 5));
  file += text("general.architecture") + number<std::uint32_t>(8) + text("llama");
  for (const char* key : {"llama.block_count", "llama.embedding_length", "llama.feed_forward_length", "llama.attention.head_count"})
    file += text(key) + number<std::uint32_t>(4) + number<std::uint32_t>(4);
  if (scaled)
    file += text("llama.rope.scaling.type") + number<std::uint32_t>(8) + text("linear") + text("llama.rope.scaling.factor") +
            number<std::uint32_t>(6);
  return file + std::string(pairs);
}

}  // namespace

// The bytes as a file, and as further metadata of a network, which chance would not find.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  read_all(bytes);
  if (size > 0) read_all(framed(bytes.substr(1), data[0] % 8, data[0] >= 128));
  return 0;
}
