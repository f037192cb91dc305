#include "kernels/cpu/cpu_backend.hpp"

#include <algorithm>

#include "kernels/cpu/attention_scratch.hpp"
#include "kernels/cpu/bf16.hpp"
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
/// queries, of each the blocks of keys, so dk and dv are summed in one order whatever the number of threads. In bf16 all five products take
/// rounded operands; those of keys are packed once where there is room.
template <Precision kPrecision>
class BackwardGroup {
  static constexpr bool kBf16 = kPrecision == Precision::bf16;

 public:
  BackwardGroup(const AttentionBackward& op, std::int64_t batch, std::int64_t group)
      : op_(op), s_(op.shape), D_(s_.head_dim), stride_((D_ + lanes() - 1) / lanes() * lanes()), row_(batch * s_.query_tokens),
        group_(group) {
    const std::int64_t tile = kQueries * D_, rows = kQueries * stride_, block = kKeys * kQueries;
    const std::int64_t by_row = cpu::bf16_words(kQueries, D_), by_column = cpu::bf16_words(D_, kQueries);  // kKeys == kQueries
    constexpr std::int64_t kBlock = cpu::bf16_words(kKeys, kQueries);
    const std::int64_t blocks = (s_.key_tokens + kKeys - 1) / kKeys;
    a_block_ = 2 * by_row + by_column;
    keeps_keys_ = blocks * a_block_ <= kKeptWords;
    const std::int64_t words = kBf16 ? 2 * by_row + 2 * by_column + 3 * kBlock + (keeps_keys_ ? blocks : 1) * a_block_ : 0;
    float* scratch = cpu::attention_scratch(3 * tile + 2 * rows + 2 * block + 2 * kQueries + words);
    query_ = scratch;
    dout_ = query_ + tile;
    dquery_ = dout_ + tile;
    query_rows_ = dquery_ + tile;
    dout_rows_ = query_rows_ + rows;
    p_ = dout_rows_ + rows;
    ds_ = p_ + block;
    lse_ = ds_ + block;
    delta_ = lse_ + kQueries;
    words_.query = reinterpret_cast<std::uint32_t*>(delta_ + kQueries);
    words_.dout = words_.query + by_row;
    words_.query_columns = words_.dout + by_row;
    words_.dout_columns = words_.query_columns + by_column;
    words_.p = words_.dout_columns + by_column;
    words_.ds = words_.p + kBlock;
    words_.ds_columns = words_.ds + kBlock;
    key_blocks_ = words_.ds_columns + kBlock;
    keys_ = head_of(op.k, row_, s_.key_tokens, group, D_);
    values_ = head_of(op.v, row_, s_.key_tokens, group, D_);
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
    const std::int64_t seen_by_all = s_.causal ? first : s_.key_tokens;
    for (std::int64_t key = 0; key < seen_by_all; key += kKeys) {
      const std::int64_t keys = std::min(kKeys, seen_by_all - key), vectors = (queries + lanes() - 1) / lanes();
      load_keys(key, keys);
      scores(key, keys, 0, vectors, false);
      key_gradients(key, keys, queries, false);
      query_gradient(key, keys, 0, vectors);
    }
    if (s_.causal) diagonal(first, queries);
    write(head, first, queries);
  }

  /// The tile's own keys, of which each query sees those up to itself.
  void diagonal(std::int64_t first, std::int64_t queries) {
    load_keys(first, queries);
    constexpr std::int64_t kStep = diagonal_step(kBf16);
    for (std::int64_t v = 0; v * lanes() < queries; v += kStep) {
      const std::int64_t keys = std::min((v + kStep) * lanes(), queries);
      const std::int64_t vectors = std::min(kStep, (queries + lanes() - 1) / lanes() - v);
      scores(first, keys, v, vectors, true);
      query_gradient(first, keys, v, vectors);
    }
    key_gradients(first, queries, queries, true);
  }

  void load(std::int64_t head, std::int64_t first, std::int64_t queries) {
    const std::int64_t row = row_ + first;
    const ConstView dout = head_of(op_.dout, row, queries, head, D_), out = head_of(op_.out, row, queries, head, D_);
    const ConstView q = head_of(op_.q, row, queries, head, D_);
    if constexpr (kBf16) {
      cpu::pack_bf16({.n = queries, .K = D_, .x = q}, words_.query);
      cpu::pack_bf16({.n = queries, .K = D_, .x = dout}, words_.dout);
      cpu::pack_bf16({.n = D_, .K = queries, .x = q, .k_first = true}, words_.query_columns);
      cpu::pack_bf16({.n = D_, .K = queries, .x = dout, .k_first = true}, words_.dout_columns);
    } else {
      copy_rows(queries, D_, q.row<float>(0), q.ld, static_cast<float>(s_.scale), query_rows_, stride_);
      copy_rows(queries, D_, dout.row<float>(0), dout.ld, 1.0f, dout_rows_, stride_);
      transpose_queries(queries, D_, query_rows_, stride_, query_);
      transpose_queries(queries, D_, dout_rows_, stride_, dout_);
    }
    const float* lse = op_.lse.row<float>(head) + row;
    for (std::int64_t i = 0; i < kQueries; ++i) {
      lse_[i] = i < queries ? lse[i] : 0;
      delta_[i] = i < queries ? dot_of_rows(dout.row_range(i, 1), out.row_range(i, 1)) : 0;
    }
    std::fill(dquery_, dquery_ + D_ * kQueries, 0.0f);
  }

  template <class A, class B>
  HWY_INLINE float dot(const A* a, const B* b) const {
    auto sum = hn::Zero(Float());
    for_vectors(D_, [&](std::int64_t c, auto access) HWY_ATTR { sum = hn::MulAdd(access.load(a + c), access.load(b + c), sum); });
    return sum_of_lanes(sum);
  }
  float dot_of_rows(ConstView a, ConstView b) const {
    if (a.dtype == DType::float32 && b.dtype == DType::float32) return dot(a.row<float>(0), b.row<float>(0));
    if (a.dtype == DType::float32) return dot(a.row<float>(0), b.row<BFloat16>(0));
    if (b.dtype == DType::float32) return dot(a.row<BFloat16>(0), b.row<float>(0));
    return dot(a.row<BFloat16>(0), b.row<BFloat16>(0));
  }

  float scale() const { return static_cast<float>(s_.scale); }

  /// The block of keys that the next operations work on. All tiles of queries, of all heads of the group, meet the same blocks: where there
  /// is room for them they are packed once.
  void load_keys(std::int64_t key, std::int64_t keys) {
    if constexpr (!kBf16) return;
    block_keys_ = keys;
    const std::int64_t by_row = cpu::bf16_words(kKeys, D_);
    words_.key = key_blocks_ + (keeps_keys_ ? key / kKeys : 0) * a_block_;
    words_.value = words_.key + by_row;
    words_.key_columns = words_.value + by_row;
    if (keeps_keys_ && key < packed_keys_) return;
    packed_keys_ = key + keys;
    const ConstView rows = keys_.row_range(key, keys), values = values_.row_range(key, keys);
    cpu::pack_bf16({.n = keys, .K = D_, .x = rows, .side = cpu::Bf16Side::a}, words_.key);
    cpu::pack_bf16({.n = keys, .K = D_, .x = values, .side = cpu::Bf16Side::a}, words_.value);
    cpu::pack_bf16({.n = D_, .K = keys, .x = rows, .k_first = true, .side = cpu::Bf16Side::a}, words_.key_columns);
  }

  /// p = e^(score - lse) and ds = p ∘ (dp - Δ), Δ = Σ dout ∘ out.
  void scores(std::int64_t key, std::int64_t keys, std::int64_t vector, std::int64_t vectors, bool masked) {
    const Float d;
    const std::int64_t offset = vector * lanes();
    const auto store_p = [&](std::int64_t j, std::int64_t v, FloatVector score) HWY_ATTR {
      auto p = exp(hn::Sub(score, hn::Load(d, lse_ + offset + v * lanes())));
      if (masked) p = hn::IfThenElseZero(sees(j, vector + v), p);
      hn::Store(p, d, p_ + j * kQueries + offset + v * lanes());
    };
    const auto store_ds = [&](std::int64_t j, std::int64_t v, FloatVector dp) HWY_ATTR {
      const std::int64_t at = j * kQueries + offset + v * lanes();
      hn::Store(hn::Mul(hn::Load(d, p_ + at), hn::Sub(dp, hn::Load(d, delta_ + offset + v * lanes()))), d, ds_ + at);
    };
    if constexpr (kBf16) {
      const std::int64_t columns = vectors * lanes(), panels = cpu::bf16_words(offset, D_);
      float *p = p_ + offset, *ds = ds_ + offset;
      cpu::multiply_bf16(
          {.c = p, .ldc = kQueries, .M = keys, .N = columns, .K = D_, .a = words_.key, .b = words_.query + panels, .scale = scale()});
      cpu::multiply_bf16({.c = ds, .ldc = kQueries, .M = keys, .N = columns, .K = D_, .a = words_.value, .b = words_.dout + panels});
      for (std::int64_t j = 0; j < keys; ++j)
        for (std::int64_t v = 0; v < vectors; ++v) {
          store_p(j, v, hn::Load(d, p + j * kQueries + v * lanes()));
          store_ds(j, v, hn::Load(d, ds + j * kQueries + v * lanes()));
        }
    } else {
      product<false>(vectors, keys, D_, keys_.row<float>(key), keys_.ld, query_ + offset, kQueries, store_p);
      product<false>(vectors, keys, D_, values_.row<float>(key), values_.ld, dout_ + offset, kQueries, store_ds);
    }
  }

  /// dv += p · dout, dk += ds · q. On the diagonal a key meets the queries from its own vectors on; those before them were not computed.
  void key_gradients(std::int64_t key, std::int64_t keys, std::int64_t queries, bool masked) {
    if constexpr (kBf16) {
      cpu::pack_bf16({.n = keys, .K = queries, .x = block_of(p_, keys, queries), .side = cpu::Bf16Side::a}, words_.p);
      cpu::pack_bf16({.n = keys, .K = queries, .x = block_of(ds_, keys, queries), .side = cpu::Bf16Side::a}, words_.ds);
    }
    const std::int64_t step = masked ? diagonal_step(kBf16) * lanes() : keys;
    for (std::int64_t j = 0; j < keys; j += step) {
      const std::int64_t rows = std::min(step, keys - j), i = masked ? j : 0;
      if constexpr (kBf16) {
        add_rows_bf16(rows, queries, j, i, words_.p, words_.dout_columns, 1, dvalue_ + (key + j) * op_.dv.ld, op_.dv.ld);
        add_rows_bf16(rows, queries, j, i, words_.ds, words_.query_columns, scale(), dkey_ + (key + j) * op_.dk.ld, op_.dk.ld);
        continue;
      }
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

  /// Rows of c from key j on, summed over the queries from i on; j and i are 0 or multiples of 32.
  void add_rows_bf16(std::int64_t rows, std::int64_t queries, std::int64_t j, std::int64_t i, const std::uint32_t* a,
                     const std::uint32_t* b, float scale, float* c, std::int64_t ldc) {
    const std::int64_t skipped = cpu::bf16_words(cpu::kBf16Panel, i);
    cpu::multiply_bf16({.c = c,
                        .ldc = ldc,
                        .M = rows,
                        .N = D_,
                        .K = queries - i,
                        .a = a + cpu::bf16_words(j, queries) + skipped,
                        .b = b + skipped,
                        .a_depth = queries,
                        .b_depth = queries,
                        .scale = scale,
                        .add = c,
                        .ldadd = ldc});
  }

  void query_gradient(std::int64_t key, std::int64_t keys, std::int64_t vector, std::int64_t vectors) {
    const Float d;
    const std::int64_t offset = vector * lanes();
    if constexpr (kBf16) {
      float* dquery = dquery_ + offset;
      cpu::pack_bf16({.n = vectors * lanes(), .K = keys, .x = block_of(ds_ + offset, keys, vectors * lanes()), .k_first = true},
                     words_.ds_columns);
      cpu::multiply_bf16({.c = dquery,
                          .ldc = kQueries,
                          .M = D_,
                          .N = vectors * lanes(),
                          .K = keys,
                          .a = words_.key_columns,
                          .b = words_.ds_columns,
                          .a_depth = block_keys_,
                          .scale = scale(),
                          .add = dquery,
                          .ldadd = kQueries});
      return;
    }
    product<true>(vectors, D_, keys, keys_.row<float>(key), keys_.ld, ds_ + offset, kQueries,
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
  /// bf16: operands whose depth is the head dimension, then the tokens (columns), then blocks of p and ds.
  struct Words {
    std::uint32_t *query, *dout, *key, *value, *query_columns, *dout_columns, *key_columns, *p, *ds, *ds_columns;
  } words_;
  static constexpr std::int64_t kKeptWords = 1 << 16;  // 256 KiB, in L2 beside the rest: 640 keys of a head dimension of 64
  std::uint32_t* key_blocks_;
  std::int64_t a_block_;          // words of a block of keys
  bool keeps_keys_;               // all blocks
  std::int64_t packed_keys_ = 0;  // of these, the first ones
  std::int64_t block_keys_ = 0;
  ConstView keys_, values_;  // [tokens, D]
  float *dkey_, *dvalue_;
};

void attention_backward_group(const AttentionBackward& op, Precision precision, std::int64_t batch, std::int64_t group) {
  if (precision == Precision::bf16) BackwardGroup<Precision::bf16>(op, batch, group).run();
  else BackwardGroup<Precision::f32>(op, batch, group).run();
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
    HWY_DYNAMIC_DISPATCH(attention_backward_group)(op, precision_, task / s.groups, task % s.groups);
  });
}

}  // namespace elastiform
#endif
