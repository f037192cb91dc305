#include "experiments/bench/support/case_line.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kMaxBytes = std::int64_t{4} << 30;

[[noreturn]] void fail(const std::string& expected, const std::string& found) {
  throw InputError(
      {.where = "case", .expected = expected, .found = "'" + found + "'", .remedy = "ELASTIFORM_VERBOSE=kernels prints such lines"});
}

/// Reads a positive number and moves `at` behind it; 0 where there is none.
std::int64_t read_size(const char*& at, const char* end) {
  std::int64_t value = 0;
  const auto result = std::from_chars(at, end, value);
  if (result.ec != std::errc{} || value < 1 || value > (std::int64_t{1} << 31)) return 0;
  at = result.ptr;
  return value;
}

/// `RxC/LD`, `RxC/LD:bf16` or `RxC/LD:uint8`; false where the value is something else.
bool read_operand(const std::string& text, CaseLine::Operand& operand) {
  const char* at = text.data();
  const char* end = at + text.size();
  const auto skip = [&](char separator) { return at != end && *at == separator && ++at; };
  operand.rows = read_size(at, end);
  if (operand.rows == 0 || !skip('x')) return false;
  operand.columns = read_size(at, end);
  if (operand.columns == 0 || !skip('/')) return false;
  operand.ld = read_size(at, end);
  const std::string_view type(at, static_cast<std::size_t>(end - at));
  operand.bf16 = type == ":bf16", operand.codes = type == ":uint8";
  return operand.ld > 0 && (type.empty() || operand.bf16 || operand.codes);
}

}  // namespace

CaseLine CaseLine::parse(std::string_view text) {
  CaseLine line;
  std::istringstream words{std::string(text)};
  words >> line.operation;
  if (line.operation.empty()) fail("an operation and its operands", std::string(text));
  for (std::string word; words >> word;) {
    const std::size_t equals = word.find('=');
    if (equals == 0 || equals == std::string::npos) fail("NAME=VALUE", word);
    const std::string name = word.substr(0, equals), value = word.substr(equals + 1);
    Operand operand{.name = name};
    if (name == "precision") line.precision = parse_precision(value, "case: precision");
    else if (read_operand(value, operand)) {
      if (operand.rows > 1 && operand.ld < operand.columns) fail("a leading dimension of at least the columns", word);
      line.operands.push_back(operand);
    } else if (value.find('/') != std::string::npos) fail("ROWSxCOLUMNS/LEADING_DIMENSION", word);
    else line.scalars.emplace_back(name, value);
  }
  if (line.bytes() > kMaxBytes) fail("operands of at most 4 GiB together", std::string(text));
  return line;
}

std::string CaseLine::text() const {
  std::string text = operation;
  for (const Operand& o : operands)
    text += fmt::format(" {}={}x{}/{}{}", o.name, o.rows, o.columns, o.ld, o.bf16 ? ":bf16" : o.codes ? ":uint8" : "");
  for (const auto& scalar : scalars) text += " " + scalar.first + "=" + scalar.second;
  if (precision == Precision::bf16) text += " precision=bf16";
  return text;
}

std::int64_t CaseLine::bytes() const {
  std::int64_t bytes = 0;
  for (const Operand& o : operands) {
    if (o.rows > kMaxBytes / 4 / std::max(o.ld, o.columns)) return kMaxBytes + 1;  // no overflow below
    bytes += 4 * o.rows * std::max(o.ld, o.columns);
    if (bytes > kMaxBytes) return bytes;
  }
  return bytes;
}

}  // namespace elastiform
