// Gradients of attention (arXiv 2205.14135, algorithm 4) on tensor cores, for head dimensions of 32, 64 and 128, in two passes without
// atomics: one block a tile of keys, which goes through the group's query heads and their queries in order, and one a tile of queries.
#include "kernels/cuda/attention_kernels.hpp"
#include "kernels/cuda/attention_tensor_cores.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

/// A block takes 64 rows of a head, a warp 16 of them, which stay; tiles of kOthers rows of the other side pass by, the next one coming
/// while one is multiplied. Rows are keys in the first pass, queries in the second.
template <int kHeadDim_>
struct Backward {
  static constexpr int kHeadDim = kHeadDim_, kWarps = 4, kThreads = 32 * kWarps, kRows = 16 * kWarps;
  static constexpr int kOthers = kHeadDim == 128 ? 32 : 64;  // registers are full
  static constexpr int kOtherTiles = kOthers / 8, kHeadTiles = kHeadDim / 8;
  using Tile = SharedTile<kHeadDim / kChunkElements>;
  static constexpr int kRowChunks = kRows * Tile::kChunks, kOtherChunks = kOthers * Tile::kChunks;
  static constexpr std::size_t kSharedBytes = sizeof(Chunk) * (2 * kRowChunks + 4 * kOtherChunks);
};

template <int kTiles>
GPU_FUNCTION void clear(float (&x)[kTiles][4]) {
#pragma unroll
  for (int j = 0; j < kTiles; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) x[j][e] = 0;
  }
}

/// lse · log2(e) and delta of kOthers queries from `query` on, zeros after the last, to a buffer of the block.
template <class K>
GPU_FUNCTION void bring_statistics(const AttentionSizes& s, const float* lse, const float* delta, int query, Vector<float, 2>* to) {
  for (int i = static_cast<int>(threadIdx.x); i < K::kOthers; i += K::kThreads) {
    const bool inside = query + i < s.query_tokens;
    to[i] = {{inside ? lse[query + i] * kLog2E : 0, inside ? delta[query + i] : 0}};
  }
}

/// dk and dv of 64 keys. A warp's scores have a row for each of its keys and a column for each query.
template <class K>
GPU_KERNEL __launch_bounds__(K::kThreads, 1)
    attention_key_gradients_kernel(AttentionSizes s, AttentionBackwardInputs in, Target dk, Target dv) {
  DYN_SHARED(Chunk, shared);
  using Pair = Vector<float, 2>;
  SHARED(Pair, statistics, [2][K::kOthers]);
  using Tile = typename K::Tile;
  const int batch = static_cast<int>(blockIdx.x) / s.groups, group = static_cast<int>(blockIdx.x) % s.groups;
  const int key = static_cast<int>(blockIdx.y) * K::kRows, tokens = s.query_tokens;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const TileAt key_tile{shared, 0}, value_tile{shared, K::kRowChunks};
  const auto query_tile = [&](int step) { return TileAt{shared, 2 * K::kRowChunks + step % 2 * 2 * K::kOtherChunks}; };
  const auto dout_tile = [&](int step) { return TileAt{shared, 2 * K::kRowChunks + (step % 2 * 2 + 1) * K::kOtherChunks}; };

  // Steps: tiles of queries from the first that sees the block's first key, head after head.
  const int heads = s.heads / s.groups, first = s.causal ? key : 0;
  const int steps_of_head = (tokens - first + K::kOthers - 1) / K::kOthers, steps = heads * steps_of_head;
  const auto query_of = [&](int step) { return first + step % steps_of_head * K::kOthers; };
  const auto bring = [&](int step) {
    const int head = group * heads + step / steps_of_head, query = query_of(step);
    bring_rows<Tile, K::kOthers, K::kThreads>(part_of(in.q, batch, tokens, head, s.head_dim), query, query_tile(step));
    bring_rows<Tile, K::kOthers, K::kThreads>(part_of(in.dout, batch, tokens, head, s.head_dim), query, dout_tile(step));
    const std::int64_t row = static_cast<std::int64_t>(batch) * tokens;
    bring_statistics<K>(s, in.lse + head * in.lse_ld + row, in.delta + head * (static_cast<std::int64_t>(s.batch) * tokens) + row, query,
                        statistics[step % 2]);
    cp_async_commit();
  };
  bring_rows<Tile, K::kRows, K::kThreads>(part_of(in.k, batch, tokens, group, s.head_dim), key, key_tile);
  bring_rows<Tile, K::kRows, K::kThreads>(part_of(in.v, batch, tokens, group, s.head_dim), key, value_tile);
  bring(0);

  float dkey[K::kHeadTiles][4], dvalue[K::kHeadTiles][4];
  clear(dkey);
  clear(dvalue);
  for (int step = 0; step < steps; ++step) {
    cp_async_wait<0>();
    __syncthreads();  // these queries have arrived, and nobody reads those before them any more
    if (step + 1 < steps) bring(step + 1);
    float p[K::kOtherTiles][4], ds[K::kOtherTiles][4];
    clear(p);
    clear(ds);
    multiply_rows<Tile, K::kHeadDim>(key_tile, 16 * warp, query_tile(step), p);
    multiply_rows<Tile, K::kHeadDim>(value_tile, 16 * warp, dout_tile(step), ds);
    const int first_query = query_of(step) + lane % 4 * 2, first_key = key + 16 * warp + lane / 4;
#pragma unroll
    for (int j = 0; j < K::kOtherTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const Pair of_query = statistics[step % 2][8 * j + lane % 4 * 2 + e % 2];
        const bool sees = !s.causal || first_key + e / 2 * 8 <= first_query + 8 * j + e % 2;
        p[j][e] = sees ? exp2f(fmaf(p[j][e], s.scale * kLog2E, -of_query.items[0])) : 0;
        ds[j][e] = sees ? p[j][e] * (ds[j][e] - of_query.items[1]) : 0;
      }
    }
    multiply_scores<Tile>(p, dout_tile(step), dvalue);
    multiply_scores<Tile>(ds, query_tile(step), dkey);
  }
  const int row = key + 16 * warp;
  store_head(part_of(dk, batch, tokens, group, s.head_dim), row, tokens, dkey, {s.scale, s.scale});
  store_head(part_of(dv, batch, tokens, group, s.head_dim), row, tokens, dvalue, {1, 1});
}

/// dq of 64 queries. A warp's scores have a row for each of its queries and a column for each key.
template <class K>
GPU_KERNEL __launch_bounds__(K::kThreads, 1) attention_query_gradients_kernel(AttentionSizes s, AttentionBackwardInputs in, Target dq) {
  DYN_SHARED(Chunk, shared);
  using Tile = typename K::Tile;
  const int batch = static_cast<int>(blockIdx.x) / s.heads, head = static_cast<int>(blockIdx.x) % s.heads,
            group = head / (s.heads / s.groups);
  const int query = (static_cast<int>(gridDim.y) - 1 - static_cast<int>(blockIdx.y)) * K::kRows, tokens = s.query_tokens;
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const TileAt query_tile{shared, 0}, dout_tile{shared, K::kRowChunks};
  const auto key_tile = [&](int buffer) { return TileAt{shared, 2 * K::kRowChunks + 2 * buffer * K::kOtherChunks}; };
  const auto value_tile = [&](int buffer) { return TileAt{shared, 2 * K::kRowChunks + (2 * buffer + 1) * K::kOtherChunks}; };
  const auto bring_keys = [&](int key, int buffer) {
    bring_rows<Tile, K::kOthers, K::kThreads>(part_of(in.k, batch, tokens, group, s.head_dim), key, key_tile(buffer));
    bring_rows<Tile, K::kOthers, K::kThreads>(part_of(in.v, batch, tokens, group, s.head_dim), key, value_tile(buffer));
    cp_async_commit();
  };
  bring_rows<Tile, K::kRows, K::kThreads>(part_of(in.q, batch, tokens, head, s.head_dim), query, query_tile);
  bring_rows<Tile, K::kRows, K::kThreads>(part_of(in.dout, batch, tokens, head, s.head_dim), query, dout_tile);
  bring_keys(0, 0);

  const int row = query + 16 * warp;
  float lse[2], delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int at = row + 8 * half + lane / 4;
    const std::int64_t column = static_cast<std::int64_t>(batch) * tokens + at;
    lse[half] = at < tokens ? in.lse[head * in.lse_ld + column] * kLog2E : 0;
    delta[half] = at < tokens ? in.delta[head * (static_cast<std::int64_t>(s.batch) * tokens) + column] : 0;
  }
  float dquery[K::kHeadTiles][4];
  clear(dquery);
  const int end = s.causal && query + K::kRows < tokens ? query + K::kRows : tokens;  // of the keys that the last query sees
  for (int key = 0, buffer = 0; key < end; key += K::kOthers, buffer ^= 1) {
    cp_async_wait<0>();
    __syncthreads();
    if (key + K::kOthers < end) bring_keys(key + K::kOthers, buffer ^ 1);
    float p[K::kOtherTiles][4], ds[K::kOtherTiles][4];
    clear(p);
    clear(ds);
    multiply_rows<Tile, K::kHeadDim>(query_tile, 16 * warp, key_tile(buffer), p);
    multiply_rows<Tile, K::kHeadDim>(dout_tile, 16 * warp, value_tile(buffer), ds);
    const int first_key = key + lane % 4 * 2, first_query = row + lane / 4;
#pragma unroll
    for (int j = 0; j < K::kOtherTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int at = first_key + 8 * j + e % 2;
        const bool sees = s.causal ? at <= first_query + e / 2 * 8 : at < tokens;
        const float probability = exp2f(fmaf(p[j][e], s.scale * kLog2E, -lse[e / 2]));
        ds[j][e] = sees ? probability * (ds[j][e] - delta[e / 2]) : 0;
      }
    }
    multiply_scores<Tile>(ds, key_tile(buffer), dquery);
  }
  store_head(part_of(dq, batch, tokens, head, s.head_dim), row, tokens, dquery, {s.scale, s.scale});
}

template <int kHeadDim>
void start(Stream stream, const AttentionBackward& op, const float* delta) {
  using K = Backward<kHeadDim>;
  const AttentionSizes s = sizes_of(op.shape, Precision::bf16);
  const AttentionBackwardInputs in = inputs_of(op, delta);
  const auto grid = [&](int sequences) {
    return Dim3{static_cast<unsigned int>(sequences), static_cast<unsigned int>((s.query_tokens + K::kRows - 1) / K::kRows)};
  };
  launch({"attention_key_gradients", grid(s.batch * s.groups), {K::kThreads}, K::kSharedBytes, stream}, attention_key_gradients_kernel<K>,
         s, in, heads_of(op.dk, s.head_dim), heads_of(op.dv, s.head_dim));
  launch({"attention_query_gradients", grid(s.batch * s.heads), {K::kThreads}, K::kSharedBytes, stream},
         attention_query_gradients_kernel<K>, s, in, heads_of(op.dq, s.head_dim));
}

}  // namespace

void attention_backward_on_tensor_cores(Stream stream, const AttentionBackward& op, const float* delta) {
  if (op.shape.head_dim == 32) start<32>(stream, op, delta);
  else if (op.shape.head_dim == 64) start<64>(stream, op, delta);
  else start<128>(stream, op, delta);
}

}  // namespace elastiform::ELASTIFORM_GPU
