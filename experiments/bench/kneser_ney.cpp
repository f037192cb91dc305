// Byte models that a text network has to beat: Kneser-Ney of orders 3 to 7, trained on the train split and scored on exactly the bytes
// that `elastiform evaluate --split report` scores: every segment by itself, its first byte excepted.
//
//   kneser_ney --text FILE [--context 128] [--splits 90,5,5] [--split-block 16384] [--split report] [--json]
//   kneser_ney --text FILE --write-splits FOLDER      writes train.bin and train+report.bin, for compressors

#include <charconv>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "experiments/bench/byte_models/kneser_ney.hpp"
#include "kernels/errors.hpp"
#include "supernet/data/text_data.hpp"

namespace elastiform {
namespace {

constexpr int kFirstOrder = 3, kLastOrder = 7;

struct Arguments {
  DataOptions data;
  int context = 128;  // the recipe's: training keeps one context away from the other splits
  Split split = Split::report;
  std::optional<std::string> write_splits;
  bool json = false;
};

std::int64_t number(std::string_view where, std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1)
    throw InputError({.where = std::string(where), .expected = "a positive integer", .found = "'" + std::string(text) + "'", .remedy = ""});
  return value;
}

std::vector<int> number_list(std::string_view where, std::string_view text) {
  std::vector<int> values;
  while (true) {
    const std::size_t comma = text.find(',');
    values.push_back(static_cast<int>(number(where, text.substr(0, comma))));
    if (comma == std::string_view::npos) return values;
    text.remove_prefix(comma + 1);
  }
}

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--json") {
      arguments.json = true;
      continue;
    }
    const bool known = name == "--text" || name == "--context" || name == "--splits" || name == "--split-block" || name == "--split" ||
                       name == "--write-splits";
    if (!known || i + 1 == argc)
      throw InputError({.where = "kneser_ney",
                        .expected = known ? "a value after " + std::string(name)
                                          : "--text, --context, --splits, --split-block, --split, --write-splits or --json",
                        .found = known ? "nothing" : "'" + std::string(name) + "'",
                        .remedy = ""});
    const std::string value = argv[++i];
    if (name == "--text") arguments.data.text = value;
    if (name == "--context") arguments.context = static_cast<int>(number(name, value));
    if (name == "--splits") arguments.data.splits = number_list(name, value);
    if (name == "--split-block") arguments.data.split_block = number(name, value);
    if (name == "--split") arguments.split = parse_split(value);
    if (name == "--write-splits") arguments.write_splits = value;
  }
  if (arguments.data.text.empty())
    throw InputError(
        {.where = "kneser_ney", .expected = "--text FILE", .found = "no text", .remedy = "name the file or folder of a recipe"});
  return arguments;
}

std::vector<ByteSpan> stretches(const TextData& data, Split split) {
  std::vector<ByteSpan> spans;
  for (const Segment& segment : data.segments(split))
    spans.emplace_back(data.bytes() + segment.begin, static_cast<std::size_t>(segment.end - segment.begin));
  return spans;
}

void append(const std::string& path, const std::vector<ByteSpan>& spans, std::ios::openmode mode) {
  std::ofstream out(path, std::ios::binary | mode);
  for (const ByteSpan span : spans) out.write(reinterpret_cast<const char*>(span.data()), static_cast<std::streamsize>(span.size()));
  if (!out.flush()) throw InputError({.where = path, .expected = "a file that can be written", .found = "an error", .remedy = ""});
}

struct Row {
  int order;
  double bits_per_byte;
  std::int64_t grams;
};

void print(const Arguments& arguments, std::int64_t train_bytes, std::int64_t scored, std::size_t segments, const std::vector<Row>& rows,
           double seconds) {
  if (arguments.json) {
    std::string models;
    for (const Row& row : rows)
      models +=
          fmt::format("{}{{\"model\": \"kneser-ney\", \"order\": {}, \"context_bytes\": {}, \"bits_per_byte\": {:.6f}, \"grams\": {}}}",
                      models.empty() ? "" : ", ", row.order, row.order - 1, row.bits_per_byte, row.grams);
    fmt::print(
        "{{\"split\": \"{}\", \"train_bytes\": {}, \"scored_bytes\": {}, \"segments\": {}, \"models\": [{}], \"seconds\": {:.2f}}}\n",
        name_of(arguments.split), train_bytes, scored, segments, models, seconds);
    return;
  }
  fmt::print("Kneser-Ney byte models (interpolated, three discounts a level), trained on {} bytes, scored on {} bytes of the {} split\n",
             train_bytes, scored, name_of(arguments.split));
  fmt::print("order  bytes of context  bits/byte      grams\n");
  for (const Row& row : rows) fmt::print("{:5}  {:16}  {:9.4f}  {:9}\n", row.order, row.order - 1, row.bits_per_byte, row.grams);
  fmt::print("{:.1f} s\n", seconds);
}

void run(const Arguments& arguments) {
  const auto start = std::chrono::steady_clock::now();
  const TextData data(arguments.data.text, arguments.data, arguments.context);
  const auto training = stretches(data, Split::train), scored = stretches(data, arguments.split);
  if (arguments.write_splits) {
    append(*arguments.write_splits + "/train.bin", training, std::ios::trunc);
    append(*arguments.write_splits + "/train+report.bin", training, std::ios::trunc);
    append(*arguments.write_splits + "/train+report.bin", scored, std::ios::app);
    return;
  }
  const KneserNey model(training, kLastOrder);
  std::int64_t bytes = 0;
  for (const ByteSpan span : scored) bytes += static_cast<std::int64_t>(span.size()) - 1;
  std::vector<Row> rows;
  for (int order = kFirstOrder; order <= kLastOrder; ++order) {
    double bits = 0;
    for (const ByteSpan span : scored) bits += model.bits(order, span);
    rows.push_back({order, bits / static_cast<double>(bytes), model.grams(order)});
  }
  print(arguments, data.split_tokens(Split::train), bytes, scored.size(), rows,
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
}

}  // namespace
}  // namespace elastiform

int main(int argc, char** argv) {
  try {
    elastiform::run(elastiform::parse(argc, argv));
    return 0;
  } catch (const elastiform::InputError& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "kneser_ney: %s\n", error.what());
    return 1;
  }
}
