#include "experiments/bench/support/kernel_case.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>

#include "experiments/bench/support/makers.hpp"
#include "kernels/attention_flops.hpp"
#include "kernels/errors.hpp"

namespace elastiform {
namespace {

double product_flops(ConstView result, std::int64_t depth) { return 2.0 * static_cast<double>(result.size() * depth); }

Made matmul(CaseOperands& o, Backend& k) {
  const Matmul op{.y = o.get("y"),
                  .x = o.get("x"),
                  .w = o.get("w"),
                  .bias = o.optional("bias"),
                  .add = o.optional("add"),
                  .scale = o.number("scale", 1),
                  .transposed = o.either("transposed", "1", "0")};
  return in_panels(k, op, op.y.rows, product_flops(op.y, op.x.columns), &Backend::matmul, [](Matmul part, Rows r) {
    part.y = part.y[r], part.x = part.x[r], part.add = part.add[r];
    return part;
  });
}

Made matmul_dx(CaseOperands& o, Backend& k) {
  const MatmulDx op{.dx = o.get("dx"),
                    .dy = o.get("dy"),
                    .w = o.get("w"),
                    .add = o.optional("add"),
                    .scale = o.number("scale", 1),
                    .transposed = o.either("transposed", "1", "0")};
  return in_panels(k, op, op.dx.rows, product_flops(op.dx, op.dy.columns), &Backend::matmul_dx, [](MatmulDx part, Rows r) {
    part.dx = part.dx[r], part.dy = part.dy[r], part.add = part.add[r];
    return part;
  });
}

Made matmul_dw(CaseOperands& o, Backend& k) {
  const MatmulDw op{.dw = o.get("dw"),
                    .dbias = o.optional("dbias"),
                    .x = o.get("x"),
                    .dy = o.get("dy"),
                    .scale = o.number("scale", 1),
                    .transposed = o.either("transposed", "1", "0"),
                    .accumulate = !o.either("accumulate", "0", "1")};
  return parallel_inside(k, op, product_flops(op.dw, op.x.rows), &Backend::matmul_dw);
}

Made norm_forward(CaseOperands& o, Backend& k) {
  const NormForward op{.y = o.get("y"),
                       .rstd = o.optional("rstd"),
                       .mean = o.optional("mean"),
                       .x = o.get("x"),
                       .gain = o.get("gain"),
                       .bias = o.optional("bias"),
                       .kind = o.either("kind", "layer", "rms") ? Norm::layer : Norm::rms};
  return in_panels(k, op, op.y.rows, 0, &Backend::norm_forward, [](NormForward part, Rows r) {
    part.y = part.y[r], part.x = part.x[r], part.rstd = columns_of(part.rstd, r), part.mean = columns_of(part.mean, r);
    return part;
  });
}

/// Two rows of sums for each panel of dy's rows, as in a training step.
struct PanelSums {
  std::shared_ptr<Arena> memory;
  View first, second;
  PanelSums(Backend& k, ConstView dy) {
    const std::int64_t panels = k.traits().panel_count(dy.rows);
    memory = std::make_shared<Arena>(2 * Arena::bytes_for(panels, dy.columns, DType::float32), k.memory());
    first = memory->matrix(panels, dy.columns, DType::float32), second = memory->matrix(panels, dy.columns, DType::float32);
  }
};

/// Each panel has sums of its own; the line names those of one.
Made norm_backward(CaseOperands& o, Backend& k) {
  const NormBackward op{.dx = o.get("dx"),
                        .dgain = o.get("dgain"),
                        .dbias = o.optional("dbias"),
                        .dy = o.get("dy"),
                        .residual = o.optional("residual"),
                        .x = o.get("x"),
                        .rstd = o.ones("rstd"),
                        .mean = o.optional("mean"),
                        .gain = o.get("gain"),
                        .kind = o.either("kind", "layer", "rms") ? Norm::layer : Norm::rms};
  op.check();
  return in_panels(k, op, op.dx.rows, 0, &Backend::norm_backward, [sums = PanelSums(k, op.dx)](NormBackward part, Rows r) {
    part.dx = part.dx[r], part.dy = part.dy[r], part.residual = part.residual[r], part.x = part.x[r];
    part.rstd = columns_of(part.rstd, r), part.mean = columns_of(part.mean, r);
    part.dgain = sums.first.row_range(r.panel, 1);
    if (!part.dbias.empty()) part.dbias = sums.second.row_range(r.panel, 1);
    return part;
  });
}

Made affine_forward(CaseOperands& o, Backend& k) {
  const AffineForward op{.y = o.get("y"),
                         .x = o.get("x"),
                         .gain = o.optional("gain"),
                         .shift = o.optional("shift"),
                         .add = o.optional("add"),
                         .scale = o.number("scale", 1)};
  return in_panels(k, op, op.y.rows, 0, &Backend::affine_forward, [](AffineForward part, Rows r) {
    part.y = part.y[r], part.x = part.x[r], part.add = part.add[r];
    return part;
  });
}

/// As norm_backward: a panel's sums are its own.
Made affine_backward(CaseOperands& o, Backend& k) {
  const AffineBackward op{.dx = o.optional("dx"),
                          .dgain = o.optional("dgain"),
                          .dshift = o.optional("dshift"),
                          .dy = o.get("dy"),
                          .x = o.optional("x"),
                          .gain = o.optional("gain"),
                          .add = o.optional("add"),
                          .scale = o.number("scale", 1)};
  op.check();
  return in_panels(k, op, op.dy.rows, 0, &Backend::affine_backward, [sums = PanelSums(k, op.dy)](AffineBackward part, Rows r) {
    part.dx = part.dx[r], part.dy = part.dy[r], part.x = part.x[r], part.add = part.add[r];
    if (!part.dgain.empty()) part.dgain = sums.first.row_range(r.panel, 1);
    if (!part.dshift.empty()) part.dshift = sums.second.row_range(r.panel, 1);
    return part;
  });
}

Made sum_panels(CaseOperands& o, Backend& k) {
  return parallel_inside(k, SumPanels{.sum = o.get("sum"), .partials = o.get("partials"), .accumulate = !o.either("accumulate", "0", "1")},
                         0, &Backend::sum_panels);
}

Made swiglu_forward(CaseOperands& o, Backend& k) {
  const SwigluForward op{.y = o.get("y"), .gate = o.get("gate"), .up = o.get("up")};
  return in_panels(k, op, op.y.rows, 0, &Backend::swiglu_forward, [](SwigluForward part, Rows r) {
    part.y = part.y[r], part.gate = part.gate[r], part.up = part.up[r];
    return part;
  });
}

Made swiglu_backward(CaseOperands& o, Backend& k) {
  const SwigluBackward op{.dgate = o.get("dgate"), .dup = o.get("dup"), .dy = o.get("dy"), .gate = o.get("gate"), .up = o.get("up")};
  return in_panels(k, op, op.dy.rows, 0, &Backend::swiglu_backward, [](SwigluBackward part, Rows r) {
    part.dgate = part.dgate[r], part.dup = part.dup[r], part.dy = part.dy[r], part.gate = part.gate[r], part.up = part.up[r];
    return part;
  });
}

Made gelu_forward(CaseOperands& o, Backend& k) {
  const GeluForward op{.y = o.get("y"), .x = o.get("x"), .kind = o.either("kind", "erf", "tanh") ? Gelu::erf : Gelu::tanh};
  return in_panels(k, op, op.y.rows, 0, &Backend::gelu_forward, [](GeluForward part, Rows r) {
    part.y = part.y[r], part.x = part.x[r];
    return part;
  });
}

Made gelu_backward(CaseOperands& o, Backend& k) {
  const GeluBackward op{
      .dx = o.get("dx"), .dy = o.get("dy"), .x = o.get("x"), .kind = o.either("kind", "erf", "tanh") ? Gelu::erf : Gelu::tanh};
  return in_panels(k, op, op.dx.rows, 0, &Backend::gelu_backward, [](GeluBackward part, Rows r) {
    part.dx = part.dx[r], part.dy = part.dy[r], part.x = part.x[r];
    return part;
  });
}

Made dropout(CaseOperands& o, Backend& k) {
  const Dropout op{.y = o.get("y"), .x = o.get("x"), .add = o.optional("add"), .rate = o.number("rate", 0.1)};
  return in_panels(k, op, op.y.rows, 0, &Backend::dropout, [](Dropout part, Rows r) {
    part.y = part.y[r], part.x = part.x[r], part.add = part.add[r], part.rows_before = r.first;
    return part;
  });
}

Made hadamard(CaseOperands& o, Backend& k) {
  const Hadamard op{.y = o.get("y"), .a = o.get("a"), .b = o.get("b")};
  return in_panels(k, op, op.y.rows, 0, &Backend::hadamard, [](Hadamard part, Rows r) {
    part.y = part.y[r], part.a = part.a[r];
    if (part.b.rows > 1) part.b = part.b[r];
    return part;
  });
}

template <class Op>
Made compression(Backend& k, const Op& op, void (Backend::*call)(const Op&)) {
  Made made = in_panels(k, op, op.x.rows, 0, call, [](Op part, Rows r) {
    part.x = part.x[r], part.codes = part.codes[r];
    return part;
  });
  made.bytes = static_cast<double>(op.x.size() * bytes_of(op.x.dtype) + op.codes.size());
  return made;
}

Made compress(CaseOperands& o, Backend& k) {
  const Compress op{.codes = o.codes("codes"), .x = o.get("x"), .bits = static_cast<int>(o.integer("bits", 8)), .noise = {}};
  return compression(k, op, &Backend::compress);
}

Made decompress(CaseOperands& o, Backend& k) {
  return compression(k, Decompress{.x = o.get("x"), .codes = o.codes("codes"), .bits = static_cast<int>(o.integer("bits", 8))},
                     &Backend::decompress);
}

Made rope(CaseOperands& o, Backend& k) {
  const Rope op{.x = o.get("x"),
                .cosine = o.get("cosine"),
                .sine = o.get("sine"),
                .first_row = o.integer("first_row", 0),
                .period = o.integer("period", 1),
                .offset = o.integer("offset", 0),
                .inverse = o.either("inverse", "1", "0")};
  Made made = in_panels(k, op, op.x.rows, 0, &Backend::rope, [](Rope part, Rows r) {
    part.x = part.x[r], part.first_row += r.first;
    return part;
  });
  made.bytes = 8.0 * static_cast<double>(op.x.size());  // in place: read and written
  return made;
}

Made embedding_forward(CaseOperands& o, Backend& k) {
  const View y = o.get("y"), table = o.get("table");
  const EmbeddingForward op{.y = y,
                            .table = table,
                            .positions = o.optional("positions"),
                            .tokens = o.make_tokens(y.rows, table.rows),
                            .period = o.integer("period", 1),
                            .offset = o.integer("offset", 0)};
  Made made = parallel_inside(k, op, 0, &Backend::embedding_forward);
  made.bytes = 4.0 * static_cast<double>(y.size() * (op.positions.empty() ? 2 : 3));  // of the tables, the rows of the tokens
  return made;
}

Made embedding_backward(CaseOperands& o, Backend& k) {
  const View dtable = o.get("dtable"), dy = o.get("dy");
  const EmbeddingBackward op{.dtable = dtable,
                             .dpositions = o.optional("dpositions"),
                             .dy = dy,
                             .tokens = o.make_tokens(dy.rows, dtable.rows),
                             .period = o.integer("period", 1)};
  Made made = parallel_inside(k, op, 0, &Backend::embedding_backward);
  made.bytes = 4.0 * static_cast<double>(dy.size() * (op.dpositions.empty() ? 3 : 5));
  return made;
}

/// Two products forward, five backward, over the pairs of a query and a key that it sees.
Made attention_forward(CaseOperands& o, Backend& k) {
  const AttentionForward op{
      .out = o.get("out"), .lse = o.optional("lse"), .q = o.get("q"), .k = o.get("k"), .v = o.get("v"), .shape = o.attention()};
  return parallel_inside(k, op, attention_flops(op.shape, 2), &Backend::attention_forward);
}

Made attention_backward(CaseOperands& o, Backend& k) {
  const AttentionBackward op{.dq = o.get("dq"),
                             .dk = o.get("dk"),
                             .dv = o.get("dv"),
                             .dout = o.get("dout"),
                             .out = o.get("out"),
                             .lse = o.ones("lse"),
                             .q = o.get("q"),
                             .k = o.get("k"),
                             .v = o.get("v"),
                             .shape = o.attention()};
  return parallel_inside(k, op, attention_flops(op.shape, 5), &Backend::attention_backward);
}

Made softmax_loss(CaseOperands& o, Backend& k) {
  const View logits = o.get("logits");
  const SoftmaxLoss op{.losses = o.optional("losses"),
                       .teacher_losses = o.optional("teacher_losses"),
                       .correct = o.optional("correct"),
                       .dlogits = o.optional("dlogits"),
                       .logits = logits,
                       .teacher = o.optional("teacher"),
                       .targets = o.make_tokens(logits.rows, logits.columns),
                       .label_weight = o.number("label_weight", 1),
                       .teacher_weight = o.number("teacher_weight", 0),
                       .temperature = o.number("temperature", 1),
                       .label_smoothing = o.number("label_smoothing", 0),
                       .gradient_scale = o.number("gradient_scale", 1)};
  return in_panels(k, op, logits.rows, 0, &Backend::softmax_loss, [](SoftmaxLoss part, Rows r) {
    part.losses = columns_of(part.losses, r), part.teacher_losses = columns_of(part.teacher_losses, r);
    part.correct = columns_of(part.correct, r);
    part.dlogits = part.dlogits[r], part.logits = part.logits[r], part.teacher = part.teacher[r];
    part.targets = part.targets.subspan(static_cast<std::size_t>(r.first), static_cast<std::size_t>(r.count));
    return part;
  });
}

const std::map<std::string, Made (*)(CaseOperands&, Backend&)>& makers() {
  static const std::map<std::string, Made (*)(CaseOperands&, Backend&)> all{
      {"matmul", matmul},
      {"matmul_dx", matmul_dx},
      {"matmul_dw", matmul_dw},
      {"norm_forward", norm_forward},
      {"norm_backward", norm_backward},
      {"affine_forward", affine_forward},
      {"affine_backward", affine_backward},
      {"sum_panels", sum_panels},
      {"swiglu_forward", swiglu_forward},
      {"swiglu_backward", swiglu_backward},
      {"gelu_forward", gelu_forward},
      {"gelu_backward", gelu_backward},
      {"hadamard", hadamard},
      {"rope", rope},
      {"dropout", dropout},
      {"compress", compress},
      {"decompress", decompress},
      {"embedding_forward", embedding_forward},
      {"embedding_backward", embedding_backward},
      {"attention_forward", attention_forward},
      {"attention_backward", attention_backward},
      {"softmax_loss", softmax_loss},
      {"adamw", adamw},
      {"adamw_8bit", adamw_8bit},
      {"momentum_step", momentum_step},
      {"factored_moments", factored_moments},
      {"factored_step", factored_step},
  };
  return all;
}

}  // namespace

KernelCase::KernelCase(const CaseLine& line, Backend& backend) : operands_(std::make_unique<CaseOperands>(line, backend.memory())) {
  const auto maker = makers().find(line.operation);
  if (maker == makers().end())
    throw InputError({.where = "case",
                      .expected = fmt::format("one of {}", fmt::join(kernel_case_operations(), ", ")),
                      .found = "'" + line.operation + "'",
                      .remedy = ""});
  try {
    Made made = maker->second(*operands_, backend);
    operands_->all_used();
    run_ = std::move(made.run);
    flops_ = made.flops;
    bytes_ = made.bytes;
    if (bytes_ == 0)
      for (const CaseLine::Operand& operand : line.operands)
        bytes_ += (operand.bf16 ? 2.0 : operand.codes ? 1.0 : 4.0) * static_cast<double>(operand.rows * operand.columns);
    workers_ = static_cast<int>(made.pieces == 0 ? backend.slots() : std::min<std::int64_t>(made.pieces, backend.slots()));
    run_();                            // the backend checks element types when it is called
  } catch (const ShapeError& error) {  // a line of a person is no bug of ours
    const bool stored = std::any_of(line.operands.begin(), line.operands.end(), [](const CaseLine::Operand& o) { return o.bf16; });
    const bool remedied = line.precision == Precision::bf16 || !stored;
    throw InputError(
        {.where = "case", .expected = "", .found = error.what(), .remedy = remedied ? "" : "append precision=bf16 to use :bf16"});
  }
}
KernelCase::~KernelCase() = default;

std::vector<std::string> kernel_case_operations() {
  std::vector<std::string> names;
  for (const auto& entry : makers()) names.push_back(entry.first);
  return names;
}

}  // namespace elastiform
