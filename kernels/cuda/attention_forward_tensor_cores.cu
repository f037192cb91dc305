// Flash attention (arXiv 2205.14135, algorithm 1) on tensor cores, for head dimensions of 32, 64 and 128.
#include <cmath>

#include "kernels/cuda/attention_kernels.hpp"
#include "kernels/cuda/attention_tensor_cores.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

/// A block takes 128 queries of one head, a warp 32 of them in two row tiles, which share the fragments of keys and values. Those of the
/// next keys come while these are multiplied.
template <int kHeadDim_>
struct Forward {
  static constexpr int kHeadDim = kHeadDim_, kWarps = 4, kThreads = 32 * kWarps;
  static constexpr int kRowTiles = 2, kRowsOfWarp = 16 * kRowTiles, kQueries = kRowsOfWarp * kWarps;
  static constexpr int kKeys = kHeadDim == 128 ? 32 : 64;  // registers are full
  static constexpr int kKeyTiles = kKeys / 8, kHeadTiles = kHeadDim / 8;
  using Tile = SharedTile<kHeadDim / kChunkElements>;
  static constexpr int kKeyChunks = kKeys * Tile::kChunks, kQueryChunks = kQueries * Tile::kChunks;
  static constexpr std::size_t kSharedBytes = sizeof(Chunk) * (kQueryChunks + 4 * kKeyChunks);
};

/// What a warp keeps of its queries; of each row tile a thread has row lane / 4 and the eighth after it.
template <class F>
struct Queries {
  float out[F::kRowTiles][F::kHeadTiles][4], scores[F::kRowTiles][F::kKeyTiles][4];
  float largest[F::kRowTiles][2], total[F::kRowTiles][2];  // of the products before they are scaled; total: this thread's part
};

template <class F>
GPU_FUNCTION void multiply_queries_and_keys(TileAt query_tile, TileAt key_tile, Queries<F>& w) {
  const int first = static_cast<int>(threadIdx.x) / 32 * F::kRowsOfWarp;
#pragma unroll
  for (int i = 0; i < F::kRowTiles; ++i) {
#pragma unroll
    for (int j = 0; j < F::kKeyTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) w.scores[i][j][e] = 0;
    }
  }
#pragma unroll 4
  for (int d = 0; d < F::kHeadDim; d += 16) {
    std::uint32_t q[F::kRowTiles][4];
#pragma unroll
    for (int i = 0; i < F::kRowTiles; ++i) load_a<typename F::Tile, true>(q[i], query_tile, first + 16 * i, d);
#pragma unroll
    for (int j = 0; j < F::kKeyTiles; j += 2) {
      std::uint32_t k[4];
      load_b<typename F::Tile, true>(k, key_tile, 8 * j, d);
#pragma unroll
      for (int i = 0; i < F::kRowTiles; ++i) {
        mma_m16n8k16<BFloat16>(w.scores[i][j], q[i], k[0], k[1]);
        mma_m16n8k16<BFloat16>(w.scores[i][j + 1], q[i], k[2], k[3]);
      }
    }
  }
}

/// Hides what a query must not see. key: that of this thread's first score; last: what its first query sees last; further: whether the
/// queries after it see one more each.
template <class F>
GPU_FUNCTION void hide(int key, int last, bool further, Queries<F>& w) {
#pragma unroll
  for (int i = 0; i < F::kRowTiles; ++i) {
#pragma unroll
    for (int j = 0; j < F::kKeyTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e)
        if (key + 8 * j + e % 2 > last + (further ? 16 * i + e / 2 * 8 : 0)) w.scores[i][j][e] = -INFINITY;
    }
  }
}

/// Scores become probabilities relative to the largest so far, and what was summed before is scaled to it.
template <class F>
GPU_FUNCTION void softmax(float scale_log2, Queries<F>& w) {
#pragma unroll
  for (int i = 0; i < F::kRowTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float largest = w.largest[i][half];
#pragma unroll
      for (int j = 0; j < F::kKeyTiles; ++j) largest = fmaxf(largest, fmaxf(w.scores[i][j][2 * half], w.scores[i][j][2 * half + 1]));
      largest = fmaxf(largest, __shfl_xor_sync(kFullMask, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(kFullMask, largest, 2));
      const float shift = -largest * scale_log2, decay = exp2f(fmaf(w.largest[i][half], scale_log2, shift));
      float sum = 0;
#pragma unroll
      for (int j = 0; j < F::kKeyTiles; ++j) {
#pragma unroll
        for (int e = 2 * half; e < 2 * half + 2; ++e) {
          w.scores[i][j][e] = exp2f(fmaf(w.scores[i][j][e], scale_log2, shift));
          sum += w.scores[i][j][e];
        }
      }
      w.total[i][half] = fmaf(w.total[i][half], decay, sum);
      w.largest[i][half] = largest;
#pragma unroll
      for (int j = 0; j < F::kHeadTiles; ++j) {
        w.out[i][j][2 * half] *= decay;
        w.out[i][j][2 * half + 1] *= decay;
      }
    }
  }
}

template <class F>
GPU_FUNCTION void add_values(TileAt value_tile, Queries<F>& w) {
#pragma unroll
  for (int step = 0; step < F::kKeys / 16; ++step) {
    std::uint32_t p[F::kRowTiles][4];
#pragma unroll
    for (int i = 0; i < F::kRowTiles; ++i) as_factor(w.scores[i], step, p[i]);
#pragma unroll
    for (int j = 0; j < F::kHeadTiles; j += 2) {
      std::uint32_t v[4];
      load_b<typename F::Tile, false>(v, value_tile, 8 * j, 16 * step);
#pragma unroll
      for (int i = 0; i < F::kRowTiles; ++i) {
        mma_m16n8k16<BFloat16>(w.out[i][j], p[i], v[0], v[1]);
        mma_m16n8k16<BFloat16>(w.out[i][j + 1], p[i], v[2], v[3]);
      }
    }
  }
}

template <class F>
GPU_FUNCTION void finish(const Target& out, float* lse, int first, int queries, float scale, Queries<F>& w) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < F::kRowTiles; ++i) {
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float total = w.total[i][half];
      total += __shfl_xor_sync(kFullMask, total, 1);
      total += __shfl_xor_sync(kFullMask, total, 2);
      inverse[half] = 1 / total;
      const int query = first + 16 * i + 8 * half + lane / 4;
      if (lse && lane % 4 == 0 && query < queries) lse[query] = fmaf(w.largest[i][half], scale, logf(total));
    }
    store_head(out, first + 16 * i, queries, w.out[i], inverse);
  }
}

template <class F>
GPU_FUNCTION void begin(Queries<F>& w) {
#pragma unroll
  for (int i = 0; i < F::kRowTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      w.largest[i][half] = -INFINITY;
      w.total[i][half] = 0;
    }
#pragma unroll
    for (int j = 0; j < F::kHeadTiles; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) w.out[i][j][e] = 0;
    }
  }
}

template <class F>
GPU_KERNEL __launch_bounds__(F::kThreads, 1)
    attention_forward_kernel(AttentionSizes s, Source queries, Source keys, Source values, Target target, float* lse, std::int64_t lse_ld) {
  DYN_SHARED(Chunk, shared);
  using Tile = typename F::Tile;
  const int batch = static_cast<int>(blockIdx.x) / s.heads, head = static_cast<int>(blockIdx.x) % s.heads,
            group = head / (s.heads / s.groups);
  const int first = (static_cast<int>(gridDim.y) - 1 - static_cast<int>(blockIdx.y)) * F::kQueries;  // those that see most keys begin first
  const TileAt query_tile{shared, 0};
  const auto key_tile = [&](int buffer) { return TileAt{shared, F::kQueryChunks + 2 * buffer * F::kKeyChunks}; };
  const auto value_tile = [&](int buffer) { return TileAt{shared, F::kQueryChunks + (2 * buffer + 1) * F::kKeyChunks}; };
  const auto bring_keys = [&](int key, int buffer) {
    bring_rows<Tile, F::kKeys, F::kThreads>(part_of(keys, batch, s.key_tokens, group, s.head_dim), key, key_tile(buffer));
    bring_rows<Tile, F::kKeys, F::kThreads>(part_of(values, batch, s.key_tokens, group, s.head_dim), key, value_tile(buffer));
    cp_async_commit();
  };
  bring_rows<Tile, F::kQueries, F::kThreads>(part_of(queries, batch, s.query_tokens, head, s.head_dim), first, query_tile);
  bring_keys(0, 0);

  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  const int queries_here = s.query_tokens - first < F::kQueries ? s.query_tokens - first : F::kQueries;
  const int offset = s.key_tokens - s.query_tokens;
  const int end = s.causal ? first + queries_here + offset : s.key_tokens;                // of the keys that the last query sees
  const int last = s.causal ? first + warp * F::kRowsOfWarp + offset : s.key_tokens - 1;  // that this warp's first query sees
  Queries<F> w;
  begin(w);
  for (int key = 0, buffer = 0; key < end; key += F::kKeys, buffer ^= 1) {
    cp_async_wait<0>();
    __syncthreads();  // these keys have arrived, and nobody reads those before them any more
    if (key + F::kKeys < end) bring_keys(key + F::kKeys, buffer ^ 1);
    multiply_queries_and_keys<F>(query_tile, key_tile(buffer), w);
    if (key + F::kKeys - 1 > last) hide<F>(key + lane % 4 * 2, s.causal ? last + lane / 4 : last, s.causal, w);
    softmax<F>(s.scale * kLog2E, w);
    add_values<F>(value_tile(buffer), w);
  }
  float* const lse_here = lse ? lse + head * lse_ld + static_cast<std::int64_t>(batch) * s.query_tokens : nullptr;
  finish<F>(part_of(target, batch, s.query_tokens, head, s.head_dim), lse_here, first + warp * F::kRowsOfWarp, s.query_tokens, s.scale, w);
}

template <int kHeadDim>
void start(Stream stream, const AttentionForward& op) {
  using F = Forward<kHeadDim>;
  const AttentionSizes s = sizes_of(op.shape, Precision::bf16);
  const Dim3 grid{static_cast<unsigned int>(s.batch * s.heads),
                  static_cast<unsigned int>((s.query_tokens + F::kQueries - 1) / F::kQueries)};
  launch({"attention_forward", grid, {F::kThreads}, F::kSharedBytes, stream}, attention_forward_kernel<F>, s, heads_of(op.q, s.head_dim),
         heads_of(op.k, s.head_dim), heads_of(op.v, s.head_dim), heads_of(op.out, s.head_dim),
         op.lse.empty() ? nullptr : op.lse.row<float>(0), op.lse.ld);
}

}  // namespace

void attention_forward_on_tensor_cores(Stream stream, const AttentionForward& op) {
  if (op.shape.head_dim == 32) start<32>(stream, op);
  else if (op.shape.head_dim == 64) start<64>(stream, op);
  else start<128>(stream, op);
}

}  // namespace elastiform::ELASTIFORM_GPU
