// Gradients of attention (arXiv 2205.14135, algorithm 4) in float32, for any head_dim, in two passes without atomics: one block a tile of
// keys and 64 columns of dk and dv, which goes through the group's query heads and their queries in order, and one a tile of queries and
// 64 columns of dq.
#include "kernels/cuda/attention_f32.hpp"
#include "kernels/cuda/attention_kernels.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

/// What both passes read of one head and its group. Six tiles of shared memory: two of factors along the queries, which the scores
/// replace, two along the keys, and the rows that gradients are sums of.
struct HeadInputs {
  Source q, dout, k, v;
  const float *lse, *delta;  // of the sequence's first query
};

GPU_FUNCTION HeadInputs inputs_of(const AttentionSizes& s, const AttentionBackwardInputs& in, int batch, int head) {
  const int tokens = s.query_tokens, group = head / (s.heads / s.groups);
  const std::int64_t row = static_cast<std::int64_t>(batch) * tokens;
  return {part_of(in.q, batch, tokens, head, s.head_dim),
          part_of(in.dout, batch, tokens, head, s.head_dim),
          part_of(in.k, batch, tokens, group, s.head_dim),
          part_of(in.v, batch, tokens, group, s.head_dim),
          in.lse + head * in.lse_ld + row,
          in.delta + head * (static_cast<std::int64_t>(s.batch) * tokens) + row};
}

/// p = e^(score - lse) and ds = p ∘ (dp - delta), from the sums of q·k and dout·v.
GPU_FUNCTION void probabilities(const AttentionSizes& s, const HeadInputs& in, int query, int key, F32Sums& p, F32Sums& ds) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = query + 4 * y_of_thread() + i;
    const bool inside = row < s.query_tokens;
    const float lse = inside ? in.lse[row] : 0, delta = inside ? in.delta[row] : 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int at = key + 4 * x_of_thread() + j;
      const bool sees = inside && (s.causal ? at <= row : at < s.key_tokens);
      p[i][j] = sees ? expf(fmaf(s.scale, p[i][j], -lse)) : 0;
      ds[i][j] = sees ? p[i][j] * (ds[i][j] - delta) : 0;
    }
  }
}

struct Tiles {
  F32Tile queries, douts, keys, values, rows, more_rows;
};
GPU_FUNCTION Tiles tiles_in(Quad* shared) {
  const F32Tile first = reinterpret_cast<F32Tile>(shared);
  return {first, first + kF32Tile, first + 2 * kF32Tile, first + 3 * kF32Tile, first + 4 * kF32Tile, first + 5 * kF32Tile};
}

/// p and ds of one tile of queries and one of keys. bring(): loads what else is needed while nobody reads it.
/// keeps_keys, keeps_queries: they are there from the tile before.
template <class Bring>
GPU_FUNCTION void scores_of(const AttentionSizes& s, const HeadInputs& in, const Tiles& tiles, int query, int key, bool keeps_keys,
                            F32Sums& p, F32Sums& ds, const Bring& bring) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) p[i][j] = ds[i][j] = 0;
  }
  for (int column = 0; column < s.head_dim; column += kF32Tile) {
    __syncthreads();
    load_columns(in.q, query, column, s.rounds, tiles.queries);
    load_columns(in.dout, query, column, s.rounds, tiles.douts);
    if (!keeps_keys || s.head_dim > kF32Tile) {
      load_columns(in.k, key, column, s.rounds, tiles.keys);
      load_columns(in.v, key, column, s.rounds, tiles.values);
    }
    if (column == 0) bring();
    __syncthreads();
    multiply_f32_tiles(tiles.queries, tiles.keys, p);
    multiply_f32_tiles(tiles.douts, tiles.values, ds);
  }
  probabilities(s, in, query, key, p, ds);
  __syncthreads();
}

GPU_KERNEL __launch_bounds__(kF32Threads, 1)
    attention_key_gradients_f32_kernel(AttentionSizes s, AttentionBackwardInputs inputs, Target dk, Target dv) {
  DYN_SHARED(Quad, shared);
  const Tiles tiles = tiles_in(shared);
  const int batch = static_cast<int>(blockIdx.x) / s.groups, group = static_cast<int>(blockIdx.x) % s.groups;
  const int key = static_cast<int>(blockIdx.y) * kF32Tile, column = static_cast<int>(blockIdx.z) * kF32Tile;
  const int heads = s.heads / s.groups, first = s.causal ? key : 0;  // of the queries that see the tile's first key
  F32Sums dkey = {}, dvalue = {};
  for (int head = group * heads; head < (group + 1) * heads; ++head) {
    const HeadInputs in = inputs_of(s, inputs, batch, head);
    for (int query = first; query < s.query_tokens; query += kF32Tile) {
      const bool keeps_keys = head > group * heads || query > first;
      F32Sums p, ds;
      scores_of(s, in, tiles, query, key, keeps_keys, p, ds, [&] {
        load_rows(in.q, query, column, s.rounds, tiles.rows);
        load_rows(in.dout, query, column, s.rounds, tiles.more_rows);
      });
      store_by_query(p, s.rounds, tiles.queries);
      store_by_query(ds, s.rounds, tiles.douts);
      __syncthreads();
      multiply_f32_tiles(tiles.queries, tiles.more_rows, dvalue);
      multiply_f32_tiles(tiles.douts, tiles.rows, dkey);
    }
  }
  store_rows(part_of(dk, batch, s.key_tokens, group, s.head_dim), key, s.key_tokens, column, s.head_dim, dkey, s.scale);
  store_rows(part_of(dv, batch, s.key_tokens, group, s.head_dim), key, s.key_tokens, column, s.head_dim, dvalue, 1);
}

GPU_KERNEL __launch_bounds__(kF32Threads, 1)
    attention_query_gradients_f32_kernel(AttentionSizes s, AttentionBackwardInputs inputs, Target dq) {
  DYN_SHARED(Quad, shared);
  const Tiles tiles = tiles_in(shared);
  const int batch = static_cast<int>(blockIdx.x) / s.heads, head = static_cast<int>(blockIdx.x) % s.heads;
  const int query = (static_cast<int>(gridDim.y) - 1 - static_cast<int>(blockIdx.y)) * kF32Tile;  // those that see most keys begin first
  const int column = static_cast<int>(blockIdx.z) * kF32Tile;
  const HeadInputs in = inputs_of(s, inputs, batch, head);
  F32Sums dquery = {};
  for (int key = 0; (!s.causal || key < query + kF32Tile) && key < s.key_tokens; key += kF32Tile) {
    F32Sums p, ds;
    scores_of(s, in, tiles, query, key, false, p, ds, [&] { load_rows(in.k, key, column, s.rounds, tiles.rows); });
    store_by_key(ds, s.rounds, tiles.douts);
    __syncthreads();
    multiply_f32_tiles(tiles.douts, tiles.rows, dquery);
  }
  store_rows(part_of(dq, batch, s.query_tokens, head, s.head_dim), query, s.query_tokens, column, s.head_dim, dquery, s.scale);
}

}  // namespace

void attention_backward_f32(Stream stream, const AttentionBackward& op, Precision precision, const float* delta) {
  const AttentionSizes s = sizes_of(op.shape, precision);
  const AttentionBackwardInputs in = inputs_of(op, delta);
  const auto blocks = [&](int parts) { return static_cast<unsigned int>((parts + kF32Tile - 1) / kF32Tile); };
  const auto grid = [&](int sequences) { return Dim3{static_cast<unsigned int>(sequences), blocks(s.query_tokens), blocks(s.head_dim)}; };
  constexpr std::size_t kSharedBytes = 6 * kF32TileBytes;
  launch({"attention_key_gradients_f32", grid(s.batch * s.groups), {kF32Threads}, kSharedBytes, stream}, attention_key_gradients_f32_kernel,
         s, in, heads_of(op.dk, s.head_dim), heads_of(op.dv, s.head_dim));
  launch({"attention_query_gradients_f32", grid(s.batch * s.heads), {kF32Threads}, kSharedBytes, stream},
         attention_query_gradients_f32_kernel, s, in, heads_of(op.dq, s.head_dim));
}

}  // namespace elastiform::ELASTIFORM_GPU
