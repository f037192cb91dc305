#include "supernet/formats/safetensors.hpp"

#include <sys/stat.h>

#include <cstring>
#include <filesystem>

#include "kernels/errors.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/temporary_folder.hpp"

using namespace elastiform;
using safetensors::Reader;
using safetensors::Tensor;

namespace {

std::string file_of(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string text(sizeof length, '\0');
  std::memcpy(text.data(), &length, sizeof length);
  return text + header + data;
}

// A header of one F32 tensor with two elements, whose parts a case replaces.
std::string one(const std::string& name = "a", const std::string& dtype = "\"F32\"", const std::string& shape = "[2]",
                const std::string& offsets = "[0,8]") {
  return "{\"" + name + "\":{\"dtype\":" + dtype + ",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}}";
}

const std::string kEight(8, '\1');

}  // namespace

TEST_CASE("safetensors: what is written is read back, byte for byte as the format says", "[formats][safetensors]") {
  const TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  safetensors::write(path, {{"b", {2, 3}, [] { return std::vector<float>{1, 2, 3, 4, 5, 6}; }},
                            {"a",
                             {2},
                             [] {
                               return std::vector<float>{-1, 0.5f};
                             }},
                            {"empty", {0, 4}, [] { return std::vector<float>{}; }}});
  const Reader reader(path);
  REQUIRE(reader.entries().size() == 3);
  CHECK(reader.floats("a") == std::vector<float>{-1, 0.5f});
  CHECK(reader.floats("b") == std::vector<float>{1, 2, 3, 4, 5, 6});
  CHECK(reader.floats("empty").empty());
  CHECK_NOTHROW(reader.require("b", {2, 3}));
  CHECK_THROWS_AS(reader.require("b", {3, 2}), InputError);
  CHECK_THROWS_AS(reader.require("c", {3, 2}), InputError);
  const std::string text = content_of(path);
  std::uint64_t length = 0;
  std::memcpy(&length, text.data(), sizeof length);
  CHECK(length % 8 == 0);
  CHECK(text.size() == 8 + length + 32);
  CHECK(text.substr(8).rfind("{\"__metadata__\":{\"format\":\"pt\"},\"a\":", 0) == 0);
}

TEST_CASE("safetensors: half precision is widened exactly, at any alignment", "[formats][safetensors]") {
  const TemporaryFolder folder;
  // 1, -2, smallest subnormal, largest, infinity; the header's length is odd, so the data is not aligned.
  const std::string half("\x00\x3c\x00\xc0\x01\x00\xff\x7b\x00\x7c", 10);
  std::string header = one("a", "\"F16\"", "[5]", "[0,10]");
  if (header.size() % 2 == 0) header += ' ';
  CHECK(Reader(folder.write("f16", file_of(header, half))).floats("a") ==
        std::vector<float>{1, -2, 0x1p-24f, 65504, std::numeric_limits<float>::infinity()});
  const std::string brain("\x80\x3f\x00\xc0", 4);
  CHECK(Reader(folder.write("bf16", file_of(one("a", "\"BF16\"", "[2]", "[0,4]"), brain))).floats("a") == std::vector<float>{1, -2});
}

TEST_CASE("safetensors: what the library accepts is accepted", "[formats][safetensors]") {
  const TemporaryFolder folder;
  const auto accepts = [&](const std::string& header, const std::string& data) {
    CAPTURE(header);
    CHECK_NOTHROW(Reader(folder.write("x", file_of(header, data))));
  };
  accepts(one(), kEight);
  accepts("  " + one() + "   ", kEight);
  accepts("{}", "");
  accepts(one("a", "\"F32\"", "[]", "[0,4]"), "1234");
  accepts("{\"a\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[0,8],\"more\":1},\"__metadata__\":{\"x\":\"y\"}}", kEight);
  accepts("{\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
          kEight);
}

TEST_CASE("safetensors: lying and damaged files end in one line that names the file", "[formats][safetensors][hostile]") {
  const TemporaryFolder folder;
  const auto refuses = [&](const std::string& bytes) {
    CAPTURE(bytes.substr(0, 200));
    check_input_error([&] { const Reader reader(folder.write("hostile", bytes)); }, "hostile");
  };
  const auto refuses_header = [&](const std::string& header, const std::string& data = kEight) { refuses(file_of(header, data)); };
  refuses("");
  refuses("1234567");
  refuses(std::string("\x00\xe1\xf5\x05\x00\x00\x00\x01{}", 10));  // 2^56: over the limit
  refuses(std::string(8, '\xff') + "{}");
  refuses(std::string("\x00\x10\x00\x00\x00\x00\x00\x00{}", 10));  // header past the end
  refuses_header("");
  refuses_header("[]");
  refuses_header("\"text\"");
  refuses_header("{");
  refuses_header(one() + "x");
  refuses_header("{\"a\":1}");
  refuses_header(std::string("{\"\xff\":1}"));
  refuses_header("{\"__metadata__\":1}", "");
  refuses_header("{\"__metadata__\":{\"a\":1}}", "");
  refuses_header(
      one("a", "\"F32\"", "[2]", "[0,8]").insert(1, "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"));  // twice
  refuses_header(one("a", "\"F31\""));
  refuses_header(one("a", "3"));
  refuses_header(one("a", "\"F32\"", "[-2]"));
  refuses_header(one("a", "\"F32\"", "[2.0]"));
  refuses_header(one("a", "\"F32\"", "2"));
  refuses_header(one("a", "\"F32\"", "[4294967296,4294967296]"));
  refuses_header(one("a", "\"F32\"", "[4611686018427387904]"));  // times four overflows
  refuses_header(one("a", "\"F32\"", "[18446744073709551616]"));
  refuses_header(one("a", "\"F32\"", "[2]", "[0,9]"));
  refuses_header(one("a", "\"F32\"", "[2]", "[8,0]"));
  refuses_header(one("a", "\"F32\"", "[2]", "[0,-8]"));
  refuses_header(one("a", "\"F32\"", "[2]", "[0]"));
  refuses_header(one("a", "\"F32\"", "[1]", "[4,8]"));  // a gap in front
  refuses_header(one(), kEight + "x");                  // bytes left over
  refuses_header(one(), "1234567");                     // truncated
  refuses_header(
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}");
  refuses_header(
      "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[6,8]}}");
  refuses_header("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}");
  refuses_header("{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}");
}

TEST_CASE("safetensors: a tensor of whole numbers is no weight", "[formats][safetensors]") {
  const TemporaryFolder folder;
  const Reader reader(folder.write("x", file_of(one("a", "\"I32\""), kEight)));
  CHECK_THROWS_AS(reader.require("a", {2}), InputError);
}

TEST_CASE("safetensors: a pipe or a folder is refused without waiting", "[formats][safetensors][hostile]") {
  const TemporaryFolder folder;
  const std::string pipe = folder / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_WITH(Reader(pipe), Catch::Contains("no regular file"));
  CHECK_THROWS_WITH(Reader(folder.path()), Catch::Contains("no regular file"));
  CHECK_THROWS_AS(Reader(folder / "absent"), InputError);
}

TEST_CASE("safetensors: tensors come from the file whose header was checked", "[formats][safetensors][hostile]") {
  const TemporaryFolder folder;
  const std::string path = folder.write("x", file_of(one(), kEight));
  const Reader reader(path);
  const std::vector<float> checked = reader.floats("a");
  std::filesystem::rename(folder.write("y", file_of(one(), std::string(8, '\2'))), path);  // another file of that name
  CHECK(reader.floats("a") == checked);
  std::filesystem::remove(path);
  CHECK(reader.floats("a") == checked);

  const std::string other = folder.write("other", file_of(one(), kEight));
  const Reader shortened(other);
  std::filesystem::resize_file(other, std::filesystem::file_size(other) - 1);
  CHECK_THROWS_WITH(shortened.floats("a"), Catch::Contains("changed while it was read"));
}
