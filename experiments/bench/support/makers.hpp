#pragma once

#include <functional>

#include "experiments/bench/support/case_operands.hpp"
#include "kernels/backend.hpp"

namespace elastiform {

/// What an operation makes of a line.
struct Made {
  std::function<void()> run;
  double flops = 0;
  double bytes = 0;         // 0: each operand once
  std::int64_t pieces = 0;  // 0: parallel inside
};

template <class Op, class Part>
Made in_panels(Backend& k, const Op& op, std::int64_t rows, double flops, void (Backend::*call)(const Op&), const Part& part) {
  op.check();
  return {.run = [&k, op, rows, call, part] { k.panels(rows, [&](Rows r) { (k.*call)(part(op, r)); }); },
          .flops = flops,
          .pieces = k.traits().panel_count(rows)};
}

template <class Op>
Made parallel_inside(Backend& k, const Op& op, double flops, void (Backend::*call)(const Op&)) {
  op.check();
  return {.run = [&k, op, call] { (k.*call)(op); }, .flops = flops};
}

inline View columns_of(View vector, Rows r) { return vector.empty() ? vector : vector.column_range(r.first, r.count); }
inline ConstView columns_of(ConstView vector, Rows r) { return vector.empty() ? vector : vector.column_range(r.first, r.count); }

// Operations of optimizers.
Made adamw(CaseOperands& o, Backend& k);
Made adamw_8bit(CaseOperands& o, Backend& k);
Made momentum_step(CaseOperands& o, Backend& k);
Made factored_moments(CaseOperands& o, Backend& k);
Made factored_step(CaseOperands& o, Backend& k);

}  // namespace elastiform
