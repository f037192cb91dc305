#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/arena.hpp"
#include "kernels/backend.hpp"

// Device memory that a CudaBackend keeps for itself, for plans that are made before there is one. Plain C++, without CUDA.
namespace elastiform {

/// How large the work is that a backend serves.
struct WorkSizes {
  std::int64_t weight_bytes = 0;            // of all weights
  std::int64_t weight_copies = 1;           // that products read
  std::int64_t tokens = 0, widest = 0;      // of a pass, and columns of the widest matrix with a row for each
  std::int64_t heads = 0;                   // of queries, at most
  std::int64_t logit_rows = 0, logits = 0;  // the logits formed at once
  std::int64_t bands = 0;                   // rectangles that a step updates; 0: nothing is trained
};

constexpr std::int64_t kLibraryWorkspaceBytes = std::int64_t{32} << 20;  // of cuBLASLt: what NVIDIA advises for Hopper
constexpr std::int64_t kRectangleBytes = 232;                            // of a rectangle in the longest list that is uploaded
constexpr std::int64_t kUploadSegments = 8, kLeastUploadSegment = 64 << 10;

/// The most that one operation takes of DeviceScratch.
inline std::int64_t scratch_bytes_at_most(const WorkSizes& s, bool in_bf16) {
  constexpr std::int64_t kFloat = 4, kHalf = 2, kDouble = 8;
  // matmul_dw in parts: fewer than 264 tiles of 64x64, of which parts make up to 264 more.
  constexpr std::int64_t kParts = 2 * 264 * 64 * 64 * kFloat;
  constexpr std::int64_t kNormRows = 128, kTileElements = 4096, kNarrowest = 4;
  const std::int64_t norm = 2 * ((s.tokens + kNormRows - 1) / kNormRows) * s.widest * kFloat, attention = s.heads * s.tokens * kFloat;
  const std::int64_t tiles = s.weight_bytes / kFloat * kNarrowest / kTileElements + s.bands;  // two sums of squares each
  std::int64_t most = std::max({norm, attention, s.bands > 0 ? kParts : 0, 2 * (tiles + s.bands) * kDouble});
  if (in_bf16) {  // both factors of a product rounded, where they are stored in float32
    const std::int64_t column = padded_ld(2, s.widest) * kHalf;
    most = std::max({most, 2 * s.tokens * column, s.logit_rows * (padded_ld(2, s.logits) * kHalf + column)}) + s.widest * kFloat;  // a bias
  }
  return std::max(most, s.widest * kFloat);
}

/// At most what the backend with these traits keeps in its device's memory; 0 on the CPU, where Backend::workspace_bytes() says it.
inline std::int64_t kept_bytes_at_most(const BackendTraits& traits, const WorkSizes& s) {
  if (!traits.takes_all_rows()) return 0;
  const bool in_bf16 = traits.operand == DType::bfloat16;
  const std::int64_t scratch = scratch_bytes_at_most(s, in_bf16);
  const std::int64_t upload = std::max((3 * s.tokens + 1) * std::int64_t{sizeof(std::int32_t)}, s.bands * kRectangleBytes);
  return scratch + scratch / 2 + (1 << 20)                               // it grows by half at least, and to whole MiB
         + kUploadSegments * std::max(kLeastUploadSegment, 2 * upload)   // a power of two times the least
         + (in_bf16 ? s.weight_copies * (s.weight_bytes / 2 + 256) : 0)  // shadows of the weights
         + kLibraryWorkspaceBytes;
}

}  // namespace elastiform
