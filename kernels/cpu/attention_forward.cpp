#include "kernels/cpu/cpu_backend.hpp"

#include <cmath>
#include <limits>

#include "kernels/cpu/attention_scratch.hpp"
#include "kernels/cpu/bf16.hpp"
#include "kernels/cpu/targets.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_forward.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/attention-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace elastiform::HWY_NAMESPACE {
namespace {

/// One tile of queries of one head, running softmax over blocks of keys (arXiv 2205.14135, algorithm 1). In bf16 both products take
/// rounded operands, packed for each block: 15 % of its time, and no memory that grows with the number of keys.
template <Precision kPrecision>
class ForwardTile {
  static constexpr bool kBf16 = kPrecision == Precision::bf16;

 public:
  ForwardTile(const AttentionForward& op, std::int64_t batch, std::int64_t head, std::int64_t tile)
      : op_(op), s_(op.shape), D_(s_.head_dim), head_(head), first_(tile * kQueries),
        queries_(std::min(kQueries, s_.query_tokens - first_)), row_(batch * s_.query_tokens + first_) {
    constexpr std::int64_t kBlockWords = cpu::bf16_words(kQueries, kKeys);
    const std::int64_t row_words = cpu::bf16_words(kQueries, D_), value_words = cpu::bf16_words(D_, kKeys);
    const std::int64_t words = kBf16 ? 2 * row_words + value_words + kBlockWords : 0;
    float* scratch = cpu::attention_scratch((2 * D_ + kKeys + 3) * kQueries + words);
    query_ = scratch;
    out_ = query_ + D_ * kQueries;
    scores_ = out_ + D_ * kQueries;
    largest_ = scores_ + kKeys * kQueries;
    total_ = largest_ + kQueries;
    decay_ = total_ + kQueries;
    query_words_ = reinterpret_cast<std::uint32_t*>(decay_ + kQueries);
    key_words_ = query_words_ + row_words;
    value_words_ = key_words_ + row_words;
    p_words_ = value_words_ + value_words;
    const std::int64_t group = head / (s_.heads / s_.groups), key_row = batch * s_.key_tokens;
    keys_ = head_of(op.k, key_row, s_.key_tokens, group, D_);
    values_ = head_of(op.v, key_row, s_.key_tokens, group, D_);
  }

  void run() {
    load_queries();
    if (!s_.causal) {
      for (std::int64_t key = 0; key < s_.key_tokens; key += kKeys)
        block(key, std::min(kKeys, s_.key_tokens - key), 0, (queries_ + lanes() - 1) / lanes(), false);
      return write();
    }
    const std::int64_t diagonal = first_ + s_.key_tokens - s_.query_tokens;
    for_score_blocks(diagonal, queries_, diagonal_step(kBf16),
                     [&](std::int64_t key, std::int64_t keys, std::int64_t vector, std::int64_t vectors)
                         HWY_ATTR { block(key, keys, vector, vectors, key == diagonal); });
    write();
  }

 private:
  void load_queries() {
    const ConstView q = head_of(op_.q, row_, queries_, head_, D_);
    if constexpr (kBf16) {
      cpu::pack_bf16({.n = queries_, .K = D_, .x = q}, query_words_);
    } else {
      transpose_queries(queries_, D_, q.row<float>(0), q.ld, query_);
      const auto scale = constant(s_.scale);
      for (std::int64_t i = 0; i < D_ * kQueries; i += lanes())
        hn::Store(hn::Mul(hn::Load(Float(), query_ + i), scale), Float(), query_ + i);
    }
    std::fill(out_, out_ + D_ * kQueries, 0.0f);
    std::fill(largest_, largest_ + kQueries, -std::numeric_limits<float>::infinity());
    std::fill(total_, total_ + kQueries, 0.0f);
  }

  void block(std::int64_t key, std::int64_t keys, std::int64_t vector, std::int64_t vectors, bool masked) {
    if constexpr (kBf16) return block_bf16(key, keys, vector, vectors, masked);
    const Float d;
    float* scores = scores_ + vector * lanes();
    product<false>(vectors, keys, D_, keys_.row<float>(key), keys_.ld, query_ + vector * lanes(), kQueries,
                   [&](std::int64_t j, std::int64_t v, FloatVector sum)
                       HWY_ATTR { hn::Store(sum, d, scores + j * kQueries + v * lanes()); });
    for (std::int64_t v = 0; v < vectors; ++v) softmax(keys, vector + v, masked);
    float* out = out_ + vector * lanes();
    const float* decay = decay_ + vector * lanes();
    product<true>(vectors, D_, keys, values_.row<float>(key), values_.ld, scores, kQueries,
                  [&](std::int64_t c, std::int64_t v, FloatVector sum) HWY_ATTR {
                    float* at = out + c * kQueries + v * lanes();
                    hn::Store(hn::MulAdd(hn::Load(d, at), hn::Load(d, decay + v * lanes()), sum), d, at);
                  });
  }

  void block_bf16(std::int64_t key, std::int64_t keys, std::int64_t vector, std::int64_t vectors, bool masked) {
    const std::int64_t depth = masked ? queries_ : keys, offset = vector * lanes(), columns = vectors * lanes();
    if (key != packed_) {  // on the diagonal once for all its vectors
      cpu::pack_bf16({.n = depth, .K = D_, .x = keys_.row_range(key, depth), .side = cpu::Bf16Side::a}, key_words_);
      cpu::pack_bf16({.n = D_, .K = depth, .x = values_.row_range(key, depth), .k_first = true, .side = cpu::Bf16Side::a}, value_words_);
      packed_ = key;
    }
    float *scores = scores_ + offset, *out = out_ + offset;
    const std::uint32_t* query = query_words_ + cpu::bf16_words(offset, D_);
    cpu::multiply_bf16({.c = scores,
                        .ldc = kQueries,
                        .M = keys,
                        .N = columns,
                        .K = D_,
                        .a = key_words_,
                        .b = query,
                        .scale = static_cast<float>(s_.scale)});
    for (std::int64_t v = 0; v < vectors; ++v) softmax(keys, vector + v, masked);
    scale_queries(vectors, D_, decay_ + offset, out);
    cpu::pack_bf16({.n = columns, .K = keys, .x = block_of(scores, keys, columns), .k_first = true}, p_words_);
    cpu::multiply_bf16({.c = out,
                        .ldc = kQueries,
                        .M = D_,
                        .N = columns,
                        .K = keys,
                        .a = value_words_,
                        .b = p_words_,
                        .a_depth = depth,
                        .add = out,
                        .ldadd = kQueries});
  }

  /// Scores of one vector of queries become probabilities relative to the largest score so far.
  void softmax(std::int64_t keys, std::int64_t v, bool masked) {
    const Float d;
    float* scores = scores_ + v * lanes();
    const auto hidden = constant(-std::numeric_limits<float>::infinity());
    const auto before = hn::Load(d, largest_ + v * lanes());
    auto largest = before;
    for (std::int64_t j = 0; j < keys; ++j) {
      auto score = hn::Load(d, scores + j * kQueries);
      if (masked) hn::Store(score = hn::IfThenElse(sees(j, v), score, hidden), d, scores + j * kQueries);
      largest = hn::Max(largest, score);
    }
    auto sum = hn::Zero(d);
    for (std::int64_t j = 0; j < keys; ++j) {
      const auto p = exp_bounded(hn::Sub(hn::Load(d, scores + j * kQueries), largest));
      hn::Store(p, d, scores + j * kQueries);
      sum = hn::Add(sum, p);
    }
    const auto decay = exp_bounded(hn::Sub(before, largest));
    hn::Store(decay, d, decay_ + v * lanes());
    hn::Store(largest, d, largest_ + v * lanes());
    hn::Store(hn::MulAdd(hn::Load(d, total_ + v * lanes()), decay, sum), d, total_ + v * lanes());
  }

  void write() {
    const Float d;
    for (std::int64_t i = 0; i < kQueries; i += lanes()) {
      const auto inverse = hn::Div(constant(1), hn::Load(d, total_ + i));
      for (std::int64_t c = 0; c < D_; ++c) hn::Store(hn::Mul(hn::Load(d, out_ + c * kQueries + i), inverse), d, out_ + c * kQueries + i);
    }
    write_rows(head_of(op_.out, row_, queries_, head_, D_));
    if (op_.lse.empty()) return;
    float* lse = op_.lse.row<float>(head_) + row_;
    for (std::int64_t i = 0; i < queries_; ++i) lse[i] = largest_[i] + std::log(total_[i]);
  }

  void write_rows(View out) {
    if (out.dtype == DType::float32) return transpose(D_, queries_, out_, kQueries, out.row<float>(0), out.ld);
    float* rows = query_;  // in bf16 the queries are elsewhere
    transpose(D_, queries_, out_, kQueries, rows, D_);
    for (std::int64_t i = 0; i < queries_; ++i)
      for_vectors(D_,
                  [&](std::int64_t c, auto access) HWY_ATTR { access.store(access.load(rows + i * D_ + c), out.row<BFloat16>(i) + c); });
  }

  const AttentionForward& op_;
  const AttentionShape& s_;
  std::int64_t D_, head_, first_, queries_, row_;
  std::int64_t packed_ = -1;                                    // first key of the block in key_words_ and value_words_
  float *query_, *out_, *scores_, *largest_, *total_, *decay_;  // [D][kQueries] twice, [kKeys][kQueries], [kQueries] three times
  std::uint32_t *query_words_, *key_words_, *value_words_, *p_words_;
  ConstView keys_, values_;  // [key_tokens, D]
};

void attention_forward_tile(const AttentionForward& op, Precision precision, std::int64_t batch, std::int64_t head, std::int64_t tile) {
  if (precision == Precision::bf16) ForwardTile<Precision::bf16>(op, batch, head, tile).run();
  else ForwardTile<Precision::f32>(op, batch, head, tile).run();
}

}  // namespace
}  // namespace elastiform::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace elastiform {

HWY_EXPORT(attention_forward_tile);

void CpuBackend::do_attention_forward(const AttentionForward& op) {
  const AttentionShape& s = op.shape;
  constexpr std::int64_t kQueries = 64;
  const std::int64_t tiles = (s.query_tokens + kQueries - 1) / kQueries;
  // Both products are of whole vectors of queries (of 8, as most machines have), and all columns of a tile are made ready three times.
  constexpr std::int64_t kVector = 8;
  const std::int64_t columns = (s.query_tokens + kVector - 1) / kVector * kVector;
  const std::int64_t multiply_adds = s.batch * s.heads * s.head_dim * (2 * columns * s.key_tokens + 3 * tiles * kQueries);
  pool_.for_each(
      s.batch * s.heads * tiles,
      [&](std::int64_t task) {
        HWY_DYNAMIC_DISPATCH(attention_forward_tile)(op, precision_, task / (s.heads * tiles), task / tiles % s.heads, task % tiles);
      },
      multiply_adds);
}

}  // namespace elastiform
#endif
