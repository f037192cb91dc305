#include "kernels/cpu/cpu_backend.hpp"

#include <algorithm>

#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/embedding.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/vector-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

void embedding_rows(const EmbeddingForward& op, std::int64_t first, std::int64_t end) {
  for (std::int64_t n = first; n < end; ++n) {
    const float* table = op.table.row<float>(op.tokens[static_cast<std::size_t>(n)]);
    const float* position = op.positions.empty() ? nullptr : op.positions.row<float>(n % op.period + op.offset);
    float* y = op.y.row<float>(n);
    for_vectors(op.y.columns, [&](std::int64_t c, auto access) HWY_ATTR {
      const auto v = access.load(table + c);
      access.store(position ? hn::Add(v, access.load(position + c)) : v, y + c);
    });
  }
}

/// Columns first … first+count-1 of every token, in the order of the tokens.
void embedding_columns(const EmbeddingBackward& op, std::int64_t first, std::int64_t count) {
  for (std::int64_t n = 0; n < op.dy.rows; ++n) {
    const float* dy = op.dy.row<float>(n) + first;
    const auto add_to = [&](float* row) HWY_ATTR {
      for_vectors(count,
                  [&](std::int64_t c, auto access) HWY_ATTR { access.store(hn::Add(access.load(row + c), access.load(dy + c)), row + c); });
    };
    add_to(op.dtable.row<float>(op.tokens[static_cast<std::size_t>(n)]) + first);
    if (!op.dpositions.empty()) add_to(op.dpositions.row<float>(n % op.period) + first);
  }
}

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(embedding_rows);
HWY_EXPORT(embedding_columns);

void CpuBackend::do_embedding_forward(const EmbeddingForward& op) {
  pool_.for_each(traits().panel_count(op.y.rows), [&](std::int64_t panel) {
    HWY_DYNAMIC_DISPATCH(embedding_rows)(op, panel * kPanelRows, std::min((panel + 1) * kPanelRows, op.y.rows));
  });
}

void CpuBackend::do_scatter_rows(const ScatterRows& op) {
  pool_.for_each(traits().panel_count(op.x.rows), [&](std::int64_t panel) {
    for (std::int64_t n = panel * kPanelRows; n < std::min((panel + 1) * kPanelRows, op.x.rows); ++n)
      std::copy_n(op.x.row<float>(n), op.x.columns, op.y.row<float>(op.rows[static_cast<std::size_t>(n)]));
  });
}

void CpuBackend::do_embedding_backward(const EmbeddingBackward& op) {
  constexpr std::int64_t kColumns = 64;  // four cache lines of a row; every worker sees all tokens, so their order is kept
  const std::int64_t C = op.dy.columns;
  pool_.for_each((C + kColumns - 1) / kColumns, [&](std::int64_t block) {
    HWY_DYNAMIC_DISPATCH(embedding_columns)(op, block * kColumns, std::min(kColumns, C - block * kColumns));
  });
}

}  // namespace elastiform
#endif
