#include "supernet/formats/gguf_file.hpp"

#include <sys/stat.h>

#include <cmath>
#include <cstring>

#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/temporary_folder.hpp"

using namespace elastiform;
using gguf::Element;
using gguf::Reader;

namespace {

template <class T>
std::string number(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}
std::string text(const std::string& value) { return number<std::uint64_t>(value.size()) + value; }
std::string begin(std::uint64_t tensors, std::uint64_t pairs) {
  return "GGUF" + number<std::uint32_t>(3) + number(tensors) + number(pairs);
}
std::string key(const std::string& name, std::uint32_t type) { return text(name) + number(type); }
std::string tensor(const std::string& name, const std::vector<std::uint64_t>& sizes, std::uint32_t type, std::uint64_t offset) {
  std::string bytes = text(name) + number(static_cast<std::uint32_t>(sizes.size()));
  for (const std::uint64_t size : sizes) bytes += number(size);
  return bytes + number(type) + number(offset);
}
/// A header padded to 32 bytes, and data.
std::string file_of(std::string header, std::size_t data) {
  header.resize((header.size() + 31) / 32 * 32, '\0');
  return header + std::string(data, '\1');
}

std::vector<float> normals(std::size_t count, double spread) {
  RandomStream random(3, Purpose::test, 0, 0);
  std::vector<float> values;
  for (std::size_t i = 0; i < count; ++i) values.push_back(static_cast<float>(spread * random.normal()));
  return values;
}

/// In one line that begins with the path.
void check_refused(const std::string& path) {
  CHECK(check_input_error([&] { const Reader reader(path); }).find(path) == 0);
}

}  // namespace

TEST_CASE("GGUF: what is written is read back, byte for byte as the format says", "[formats][gguf]") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.gguf";
  gguf::write(path,
              {{"a.b", std::uint32_t{7}},
               {"name", std::string("x")},
               {"list", std::vector<std::int32_t>{1, -2}},
               {"words", std::vector<std::string>{"ab", ""}},
               {"none", std::vector<std::string>{}},
               {"real", 0.5f},
               {"yes", true}},
              {{"w", Element::f32, {2, 3}, [] { return std::vector<float>{1, 2, 3, 4, 5, 6}; }}, {"v", Element::f16, {2}, [] {
                                                                                                    return std::vector<float>{-1, 0.5f};
                                                                                                  }}});
  const std::string pairs = key("a.b", 4) + number<std::uint32_t>(7) + key("name", 8) + text("x") + key("list", 9) +
                            number<std::uint32_t>(5) + number<std::uint64_t>(2) + number<std::int32_t>(1) + number<std::int32_t>(-2) +
                            key("words", 9) + number<std::uint32_t>(8) + number<std::uint64_t>(2) + text("ab") + text("") + key("none", 9) +
                            number<std::uint32_t>(8) + number<std::uint64_t>(0) + key("real", 6) + number(0.5f) + key("yes", 7) + '\1';
  std::string expected = file_of(begin(2, 7) + pairs + tensor("w", {3, 2}, 0, 0) + tensor("v", {2}, 1, 32), 0);
  for (const float value : {1, 2, 3, 4, 5, 6}) expected += number(value);
  expected += std::string(8, '\0') + std::string("\x00\xBC\x00\x38", 4) + std::string(28, '\0');
  CHECK(content_of(path) == expected);

  const Reader reader(path);
  CHECK(reader.integer("a.b") == 7);
  CHECK(reader.text("name") == "x");
  CHECK(reader.real("real") == 0.5);
  CHECK(reader.integers("list", 2) == std::vector<std::int64_t>{1, -2});
  CHECK(reader.integers("a.b", 3) == std::vector<std::int64_t>{7, 7, 7});
  CHECK(reader.array_length("words") == 2);
  CHECK(reader.texts("words") == std::vector<std::string>{"ab", ""});
  CHECK(reader.flag("yes"));
  CHECK_THROWS_AS(reader.texts("list"), InputError);
  CHECK_THROWS_AS(reader.flag("real"), InputError);
  CHECK(reader.floats("w") == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK(reader.floats("v") == std::vector<float>{-1, 0.5f});
  CHECK_NOTHROW(reader.require("w", {2, 3}));
  CHECK_THROWS_AS(reader.require("w", {3, 2}), InputError);
  CHECK_THROWS_AS(reader.require("x", {2, 3}), InputError);
  CHECK_THROWS_AS(reader.integer("name"), InputError);
  CHECK_THROWS_AS(reader.integer("absent"), InputError);
  CHECK_THROWS_AS(reader.text("a.b"), InputError);
  CHECK_THROWS_AS(reader.real("a.b"), InputError);
  CHECK_THROWS_AS(reader.integers("list", 3), InputError);
  CHECK_THROWS_AS(reader.integers("words", 2), InputError);
  CHECK_THROWS_AS(reader.array_length("a.b"), InputError);
}

TEST_CASE("GGUF: elements lose no more than their type must", "[formats][gguf]") {
  struct Row {
    Element element;
    double relative;  // of the largest of 32
  };
  const auto row = GENERATE(Row{Element::f32, 0}, Row{Element::f16, 0x1p-11}, Row{Element::bf16, 0x1p-8}, Row{Element::q8_0, 1 / 250.0});
  for (const double spread : {1e-3, 1.0, 300.0}) {
    const std::vector<float> values = normals(64 * 32, spread);
    const std::string bytes = gguf::encode(row.element, values);
    const gguf::BlockSize block = gguf::block_size(static_cast<std::uint32_t>(row.element));
    CHECK(bytes.size() == values.size() / static_cast<std::size_t>(block.elements) * static_cast<std::size_t>(block.bytes));
    const std::vector<float> found = gguf::decode(static_cast<std::uint32_t>(row.element), bytes);
    REQUIRE(found.size() == values.size());
    for (std::size_t i = 0; i < values.size(); i += 32) {
      double largest = 0, difference = 0;
      for (std::size_t j = i; j < i + 32; ++j) {
        largest = std::max(largest, std::abs(static_cast<double>(values[j])));
        difference = std::max(difference, std::abs(static_cast<double>(found[j]) - static_cast<double>(values[j])));
      }
      CHECK(difference <= row.relative * largest);
    }
    CHECK(gguf::encode(row.element, found) == bytes);
  }
  CHECK(gguf::decode(8, gguf::encode(Element::q8_0, std::vector<float>(32, 0.0f))) == std::vector<float>(32, 0.0f));
  CHECK_THROWS_WITH(gguf::encode(Element::f16, {1e6f}), Catch::Contains("no place in float16"));
}

TEST_CASE("GGUF: 4-bit blocks are read as ggml keeps them", "[formats][gguf]") {
  // Element i of a block stands in byte i mod 16, the first half of them in its low bits.
  std::string numbers;
  for (int i = 0; i < 16; ++i) numbers += static_cast<char>(i | (15 - i) << 4);
  const std::string half("\x00\x38", 2), two("\x00\x40", 2);  // 0.5 and 2
  const std::vector<float> signed_numbers = gguf::decode(2, half + numbers), shifted = gguf::decode(3, half + two + numbers);
  REQUIRE(signed_numbers.size() == 32);
  REQUIRE(shifted.size() == 32);
  for (int i = 0; i < 32; ++i) {
    const auto q = static_cast<float>(i < 16 ? i : 31 - i);
    CHECK(signed_numbers[static_cast<std::size_t>(i)] == 0.5f * (q - 8));
    CHECK(shifted[static_cast<std::size_t>(i)] == 0.5f * q + 2);
  }
  const TemporaryFolder folder;
  const std::string file = file_of(begin(1, 0) + tensor("t", {64, 2}, 3, 0), 80);
  CHECK(Reader(folder.write("q4_1.gguf", file)).floats("t").size() == 128);
  CHECK_THROWS_AS(Reader(folder.write("half.gguf", file_of(begin(1, 0) + tensor("t", {48, 2}, 3, 0), 60))), InputError);
}

TEST_CASE("GGUF: hostile files end in one line", "[formats][gguf][hostile]") {
  const std::uint64_t huge = std::uint64_t{1} << 62;
  const std::string one = begin(1, 0);
  const std::vector<std::pair<const char*, std::string>> cases{
      {"empty", ""},
      {"short", "GGUF"},
      {"another magic", file_of("GGML" + number<std::uint32_t>(3) + number<std::uint64_t>(0) + number<std::uint64_t>(0), 0)},
      {"version 1", file_of("GGUF" + number<std::uint32_t>(1) + number<std::uint64_t>(0) + number<std::uint64_t>(0), 0)},
      {"big-endian version", file_of("GGUF" + number<std::uint32_t>(0x03000000) + number<std::uint64_t>(0) + number<std::uint64_t>(0), 0)},
      {"tensors without end", file_of(begin(huge, 0), 64)},
      {"pairs without end", file_of(begin(0, huge), 64)},
      {"negative counts", file_of(begin(~std::uint64_t{0}, 0), 64)},
      {"a key longer than the file", file_of(begin(0, 1) + number(huge), 64)},
      {"a key longer than keys are", begin(0, 1) + text(std::string(5000, 'k')) + number<std::uint32_t>(4) + number<std::uint32_t>(1)},
      {"a text longer than the file", file_of(begin(0, 1) + key("k", 8) + number(huge), 64)},
      {"an array longer than the file", file_of(begin(0, 1) + key("k", 9) + number<std::uint32_t>(4) + number(huge), 64)},
      {"an array whose bytes overflow", file_of(begin(0, 1) + key("k", 9) + number<std::uint32_t>(10) + number(huge | 8), 64)},
      {"a text of an array beyond the end",
       file_of(begin(0, 1) + key("k", 9) + number<std::uint32_t>(8) + number<std::uint64_t>(1) + number(huge), 64)},
      {"arrays of arrays", file_of(begin(0, 1) + key("k", 9) + number<std::uint32_t>(9) + number<std::uint64_t>(1), 64)},
      {"an unknown type", file_of(begin(0, 1) + key("k", 13) + number<std::uint32_t>(1), 64)},
      {"an unknown type in an array", file_of(begin(0, 1) + key("k", 9) + number<std::uint32_t>(99) + number<std::uint64_t>(1), 64)},
      {"a number beyond 2^63", file_of(begin(0, 1) + key("k", 10) + number(~std::uint64_t{0}), 0)},
      {"a key twice", begin(0, 2) + key("k", 7) + '\1' + key("k", 7) + '\1'},
      {"an alignment that is no power of two", begin(0, 1) + key("general.alignment", 4) + number<std::uint32_t>(24)},
      {"an alignment of 0", begin(0, 1) + key("general.alignment", 4) + number<std::uint32_t>(0)},
      {"an alignment that is text", begin(0, 1) + key("general.alignment", 8) + text("32")},
      {"a tensor twice", file_of(begin(2, 0) + tensor("t", {8}, 0, 0) + tensor("t", {8}, 0, 32), 64)},
      {"a tensor of no dimension", file_of(one + tensor("t", {}, 0, 0), 32)},
      {"a tensor of five dimensions", file_of(one + tensor("t", {1, 1, 1, 1, 8}, 0, 0), 32)},
      {"a tensor of size 0", file_of(one + tensor("t", {0}, 0, 0), 32)},
      {"a tensor of negative size", file_of(one + tensor("t", {~std::uint64_t{0}}, 0, 0), 32)},
      {"sizes whose product overflows", file_of(one + tensor("t", {huge, 16}, 0, 0), 32)},
      {"bytes that overflow", file_of(one + tensor("t", {huge}, 0, 0), 32)},
      {"more elements than bytes", file_of(one + tensor("t", {64}, 0, 0), 32)},
      {"half a block of q8_0", file_of(one + tensor("t", {16}, 8, 0), 34)},
      {"an element type that is not read", file_of(one + tensor("t", {256}, 12, 0), 144)},
      {"an offset that is not the next", file_of(one + tensor("t", {8}, 0, 32), 64)},
      {"tensors that overlap", file_of(begin(2, 0) + tensor("t", {8}, 0, 0) + tensor("u", {8}, 0, 0), 64)},
      {"an offset far away", file_of(one + tensor("t", {8}, 0, huge), 64)},
      {"bytes that are missing", file_of(one + tensor("t", {8}, 0, 0), 31)},
      {"bytes left over", file_of(one + tensor("t", {8}, 0, 0), 33)},
      {"a header that ends early", (one + tensor("t", {8}, 0, 0)).substr(0, 50)},
  };
  const TemporaryFolder folder;
  for (const auto& [name, bytes] : cases) {
    CAPTURE(name);
    check_refused(folder.write("hostile.gguf", bytes));
  }
  CHECK_THROWS_AS(Reader(folder / "absent"), InputError);
  CHECK_THROWS_AS(Reader(folder.path()), InputError);
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK_THROWS_AS(Reader(folder / "pipe"), InputError);
}

TEST_CASE("GGUF: what the format allows is read", "[formats][gguf]") {
  const TemporaryFolder folder;
  CHECK(Reader(folder.write("nothing.gguf", begin(0, 0))).entries().empty());
  const std::string every = key("u8", 0) + '\7' + key("i8", 1) + '\xFF' + key("u16", 2) + number<std::uint16_t>(7) + key("i16", 3) +
                            number<std::int16_t>(-7) + key("i32", 5) + number<std::int32_t>(-7) + key("u64", 10) +
                            number<std::uint64_t>(7) + key("i64", 11) + number<std::int64_t>(-7) + key("f64", 12) + number(0.25);
  const Reader reader(folder.write("every.gguf", begin(0, 8) + every));
  CHECK(reader.integer("i8") == -1);
  CHECK(reader.integer("i64") == -7);
  CHECK(reader.integer("u16") == 7);
  CHECK(reader.real("f64") == 0.25);
  // Padding behind the last tensor may be left out.
  CHECK(Reader(folder.write("bare.gguf", file_of(begin(1, 0) + tensor("t", {3}, 0, 0), 12))).floats("t").size() == 3);
  CHECK(Reader(folder.write("padded.gguf", file_of(begin(1, 0) + tensor("t", {3}, 0, 0), 32))).floats("t").size() == 3);
}
