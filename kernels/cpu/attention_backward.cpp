#include "kernels/cpu/cpu_backend.hpp"

#include <algorithm>

#include "kernels/cpu/attention_scratch.hpp"
#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_backward.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/attention-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

/// Gradients of one KV group of one sequence (arXiv 2205.14135, algorithm 4): its query heads one after the other, of each its tiles of
/// queries, of each the blocks of keys, so dk and dv are summed in one order whatever the number of threads.
class BackwardGroup {
 public:
  BackwardGroup(const AttentionBackward& op, std::int64_t batch, std::int64_t group)
      : op_(op), s_(op.shape), D_(s_.head_dim), stride_((D_ + lanes() - 1) / lanes() * lanes()), row_(batch * s_.query_tokens),
        group_(group) {
    const std::int64_t tile = kQueries * D_, rows = kQueries * stride_, block = kKeys * kQueries;
    float* scratch = cpu::attention_scratch(3 * tile + 2 * rows + 2 * block + 2 * kQueries);
    query_ = scratch;
    dout_ = query_ + tile;
    dquery_ = dout_ + tile;
    query_rows_ = dquery_ + tile;
    dout_rows_ = query_rows_ + rows;
    p_ = dout_rows_ + rows;
    ds_ = p_ + block;
    lse_ = ds_ + block;
    delta_ = lse_ + kQueries;
    key_ = op.k.row<float>(row_) + group * D_;
    value_ = op.v.row<float>(row_) + group * D_;
    dkey_ = op.dk.row<float>(row_) + group * D_;
    dvalue_ = op.dv.row<float>(row_) + group * D_;
  }

  void run() {
    for (std::int64_t t = 0; t < s_.key_tokens; ++t) {
      std::fill(dkey_ + t * op_.dk.ld, dkey_ + t * op_.dk.ld + D_, 0.0f);
      std::fill(dvalue_ + t * op_.dv.ld, dvalue_ + t * op_.dv.ld + D_, 0.0f);
    }
    const std::int64_t heads = s_.heads / s_.groups;
    for (std::int64_t head = group_ * heads; head < (group_ + 1) * heads; ++head)
      for (std::int64_t first = 0; first < s_.query_tokens; first += kQueries)
        tile(head, first, std::min(kQueries, s_.query_tokens - first));
  }

 private:
  void tile(std::int64_t head, std::int64_t first, std::int64_t queries) {
    load(head, first, queries);
    for (std::int64_t key = 0; key < first; key += kKeys) {
      const std::int64_t keys = std::min(kKeys, first - key), vectors = (queries + lanes() - 1) / lanes();
      scores(key, keys, 0, vectors, false);
      key_gradients(key, keys, queries, false);
      query_gradient(key, keys, 0, vectors);
    }
    for (std::int64_t v = 0; v * lanes() < queries; ++v) {
      const std::int64_t keys = std::min((v + 1) * lanes(), queries);
      scores(first, keys, v, 1, true);
      query_gradient(first, keys, v, 1);
    }
    key_gradients(first, queries, queries, true);
    write(head, first, queries);
  }

  void load(std::int64_t head, std::int64_t first, std::int64_t queries) {
    const Float d;
    const std::int64_t row = row_ + first;
    const float *dout = op_.dout.row<float>(row) + head * D_, *out = op_.out.row<float>(row) + head * D_;
    copy_rows(queries, D_, op_.q.row<float>(row) + head * D_, op_.q.ld, static_cast<float>(s_.scale), query_rows_, stride_);
    copy_rows(queries, D_, dout, op_.dout.ld, 1.0f, dout_rows_, stride_);
    transpose_queries(queries, D_, query_rows_, stride_, query_);
    transpose_queries(queries, D_, dout_rows_, stride_, dout_);
    const float* lse = op_.lse.row<float>(head) + row;
    for (std::int64_t i = 0; i < kQueries; ++i) {
      lse_[i] = i < queries ? lse[i] : 0;
      auto dot = hn::Zero(d);
      if (i < queries)
        for_vectors(D_, [&](std::int64_t c, auto access) HWY_ATTR {
          dot = hn::MulAdd(access.load(dout + i * op_.dout.ld + c), access.load(out + i * op_.out.ld + c), dot);
        });
      delta_[i] = sum_of_lanes(dot);
    }
    std::fill(dquery_, dquery_ + D_ * kQueries, 0.0f);
  }

  /// p = e^(score - lse) and ds = p ∘ (dp - Δ), Δ = Σ dout ∘ out.
  void scores(std::int64_t key, std::int64_t keys, std::int64_t vector, std::int64_t vectors, bool masked) {
    const Float d;
    const std::int64_t offset = vector * lanes();
    product<false>(vectors, keys, D_, key_ + key * op_.k.ld, op_.k.ld, query_ + offset, kQueries,
                   [&](std::int64_t j, std::int64_t v, FloatVector score) HWY_ATTR {
                     auto p = exp(hn::Sub(score, hn::Load(d, lse_ + offset + v * lanes())));
                     if (masked) p = hn::IfThenElseZero(sees(j, vector + v), p);
                     hn::Store(p, d, p_ + j * kQueries + offset + v * lanes());
                   });
    product<false>(vectors, keys, D_, value_ + key * op_.v.ld, op_.v.ld, dout_ + offset, kQueries,
                   [&](std::int64_t j, std::int64_t v, FloatVector dp) HWY_ATTR {
                     const std::int64_t at = j * kQueries + offset + v * lanes();
                     hn::Store(hn::Mul(hn::Load(d, p_ + at), hn::Sub(dp, hn::Load(d, delta_ + offset + v * lanes()))), d, ds_ + at);
                   });
  }

  /// dv += p · dout, dk += ds · q. On the diagonal a key meets the queries from its own vector on; those before it were not computed.
  void key_gradients(std::int64_t key, std::int64_t keys, std::int64_t queries, bool masked) {
    const std::int64_t step = masked ? lanes() : keys;
    for (std::int64_t j = 0; j < keys; j += step) {
      const std::int64_t rows = std::min(step, keys - j), i = masked ? j : 0;
      add_rows(rows, queries - i, p_ + j * kQueries + i, dout_rows_ + i * stride_, dvalue_ + (key + j) * op_.dv.ld, op_.dv.ld);
      add_rows(rows, queries - i, ds_ + j * kQueries + i, query_rows_ + i * stride_, dkey_ + (key + j) * op_.dk.ld, op_.dk.ld);
    }
  }

  void add_rows(std::int64_t rows, std::int64_t queries, const float* a, const float* b, float* c, std::int64_t ldc) {
    product<false>(stride_ / lanes(), rows, queries, a, kQueries, b, stride_,
                   [&](std::int64_t j, std::int64_t v, FloatVector sum) HWY_ATTR {
                     float* at = c + j * ldc + v * lanes();
                     const std::int64_t left = D_ - v * lanes();
                     if (left >= lanes()) hn::StoreU(hn::Add(hn::LoadU(Float(), at), sum), Float(), at);
                     else store_partial(hn::Add(load_partial(at, left), sum), at, left);
                   });
  }

  void query_gradient(std::int64_t key, std::int64_t keys, std::int64_t vector, std::int64_t vectors) {
    const Float d;
    const std::int64_t offset = vector * lanes();
    product<true>(vectors, D_, keys, key_ + key * op_.k.ld, op_.k.ld, ds_ + offset, kQueries,
                  [&](std::int64_t c, std::int64_t v, FloatVector sum) HWY_ATTR {
                    float* at = dquery_ + c * kQueries + offset + v * lanes();
                    hn::Store(hn::MulAdd(sum, constant(s_.scale), hn::Load(d, at)), d, at);
                  });
  }

  void write(std::int64_t head, std::int64_t first, std::int64_t queries) {
    transpose(D_, queries, dquery_, kQueries, op_.dq.row<float>(row_ + first) + head * D_, op_.dq.ld);
  }

  const AttentionBackward& op_;
  const AttentionShape& s_;
  std::int64_t D_, stride_, row_, group_;
  float *query_, *dout_, *dquery_, *query_rows_, *dout_rows_;  // [D][kQueries] three times, [kQueries][stride] twice
  float *p_, *ds_, *lse_, *delta_;                             // [kKeys][kQueries] twice, [kQueries] twice
  const float *key_, *value_;
  float *dkey_, *dvalue_;
};

void attention_backward_group(const AttentionBackward& op, std::int64_t batch, std::int64_t group) {
  BackwardGroup(op, batch, group).run();
}

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(attention_backward_group);

void CpuBackend::do_attention_backward(const AttentionBackward& op) {
  const AttentionShape& s = op.shape;
  pool_.for_each(s.batch * s.groups, [&](std::int64_t task) {
    HWY_DYNAMIC_DISPATCH(attention_backward_group)(op, task / s.groups, task % s.groups);
  });
}

}  // namespace elastiform
#endif
