#include <algorithm>

#include "experiments/bench/support/makers.hpp"

namespace elastiform {

Made adamw(CaseOperands& o, Backend& k) {
  const Adamw op{.weight = o.get("weight"), .m = o.get("m"), .v = o.ones("v"), .gradient = o.optional("gradient"), .rate = 1e-6};
  Made made = in_panels(k, op, op.weight.rows, 0, &Backend::adamw, [](Adamw part, Rows r) {
    part.weight = part.weight[r], part.m = part.m[r], part.v = part.v[r], part.gradient = part.gradient[r];
    return part;
  });
  made.bytes = 4.0 * static_cast<double>(op.weight.size() * (op.gradient.empty() ? 6 : 7));  // three are read and written
  return made;
}

Made momentum_step(CaseOperands& o, Backend& k) {
  const MomentumStep op{.weight = o.get("weight"), .m = o.get("m"), .gradient = o.optional("gradient"), .rate = 1e-6};
  Made made = in_panels(k, op, op.weight.rows, 0, &Backend::momentum_step, [](MomentumStep part, Rows r) {
    part.weight = part.weight[r], part.m = part.m[r], part.gradient = part.gradient[r];
    return part;
  });
  made.bytes = 4.0 * static_cast<double>(op.weight.size() * (op.gradient.empty() ? 4 : 5));
  return made;
}

Made factored_moments(CaseOperands& o, Backend& k) {
  const FactoredMoments op{.row = o.get("row"), .column = o.get("column"), .gradient = o.get("gradient"), .beta2 = 0.9};
  op.check();
  return {.run = [&k, op] { k.factored_moments(op); }, .pieces = 1};
}

Made factored_step(CaseOperands& o, Backend& k) {
  const FactoredStep op{
      .weight = o.get("weight"), .row = o.ones("row"), .column = o.ones("column"), .gradient = o.optional("gradient"), .rate = 1e-6};
  Made made = in_panels(k, op, op.weight.rows, 0, &Backend::factored_step, [](FactoredStep part, Rows r) {
    part.weight = part.weight[r], part.row = columns_of(part.row, r), part.gradient = part.gradient[r];
    return part;
  });
  made.bytes = 4.0 * static_cast<double>(op.weight.size() * (op.gradient.empty() ? 2 : 3));
  return made;
}

/// A panel's rows are whole blocks of codes.
Made adamw_8bit(CaseOperands& o, Backend& k) {
  const Adamw8bit op{.weight = o.get("weight"),
                     .m = o.get("m"),
                     .v = o.get("v"),
                     .m_scale = o.ones("m_scale"),
                     .v_scale = o.ones("v_scale"),
                     .gradient = o.optional("gradient"),
                     .rate = 1e-6};
  op.check();
  const CodeBlocks blocks(op.weight.rows, op.weight.columns);
  Made made = in_panels(k, op, blocks.down, 0, &Backend::adamw_8bit, [blocks](Adamw8bit part, Rows r) {
    const Rows rows{r.first * blocks.rows, std::min(r.count * blocks.rows, part.weight.rows - r.first * blocks.rows), r.panel};
    const Rows scales{r.first * blocks.across, r.count * blocks.across, r.panel};
    part.weight = part.weight[rows], part.m = part.m[rows], part.v = part.v[rows], part.gradient = part.gradient[rows];
    part.m_scale = columns_of(part.m_scale, scales), part.v_scale = columns_of(part.v_scale, scales);
    return part;
  });
  made.bytes = static_cast<double>(op.weight.size()) * (op.gradient.empty() ? 12 : 16);  // codes of one byte, read and written
  return made;
}

}  // namespace elastiform
