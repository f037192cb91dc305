// Flash attention (arXiv 2205.14135, algorithm 1) in float32, for any head_dim. One block takes 64 queries of a head and up to 128 columns
// of their output; where a head has more, several blocks compute the same scores.
#include <cmath>
#include <limits>

#include "kernels/cuda/attention_f32.hpp"
#include "kernels/cuda/attention_kernels.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

constexpr int kResidentChunks =
    2;  // of 64 columns of the queries, that stay in shared memory; with more they come again for each block of keys

/// The softmax of a tile's queries up to the keys seen so far.
struct Running {
  float largest[4], total[4];
};

/// Scores become probabilities relative to the largest score so far, and what was summed before is scaled to it.
template <int kParts>
GPU_FUNCTION void softmax(const AttentionSizes& s, int query, int key, F32Sums& scores, Running& running, F32Sums (&out)[kParts]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // Key that this query sees last.
    const int last = s.causal ? query + 4 * y_of_thread() + i + s.key_tokens - s.query_tokens : s.key_tokens - 1;
    float largest = running.largest[i];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int at = key + 4 * x_of_thread() + j;
      scores[i][j] = at <= last && at < s.key_tokens ? s.scale * scores[i][j] : -INFINITY;
      largest = fmaxf(largest, scores[i][j]);
    }
    largest = largest_over_keys(largest);
    float sum = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      scores[i][j] = expf(scores[i][j] - largest);
      sum += scores[i][j];
    }
    const float decay = expf(running.largest[i] - largest);
    running.total[i] = fmaf(running.total[i], decay, sum_over_keys(sum));
    running.largest[i] = largest;
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
#pragma unroll
      for (int j = 0; j < 4; ++j) out[part][i][j] *= decay;
    }
  }
}

template <int kParts>
GPU_KERNEL __launch_bounds__(kF32Threads, 1) attention_forward_f32_kernel(AttentionSizes s, Source queries, Source keys, Source values,
                                                                          Target target, float* lse, std::int64_t lse_ld) {
  DYN_SHARED(Quad, shared);
  const int batch = static_cast<int>(blockIdx.x) / s.heads, head = static_cast<int>(blockIdx.x) % s.heads,
            group = head / (s.heads / s.groups);
  const int first = (static_cast<int>(gridDim.y) - 1 - static_cast<int>(blockIdx.y)) * kF32Tile;  // those that see most keys begin first
  const int column = static_cast<int>(blockIdx.z) * kParts * kF32Tile;
  const Source q = part_of(queries, batch, s.query_tokens, head, s.head_dim), k = part_of(keys, batch, s.key_tokens, group, s.head_dim),
               v = part_of(values, batch, s.key_tokens, group, s.head_dim);
  const int chunks = (s.head_dim + kF32Tile - 1) / kF32Tile;
  const bool resident = chunks <= kResidentChunks;
  const F32Tile key_tile = reinterpret_cast<F32Tile>(shared), value_tiles = key_tile + kF32Tile,
                query_tiles = value_tiles + kParts * kF32Tile;
  for (int chunk = 0; resident && chunk < chunks; ++chunk)
    load_columns(q, first, chunk * kF32Tile, s.rounds, query_tiles + chunk * kF32Tile);

  F32Sums out[kParts] = {};
  Running running;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    running.largest[i] = -INFINITY;
    running.total[i] = 0;
  }
  const int queries_here = s.query_tokens - first < kF32Tile ? s.query_tokens - first : kF32Tile;
  const int end = s.causal ? first + queries_here + s.key_tokens - s.query_tokens : s.key_tokens;  // of the keys that the last query sees
  for (int key = 0; key < end; key += kF32Tile) {
    F32Sums scores = {};
    for (int chunk = 0; chunk < chunks; ++chunk) {
      __syncthreads();  // nobody reads what is loaded over
      if (!resident) load_columns(q, first, chunk * kF32Tile, s.rounds, query_tiles);
      load_columns(k, key, chunk * kF32Tile, s.rounds, key_tile);
      for (int part = 0; chunk == 0 && part < kParts; ++part)
        load_rows(v, key, column + part * kF32Tile, s.rounds, value_tiles + part * kF32Tile);
      __syncthreads();
      multiply_f32_tiles(query_tiles + (resident ? chunk * kF32Tile : 0), key_tile, scores);
    }
    softmax<kParts>(s, first, key, scores, running, out);
    __syncthreads();
    store_by_key(scores, s.rounds, key_tile);
    __syncthreads();
#pragma unroll
    for (int part = 0; part < kParts; ++part) multiply_f32_tiles(key_tile, value_tiles + part * kF32Tile, out[part]);
  }

  const Target t = part_of(target, batch, s.query_tokens, head, s.head_dim);
#pragma unroll
  for (int part = 0; part < kParts; ++part) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float inverse = 1 / running.total[i];
#pragma unroll
      for (int j = 0; j < 4; ++j) out[part][i][j] *= inverse;
    }
    store_rows(t, first, s.query_tokens, column + part * kF32Tile, s.head_dim, out[part], 1);
  }
  if (!lse || column > 0 || x_of_thread() > 0) return;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int query = first + 4 * y_of_thread() + i;
    if (query < s.query_tokens)
      lse[head * lse_ld + static_cast<std::int64_t>(batch) * s.query_tokens + query] = running.largest[i] + logf(running.total[i]);
  }
}

template <int kParts>
void start(Stream stream, const AttentionForward& op, Precision precision) {
  const AttentionSizes s = sizes_of(op.shape, precision);
  const int chunks = (s.head_dim + kF32Tile - 1) / kF32Tile, tiles = 1 + kParts + (chunks <= kResidentChunks ? chunks : 1);
  const Launch l{"attention_forward_f32",
                 {static_cast<unsigned int>(s.batch * s.heads), static_cast<unsigned int>((s.query_tokens + kF32Tile - 1) / kF32Tile),
                  static_cast<unsigned int>((chunks + kParts - 1) / kParts)},
                 {kF32Threads},
                 static_cast<std::size_t>(tiles) * kF32TileBytes,
                 stream};
  launch(l, attention_forward_f32_kernel<kParts>, s, heads_of(op.q, s.head_dim), heads_of(op.k, s.head_dim), heads_of(op.v, s.head_dim),
         heads_of(op.out, s.head_dim), op.lse.empty() ? nullptr : op.lse.row<float>(0), op.lse.ld);
}

}  // namespace

void attention_forward_f32(Stream stream, const AttentionForward& op, Precision precision) {
  if (op.shape.head_dim <= kF32Tile) start<1>(stream, op, precision);
  else start<2>(stream, op, precision);
}

}  // namespace elastiform::ELASTIFORM_GPU
