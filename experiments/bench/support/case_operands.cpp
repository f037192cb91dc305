#include "experiments/bench/support/case_operands.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <utility>

#include "kernels/errors.hpp"
#include "kernels/random.hpp"

namespace elastiform {
namespace {

[[noreturn]] void fail(const std::string& found) {
  throw InputError({.where = "case", .expected = "", .found = found, .remedy = "ELASTIFORM_VERBOSE=kernels prints lines that run"});
}

}  // namespace

CaseOperands::CaseOperands(CaseLine line, MemorySpace& memory)
    : line_(std::move(line)), memory_(memory), arena_(line_.bytes() + 64 * static_cast<std::int64_t>(line_.operands.size() + 1), memory) {
  const std::string* dtype = scalar("dtype");
  if (dtype && *dtype != "float32") fail("dtype=" + *dtype + ", but backends keep float32");
}

View CaseOperands::filled(const std::string& name, const std::function<float()>& next) {
  for (const CaseLine::Operand& operand : line_.operands) {
    if (operand.name != name) continue;
    used_.insert(name);
    // One row of all elements is tight, so the view can have any leading dimension.
    const DType dtype = operand.bf16 ? DType::bfloat16 : operand.codes ? DType::uint8 : DType::float32;
    const View block = arena_.matrix(1, operand.rows * std::max(operand.ld, operand.columns), dtype);
    const std::int64_t bytes = block.columns * bytes_of(dtype);
    const MemoryBlock staged = allocate_block(bytes);
    const View host{staged.get(), 1, block.columns, block.columns, dtype};
    for (std::int64_t i = 0; i < block.columns; ++i) {
      const float x = next();
      if (operand.codes) host.row<std::uint8_t>(0)[i] = static_cast<std::uint8_t>(i);
      else if (operand.bf16) host.row<BFloat16>(0)[i].bits = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16);
      else host.row<float>(0)[i] = x;
    }
    memory_.copy(block.data, host.data, bytes);
    return {block.data, operand.rows, operand.columns, operand.ld, dtype};
  }
  return {};
}

View CaseOperands::optional(const std::string& name) {
  RandomStream random(1, Purpose::test);
  return filled(name, [&] { return static_cast<float>(random.uniform() - 0.5); });
}

View CaseOperands::get(const std::string& name) {
  const View view = optional(name);
  if (view.empty()) fail(line_.operation + " has no " + name);
  return view;
}

View CaseOperands::ones(const std::string& name) {
  const View view = filled(name, [] { return 1.0f; });
  if (view.empty()) fail(line_.operation + " has no " + name);
  return view;
}

View CaseOperands::codes(const std::string& name) {
  const View view = get(name);
  std::fill_n(view.data, view.rows * view.ld, std::byte{0});
  return {view.data, view.rows, view.columns, view.ld, DType::uint8};
}

const std::string* CaseOperands::scalar(const std::string& name) {
  for (const auto& known : line_.scalars)
    if (known.first == name) {
      used_.insert(name);
      return &known.second;
    }
  return nullptr;
}

double CaseOperands::number(const std::string& name, double otherwise) {
  const std::string* text = scalar(name);
  if (!text) return otherwise;
  double value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc{} || end != text->data() + text->size()) fail(name + "=" + *text + " is not a number");
  return value;
}

std::int64_t CaseOperands::integer(const std::string& name, std::int64_t otherwise) {
  const double value = number(name, static_cast<double>(otherwise));
  if (!(value >= 0 && value <= 1e6) || value != static_cast<double>(static_cast<std::int64_t>(value)))
    fail(fmt::format("{}={} is not a whole number from 0 to 1e6", name, value));
  return static_cast<std::int64_t>(value);
}

bool CaseOperands::either(const std::string& name, const char* yes, const char* no) {
  const std::string* text = scalar(name);
  if (!text || *text == no) return false;
  if (*text != yes) fail(name + "=" + *text + ", not " + yes + " or " + no);
  return true;
}

AttentionShape CaseOperands::attention() {
  return {.batch = integer("batch", 0),
          .query_tokens = integer("query_tokens", 0),
          .key_tokens = integer("key_tokens", 0),
          .heads = integer("heads", 0),
          .groups = integer("groups", 0),
          .head_dim = integer("head_dim", 0),
          .scale = number("scale", 1)};
}

std::span<const std::int32_t> CaseOperands::make_tokens(std::int64_t count, std::int64_t vocabulary) {
  for (std::int64_t i = 0; i < count; ++i) tokens_.push_back(static_cast<std::int32_t>(i * 7 % vocabulary));
  return tokens_;
}

void CaseOperands::all_used() const {
  for (const CaseLine::Operand& operand : line_.operands)
    if (used_.count(operand.name) == 0) fail(line_.operation + " knows no operand " + operand.name);
  for (const auto& known : line_.scalars)
    if (used_.count(known.first) == 0) fail(line_.operation + " knows no scalar " + known.first);
}

}  // namespace elastiform
