#include "kernels/backend.hpp"

#include <fmt/core.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <string>

#include "kernels/attention_flops.hpp"
#include "kernels/collectives/communicator.hpp"
#include "kernels/ops/checks.hpp"
#include "kernels/verbose.hpp"

namespace elastiform {
namespace {

// Names of fields(), in its order, and the scalars that change what an operation computes: together they make the case line.
std::array<const char*, 5> names(const Matmul&) { return {"y", "x", "w", "bias", "add"}; }
std::array<const char*, 4> names(const MatmulDx&) { return {"dx", "dy", "w", "add"}; }
std::array<const char*, 4> names(const MatmulDw&) { return {"dw", "dbias", "x", "dy"}; }
std::array<const char*, 6> names(const NormForward&) { return {"y", "rstd", "mean", "x", "gain", "bias"}; }
std::array<const char*, 9> names(const NormBackward&) { return {"dx", "dgain", "dbias", "dy", "residual", "x", "rstd", "mean", "gain"}; }
std::array<const char*, 5> names(const AffineForward&) { return {"y", "x", "gain", "shift", "add"}; }
std::array<const char*, 7> names(const AffineBackward&) { return {"dx", "dgain", "dshift", "dy", "x", "gain", "add"}; }
std::array<const char*, 2> names(const SumPanels&) { return {"sum", "partials"}; }
std::array<const char*, 3> names(const SwigluForward&) { return {"y", "gate", "up"}; }
std::array<const char*, 5> names(const SwigluBackward&) { return {"dgate", "dup", "dy", "gate", "up"}; }
std::array<const char*, 2> names(const GeluForward&) { return {"y", "x"}; }
std::array<const char*, 3> names(const GeluBackward&) { return {"dx", "dy", "x"}; }
std::array<const char*, 3> names(const Hadamard&) { return {"y", "a", "b"}; }
std::array<const char*, 3> names(const Rope&) { return {"x", "cosine", "sine"}; }
std::array<const char*, 3> names(const Dropout&) { return {"y", "x", "add"}; }
std::array<const char*, 3> names(const EmbeddingForward&) { return {"y", "table", "positions"}; }
std::array<const char*, 3> names(const EmbeddingBackward&) { return {"dtable", "dpositions", "dy"}; }
std::array<const char*, 2> names(const ScatterRows&) { return {"y", "x"}; }
std::array<const char*, 5> names(const AttentionForward&) { return {"out", "lse", "q", "k", "v"}; }
std::array<const char*, 9> names(const AttentionBackward&) { return {"dq", "dk", "dv", "dout", "out", "lse", "q", "k", "v"}; }
std::array<const char*, 6> names(const SoftmaxLoss&) { return {"losses", "teacher_losses", "correct", "dlogits", "logits", "teacher"}; }
std::array<const char*, 2> names(const Compress&) { return {"codes", "x"}; }
std::array<const char*, 2> names(const Decompress&) { return {"x", "codes"}; }
std::array<const char*, 2> names(const Round&) { return {"y", "x"}; }
std::array<const char*, 4> names(const Adamw&) { return {"weight", "m", "v", "gradient"}; }
std::array<const char*, 4> names(const AdamwDirection&) { return {"weight", "m", "v", "gradient"}; }
std::array<const char*, 6> names(const Adamw8bit&) { return {"weight", "m", "v", "m_scale", "v_scale", "gradient"}; }
std::array<const char*, 3> names(const MomentumStep&) { return {"weight", "m", "gradient"}; }
std::array<const char*, 3> names(const FactoredMoments&) { return {"row", "column", "gradient"}; }
std::array<const char*, 4> names(const FactoredStep&) { return {"weight", "row", "column", "gradient"}; }

template <class Op>
std::string scalars(const Op& op) {
  std::string text;
  if constexpr (requires { op.kind == Norm::rms; }) text += op.kind == Norm::rms ? " kind=rms" : " kind=layer";
  if constexpr (requires { op.kind == Gelu::erf; }) text += op.kind == Gelu::erf ? " kind=erf" : " kind=tanh";
  if constexpr (requires { op.transposed; }) text += fmt::format(" scale={} transposed={:d}", op.scale, op.transposed);
  if constexpr (std::is_same_v<Op, AffineForward> || std::is_same_v<Op, AffineBackward>) text += fmt::format(" scale={}", op.scale);
  if constexpr (requires { op.accumulate; }) text += fmt::format(" accumulate={:d}", op.accumulate);
  if constexpr (requires { op.bits; }) text += fmt::format(" bits={}", op.bits);
  if constexpr (requires { op.period; }) text += fmt::format(" period={}", op.period);
  if constexpr (requires { op.offset; }) text += fmt::format(" offset={}", op.offset);
  if constexpr (requires { op.inverse; }) text += fmt::format(" first_row={} inverse={:d}", op.first_row, op.inverse);
  if constexpr (requires { op.place; }) text += fmt::format(" rate={}", op.rate);
  if constexpr (requires { op.temperature; })
    text += fmt::format(" label_weight={} teacher_weight={} temperature={} label_smoothing={} gradient_scale={}", op.label_weight,
                        op.teacher_weight, op.temperature, op.label_smoothing, op.gradient_scale);
  if constexpr (requires { op.shape.heads; })
    text += fmt::format(" batch={} query_tokens={} key_tokens={} heads={} groups={} head_dim={} scale={}", op.shape.batch,
                        op.shape.query_tokens, op.shape.key_tokens, op.shape.heads, op.shape.groups, op.shape.head_dim, op.shape.scale);
  if constexpr (requires { op.shape.causal; }) text += op.shape.causal ? "" : " causal=0";
  return text;
}

template <class Op, class Visit>
void for_each_field(const Op& op, const Visit& visit) {
  const auto field_names = names(op);
  std::apply(
      [&](const auto&... views) {
        static_assert(sizeof...(views) == std::tuple_size_v<decltype(names(op))>);
        std::size_t i = 0;
        (visit(field_names[i++], ConstView(views)), ...);
      },
      op.fields());
}

/// Whether a field may be in the backend's operand_dtype().
template <class Op>
bool is_operand(const char* name) {
  if constexpr (requires { Op::kOperands; }) {
    for (const std::string_view operand : Op::kOperands)
      if (operand == name) return true;
  }
  return false;
}

/// The element type of a field that is not an operand's.
template <class Op>
DType type_of(const char* name, DType computed) {
  if constexpr (requires { Op::kCodes; }) {
    for (const std::string_view codes : Op::kCodes)
      if (codes == name) return DType::uint8;
  }
  return computed;
}

double flops_of(const Matmul& op) { return 2.0 * static_cast<double>(op.y.size() * op.x.columns); }
double flops_of(const MatmulDx& op) { return 2.0 * static_cast<double>(op.dx.size() * op.dy.columns); }
double flops_of(const MatmulDw& op) { return 2.0 * static_cast<double>(op.dw.size() * op.x.rows); }
/// Two products forward, five backward, over the pairs of a query and a key that it sees.
double flops_of(const AttentionForward& op) { return attention_flops(op.shape, 2); }
double flops_of(const AttentionBackward& op) { return attention_flops(op.shape, 5); }
template <class Op>
double flops_of(const Op&) {
  return 0;  // bound by memory
}

/// One line a call, `matmul y=2048x384/416 x=…`: rows x columns / leading dimension of each operand (:bf16 where it is stored so), then
/// the scalars.
template <class Op>
void trace(const Op& op, DType dtype, Precision precision) {
  std::string line = Op::kName;
  bool stored = false;
  for_each_field(op, [&](const char* name, ConstView view) {
    if (view.empty()) return;
    const bool bf16 = view.dtype == DType::bfloat16;
    line += fmt::format(" {}={}x{}/{}{}", name, view.rows, view.columns, view.ld,
                        bf16                         ? ":bf16"
                        : view.dtype == DType::uint8 ? ":uint8"
                                                     : "");
    stored = stored || bf16;
  });
  line += scalars(op);
  line += fmt::format(" dtype={}", std::string(name_of(dtype)));
  if (precision == Precision::bf16 && (flops_of(op) > 0 || stored)) line += " precision=bf16";
  line += '\n';
  std::fputs(line.c_str(), stderr);  // one call: lines of several workers do not mix
}

void check_type(const Checks& checks, const char* field, ConstView view, DType expected) {
  checks.present(field, view);
  if (view.dtype != expected)
    checks.fail(std::string(field) + " is " + std::string(name_of(view.dtype)) + ", not the backend's " + std::string(name_of(expected)));
}

/// Called outside panels: such an operation uses every worker, the others only the caller's.
template <class Op>
constexpr bool is_parallel_inside = std::is_same_v<Op, MatmulDw> || std::is_same_v<Op, SumPanels> || std::is_same_v<Op, EmbeddingForward> ||
                                    std::is_same_v<Op, EmbeddingBackward> || std::is_same_v<Op, ScatterRows> ||
                                    std::is_same_v<Op, AttentionForward> || std::is_same_v<Op, AttentionBackward>;

}  // namespace

template <class Op>
void Backend::check_operands(const Op& op) const {
  op.check();
  const DType expected = dtype(), operand = operand_dtype();
  for_each_field(op, [&](const char* name, ConstView view) {
    if (view.empty() || view.dtype == type_of<Op>(name, expected) || (view.dtype == operand && is_operand<Op>(name))) return;
    Checks(Op::kName).fail(std::string(name) + " is " + std::string(name_of(view.dtype)) + ", but backend " + std::string(this->name()) +
                           " computes in " + std::string(name_of(expected)));
  });
}

template <class Op>
TimedCall Backend::begin(const Op& op) {
  check_operands(op);
  static const bool lines = verbose("kernels"), summary = lines || verbose("summary");
  if (lines) trace(op, dtype(), precision());
  if (!summary) return {};
  std::int64_t bytes = 0;
  for_each_field(op, [&](const char*, ConstView view) { bytes += view.empty() ? 0 : view.size() * bytes_of(view.dtype); });
  return {Op::kName, flops_of(op), bytes, is_parallel_inside<Op> ? slots() : 1};
}

template TimedCall Backend::begin(const Matmul&);
template TimedCall Backend::begin(const MatmulDx&);
template TimedCall Backend::begin(const MatmulDw&);
template TimedCall Backend::begin(const NormForward&);
template TimedCall Backend::begin(const NormBackward&);
template TimedCall Backend::begin(const AffineForward&);
template TimedCall Backend::begin(const AffineBackward&);
template TimedCall Backend::begin(const SumPanels&);
template TimedCall Backend::begin(const SwigluForward&);
template TimedCall Backend::begin(const SwigluBackward&);
template TimedCall Backend::begin(const GeluForward&);
template TimedCall Backend::begin(const GeluBackward&);
template TimedCall Backend::begin(const Hadamard&);
template TimedCall Backend::begin(const Rope&);
template TimedCall Backend::begin(const Dropout&);
template TimedCall Backend::begin(const EmbeddingForward&);
template TimedCall Backend::begin(const EmbeddingBackward&);
template TimedCall Backend::begin(const ScatterRows&);
template TimedCall Backend::begin(const AttentionForward&);
template TimedCall Backend::begin(const AttentionBackward&);
template TimedCall Backend::begin(const SoftmaxLoss&);
template TimedCall Backend::begin(const Compress&);
template TimedCall Backend::begin(const Decompress&);
template TimedCall Backend::begin(const Round&);
template TimedCall Backend::begin(const Adamw&);
template TimedCall Backend::begin(const Adamw8bit&);
template TimedCall Backend::begin(const MomentumStep&);
template TimedCall Backend::begin(const FactoredMoments&);
template TimedCall Backend::begin(const FactoredStep&);

std::unique_ptr<Link> Backend::make_link(Communicator& /*ranks*/) { return nullptr; }

void Backend::panels(std::int64_t N, FunctionRef<void(Rows)> body) {
  struct Loop {
    Backend& backend;
    ~Loop() { backend.panels_end(); }
  };
  const std::int64_t rows = panel_rows(), count = (N + rows - 1) / rows;
  panels_begin(count);
  const Loop ends_in_any_case{*this};
  for_each(count, [&](std::int64_t panel) {
    const std::int64_t first = panel * rows;
    body({.first = first, .count = std::min(N - first, rows), .panel = panel});
  });
}

void Backend::round_operands(OperandRounding* rounding) {
  if (rounding) throw std::logic_error(std::string(name()) + " does not round operands");
}

void Backend::sum_squares(std::span<const ConstView> views, std::span<double> sums) {
  const Checks checks("sum_squares");
  checks.same("views", static_cast<std::int64_t>(views.size()), "sums", static_cast<std::int64_t>(sums.size()));
  for (const ConstView& x : views) check_type(checks, "x", x, dtype());
  do_sum_squares(views, sums);
}

void Backend::adamw_directions(std::span<const AdamwDirection> ops, std::span<StepSquares> squares) {
  Checks("adamw_directions").same("ops", static_cast<std::int64_t>(ops.size()), "squares", static_cast<std::int64_t>(squares.size()));
  for (const AdamwDirection& op : ops) check_operands(op);
  do_adamw_directions(ops, squares);
}

void Backend::factored_squares(std::span<const FactoredStep> steps, std::span<StepSquares> squares) {
  Checks("factored_squares").same("steps", static_cast<std::int64_t>(steps.size()), "squares", static_cast<std::int64_t>(squares.size()));
  for (const FactoredStep& step : steps) check_operands(step);
  do_factored_squares(steps, squares);
}

double Backend::sum(ConstView row) {
  const Checks checks("sum");
  check_type(checks, "row", row, dtype());
  checks.same("row.rows", row.rows, "one row", 1);
  return do_sum(row);
}

void Backend::copy(View to, ConstView from) {
  const Checks checks("copy");
  checks.present("from", from);
  checks.alike("to", to, "from", from);
  do_copy(to, from);
}

void Backend::zero(View x) {
  Checks("zero").present("x", x);
  do_zero(x);
}

void Backend::scale(View x, double factor) {
  check_type(Checks("scale"), "x", x, dtype());
  do_scale(x, factor);
}

void Backend::do_sum_squares(std::span<const ConstView> views, std::span<double> sums) {
  for_each(static_cast<std::int64_t>(views.size()), [&](std::int64_t i) {
    const std::size_t at = static_cast<std::size_t>(i);
    sums[at] = do_sum_squares(views[at]);
  });
}

void Backend::do_adamw_directions(std::span<const AdamwDirection> ops, std::span<StepSquares> squares) {
  for_each(static_cast<std::int64_t>(ops.size()), [&](std::int64_t i) {
    const std::size_t at = static_cast<std::size_t>(i);
    squares[at] = do_adamw_direction(ops[at]);
  });
}

void Backend::do_factored_squares(std::span<const FactoredStep> steps, std::span<StepSquares> squares) {
  for_each(static_cast<std::int64_t>(steps.size()), [&](std::int64_t i) {
    const std::size_t at = static_cast<std::size_t>(i);
    squares[at] = do_factored_squares(steps[at]);
  });
}

double Backend::do_sum(ConstView row) {
  double sum = 0;
  dispatch(row.dtype, [&]<class T>() {
    const T* values = row.row<T>(0);
    for (std::int64_t i = 0; i < row.columns; ++i) sum += static_cast<double>(values[i]);
  });
  return sum;
}

void Backend::do_copy(View to, ConstView from) {
  const std::size_t bytes = static_cast<std::size_t>(from.columns * bytes_of(from.dtype));
  for (std::int64_t row = 0; row < from.rows; ++row) std::memcpy(to.row_range(row, 1).data, from.row_range(row, 1).data, bytes);
}

void Backend::do_zero(View x) {
  const std::size_t bytes = static_cast<std::size_t>(x.columns * bytes_of(x.dtype));
  for (std::int64_t row = 0; row < x.rows; ++row) std::memset(x.row_range(row, 1).data, 0, bytes);
}

void Backend::do_scale(View x, double factor) {
  dispatch(x.dtype, [&]<class T>() {
    for (std::int64_t row = 0; row < x.rows; ++row)
      for (std::int64_t column = 0; column < x.columns; ++column) x.row<T>(row)[column] *= static_cast<T>(factor);
  });
}

namespace {

void check_pair(const char* operation, View to, ConstView from, DType dtype) {
  const Checks checks(operation);
  checks.present("from", from);
  checks.alike("to", to, "from", from);
  if (to.dtype != dtype) checks.fail("to is " + std::string(name_of(to.dtype)) + ", not the backend's " + std::string(name_of(dtype)));
}

/// body(to, from) for every element.
template <class Body>
void for_pairs(View to, ConstView from, const Body& body) {
  dispatch(to.dtype, [&]<class T>() {
    for (std::int64_t row = 0; row < to.rows; ++row) {
      T* const target = to.row<T>(row);
      const T* const x = from.row<T>(row);
      for (std::int64_t column = 0; column < to.columns; ++column) body(target[column], x[column]);
    }
  });
}

}  // namespace

void Backend::add(View to, ConstView from, double factor) {
  check_pair("add", to, from, dtype());
  do_add(to, from, factor);
}

void Backend::multiply(View to, ConstView from) {
  check_pair("multiply", to, from, dtype());
  do_multiply(to, from);
}

void Backend::do_add(View to, ConstView from, double factor) {
  for_pairs(to, from, [&]<class T>(T& sum, T x) { sum += static_cast<T>(factor) * x; });
}

void Backend::do_multiply(View to, ConstView from) {
  for_pairs(to, from, []<class T>(T& product, T x) { product *= x; });
}

}  // namespace elastiform
