#include "trainers/precision/precision_rule.hpp"

#include <array>
#include <utility>

#include "kernels/errors.hpp"
#include "trainers/precision/bf16_pure.hpp"
#include "trainers/precision/fp16.hpp"
#include "trainers/precision/fp8.hpp"

namespace elastiform {
namespace {

std::unique_ptr<PrecisionRule> nothing_added(const TrainOptions&, std::shared_ptr<const WeightTable>, Backend&) {
  return std::make_unique<PrecisionRule>();
}

template <class Rule>
std::unique_ptr<PrecisionRule> rule(const TrainOptions& options, std::shared_ptr<const WeightTable> table, Backend& backend) {
  return std::make_unique<Rule>(options, std::move(table), backend);
}

constexpr std::array<PrecisionEntry, 5> kPrecisions{{
    {.name = "f32", .help = "float32", .compute = Precision::f32, .make = nothing_added},
    {.name = "bf16", .help = "products of bf16, weights and state in float32", .compute = Precision::bf16, .make = nothing_added},
    {.name = "fp16",
     .help = "products of blocks round to fp16, with dynamic loss scaling; emulated (arXiv 1710.03740)",
     .compute = Precision::f32,
     .make = rule<Fp16>,
     .rounds_operands = true,
     .scales_losses = true},
    {.name = "bf16-pure",
     .help = "products of bf16; weights hold bf16 values, rounded at random after each update",
     .compute = Precision::bf16,
     .make = rule<Bf16Pure>,
     .rounds_weights = true},
    {.name = "fp8",
     .help = "products of blocks round to E4M3 and E5M2 with delayed scaling; emulated (arXiv 2209.05433)",
     .compute = Precision::f32,
     .make = rule<Fp8>,
     .rounds_operands = true,
     .delays_scales = true,
     .number_bytes = Fp8::number_bytes},
}};

}  // namespace

std::span<const PrecisionEntry> precisions() { return kPrecisions; }

const PrecisionEntry& find_precision(std::string_view name) {
  for (const PrecisionEntry& entry : kPrecisions)
    if (entry.name == name) return entry;
  throw InputError({"recipe: train.precision", "one of f32, bf16, fp16, bf16-pure, fp8", '"' + std::string(name) + '"', ""});
}

std::unique_ptr<PrecisionRule> make_precision(const TrainOptions& options, std::shared_ptr<const WeightTable> table, Backend& backend,
                                              int ranks) {
  const PrecisionEntry& entry = find_precision(options.precision);
  const std::string where = "recipe: train.precision = " + options.precision;
  if (entry.rounds_operands && !backend.rounds_operands())
    throw InputError({where, "the CPU, which emulates it", std::string(backend.name()), "use --device cpu, or bf16"});
  if (entry.delays_scales && ranks > 1)
    throw InputError({where, "one process, which sees the largest values of every operand", std::to_string(ranks) + " ranks",
                      "use train.accumulation in one process"});
  if (table->trained_elements() != table->elements() && (entry.rounds_operands || entry.rounds_weights))
    throw InputError({where, "f32 or bf16 in a tuning, whose frozen weights stay those of its base", options.precision, "use bf16"});
  return entry.make(options, std::move(table), backend);
}

std::int64_t precision_bytes(const TrainOptions& options, const WeightTable& table) {
  const PrecisionEntry& entry = find_precision(options.precision);
  const std::int64_t copy = entry.rounds_operands ? table.elements() * bytes_of(DType::float32) : 0;
  return copy + (entry.number_bytes ? entry.number_bytes(options, table) : 0);
}

}  // namespace elastiform
