// Graphs that lie, written byte by byte: the interpreter refuses each in one line, whatever it is asked for.
#include <cstdint>
#include <functional>
#include <string>

#include "supernet/formats/onnx.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

using namespace elastiform;

namespace {

// Protocol buffers (ONNX's field numbers): a key, then a varint, or a length and bytes.
std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string number(int field, std::uint64_t value) { return varint(static_cast<std::uint64_t>(field) << 3) + varint(value); }
std::string text(int field, const std::string& bytes) {
  return varint(static_cast<std::uint64_t>(field) << 3 | 2) + varint(bytes.size()) + bytes;
}

template <class T>
std::string raw(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

constexpr int kFloat = 1, kInt64 = 7;

std::string tensor(const std::string& name, const std::vector<std::uint64_t>& dims, int type, const std::string& values) {
  std::string bytes;
  for (const std::uint64_t dim : dims) bytes += number(1, dim);
  return text(5, bytes + number(2, static_cast<std::uint64_t>(type)) + text(8, name) + text(9, values));
}
std::string floats(const std::string& name, const std::vector<std::uint64_t>& dims, const std::vector<float>& values) {
  return tensor(name, dims, kFloat, raw(values));
}
std::string integers(const std::string& name, const std::vector<std::int64_t>& values) {
  return tensor(name, {values.size()}, kInt64, raw(values));
}
std::string external(const std::string& location, const std::string& offset, const std::string& length) {
  const auto entry = [](const std::string& key, const std::string& value) { return text(13, text(1, key) + text(2, value)); };
  return text(5, number(1, 2) + number(2, kFloat) + text(8, "apart") + number(14, 1) + entry("location", location) +
                     entry("offset", offset) + entry("length", length));
}
std::string attribute(const std::string& name, const std::vector<std::int64_t>& values) {
  std::string bytes = text(1, name) + number(20, 7);
  for (const std::int64_t value : values) bytes += number(8, static_cast<std::uint64_t>(value));
  return text(5, bytes);
}
std::string attribute(const std::string& name, std::int64_t value) {
  return text(5, text(1, name) + number(3, static_cast<std::uint64_t>(value)) + number(20, 2));
}
std::string node(const std::string& type, const std::vector<std::string>& inputs, const std::string& output,
                 const std::string& attributes = "") {
  std::string bytes;
  for (const std::string& input : inputs) bytes += text(1, input);
  return text(1, bytes + text(2, output) + text(4, type) + attributes);
}

/// logits = the rows of `table` that the tokens name, which is `between` further on.
std::string model(const std::string& between, const std::string& result = "rows", int opset = 17) {
  const std::string table = floats("table", {4, 2}, {0, 1, 2, 3, 4, 5, 6, 7});
  const std::string last = node("Add", {result, "zero"}, "logits");
  const std::string graph = node("Gather", {"table", "input_ids"}, "rows") + between + last + text(2, "g") + table +
                            floats("zero", {1}, {0}) + text(12, text(1, "logits"));
  return number(1, 8) + text(8, text(1, "") + number(2, static_cast<std::uint64_t>(opset))) + text(7, graph);
}

/// Files that are none, and tensors that are not what they say.
std::vector<std::string> lying_files() {
  const std::string whole = model("");
  return {
      "",
      "not protobuf at all",
      whole.substr(0, whole.size() / 2),
      whole.substr(0, whole.size() - 1),
      model("", "rows", 21),
      model("", "nothing"),                   // a value that is none
      model(floats("short", {4}, {1, 2})),    // does not fill its shape
      model(floats("long", {1}, {1, 2, 3})),  // more than its shape
      model(floats("minus", {static_cast<std::uint64_t>(-2), static_cast<std::uint64_t>(-1)}, {1, 2})),
      model(floats("huge", {1ULL << 40, 1ULL << 40}, {1})),
      model(tensor("strings", {1}, 8, "abcd")),
      model(external("data.bin", "0", "1000000000000")),
      model(external("data.bin", "99999999999999999999", "8")),
      model(external("data.bin", "-1", "8")),
      model(external("data.bin", "zero", "8")),
      model(external("../data.bin", "0", "8")),
      model(external("..", "0", "8")),
      model(external("absent.bin", "0", "8")),
  };
}

/// Operators that ask for what is not there.
std::vector<std::string> lying_operators() {
  const std::string many = integers("many", {1LL << 40, 1LL << 40});
  return {
      model(floats("x", {1, 2}, {9, 9}) + node("Add", {"rows", "zero"}, "x"), "x"),
      model(node("Add", {"table", "zero"}, "table")),
      model(node("Explode", {"rows"}, "x"), "x"),
      model(node("Add", {"rows"}, "x"), "x"),
      model(integers("shape", {-2, -2}) + node("Reshape", {"rows", "shape"}, "x"), "x"),
      model(integers("shape", {-1, -1}) + node("Reshape", {"rows", "shape"}, "x"), "x"),
      model(many + node("Reshape", {"rows", "many"}, "x"), "x"),
      model(many + node("Expand", {"rows", "many"}, "x"), "x"),
      model(node("Transpose", {"rows"}, "x", attribute("perm", std::vector<std::int64_t>{1, 1, 1})), "x"),
      model(node("Transpose", {"rows"}, "x"), "x"),
      model(integers("sizes", {3, -1}) + node("Split", {"rows", "sizes"}, "x", attribute("axis", -1)), "x"),
      model(integers("where", {7}) + node("Gather", {"rows", "where"}, "x", attribute("axis", 2)), "x"),
      model(integers("where", {0}) + node("Gather", {"rows", "where"}, "x", attribute("axis", 9)), "x"),
      model(integers("axes", {44}) + node("Unsqueeze", {"rows", "axes"}, "x"), "x"),
      model(integers("first", {0}) + integers("step", {0}) + node("Range", {"first", "step", "step"}, "x"), "x"),
      model(integers("gain", {1, 1}) + node("LayerNormalization", {"rows", "gain"}, "x"), "x"),
      model(node("ReduceMean", {"rows"}, "x", attribute("axes", std::vector<std::int64_t>{0, 1})), "x"),
      model(integers("whole", {1, 2}) + node("MatMul", {"rows", "whole"}, "x"), "x"),
      model(node("Where", {"rows", "rows", "rows"}, "x"), "x"),
  };
}

/// Whole numbers at the ends of 64 bits, and values without an element whose other axes are as long as numbers go.
std::vector<std::string> lying_sizes() {
  constexpr std::uint64_t kHuge = 1ULL << 62;
  const std::string none = floats("none", {0, kHuge, kHuge}, {}), wide = floats("wide", {0, 1ULL << 31}, {});
  const std::string least = integers("least", {INT64_MIN}), one = integers("one", {1});
  const std::string zeros = integers("zeros", std::vector<std::int64_t>(64, 0));
  return {
      model(none),
      model(none + node("Add", {"none", "zero"}, "x"), "x"),
      model(floats("none", {1ULL << 31, 1ULL << 31, 0}, {}) + node("Transpose", {"none"}, "x"), "x"),
      model(wide + node("ReduceMean", {"wide"}, "x", attribute("axes", std::vector<std::int64_t>{0})), "x"),
      // 2^31 columns a row, gathered and joined until no memory holds them
      model(wide + node("Concat", {"wide", "wide"}, "x", attribute("axis", 1)), "x"),
      model(floats("long", {1ULL << 31, 0}, {}) + zeros + node("Gather", {"long", "zeros"}, "y") +
                node("Gather", {"y", "zeros"}, "x", attribute("axis", 1)),
            "x"),
      model(least + one + node("Sub", {"least", "one"}, "y") + node("Gather", {"table", "y"}, "x"), "x"),
      model(integers("sizes", {INT64_MAX, INT64_MAX, 4}) + node("Split", {"rows", "sizes"}, "x", attribute("axis", -1)), "x"),
      model(integers("from", {1}) + integers("to", {9}) + integers("step", {INT64_MAX}) + node("Range", {"from", "to", "step"}, "y") +
                integers("shape", {7}) + node("Reshape", {"y", "shape"}, "x"),
            "x"),
  };
}

}  // namespace

TEST_CASE("an ONNX graph that lies ends in one line", "[formats][onnx][hostile]") {
  if (!onnx_folder::why_not(preset_model("llama"), parse_subnet("e8:h1f8")).empty()) {
    WARN("built without ONNX's classes: nothing was checked");
    return;
  }
  const TemporaryFolder folder;
  const std::vector<std::int32_t> tokens{1, 3};
  const auto run = [&](const std::string& bytes) {
    folder.write("model.onnx", bytes);
    folder.write("data.bin", "12345678");
    return onnx_folder::run(folder.path(), tokens);
  };
  CHECK(run(model("")) == std::vector<float>{2, 3, 6, 7});

  std::vector<std::string> lies = lying_files();
  for (auto* list : {&lying_operators, &lying_sizes})
    for (std::string& one : list()) lies.push_back(std::move(one));
  CHECK(lies.size() >= 40);
  for (std::size_t i = 0; i < lies.size(); ++i) {
    CAPTURE(i);
    try {
      const std::vector<float> logits = run(lies[i]);
      FAIL_CHECK("case " << i << " was run");
    } catch (const std::exception& error) {
      const std::string line = error.what();
      CHECK(!line.empty());
      CHECK(line.find('\n') == std::string::npos);
    }
  }
}
