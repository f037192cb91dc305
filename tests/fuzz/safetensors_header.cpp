#include "supernet/formats/safetensors.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace elastiform;

namespace {

void read_all(std::string_view file) {
  fuzz::refuses_or_reads([&] {
    const safetensors::Reader reader(fuzz::file_with(file));
    for (const auto& [name, entry] : reader.entries()) {
      fuzz::require(entry.begin <= entry.end && entry.end <= file.size());
      reader.require(name, entry.shape);
      reader.floats(name);
    }
  });
}

}  // namespace

// The bytes as a file, and as a header whose length is right, which chance would not find.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes = fuzz::text_of(data, size);
  read_all(bytes);
  const std::size_t header = bytes.rfind('}') == std::string_view::npos ? size : bytes.rfind('}') + 1;
  std::string framed;
  for (int i = 0; i < 8; ++i) framed += static_cast<char>(header >> (8 * i) & 255);
  read_all(framed.append(bytes));
  return 0;
}
