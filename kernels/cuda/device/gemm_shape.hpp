#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "kernels/cuda/library_gemm.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// The alignment, at most 256 bytes, that both the first element and the rows of a matrix have: what an algorithm may count on.
inline std::int64_t alignment(const void* data, std::int64_t ld, DType type) {
  const auto bits = reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(ld * bytes_of(type));
  std::uintptr_t bytes = 256;
  while (bytes > 1 && bits % bytes != 0) bytes /= 2;
  return static_cast<std::int64_t>(bytes);
}

/// All that the choice of an algorithm depends on, as numbers: making and finding one allocates nothing.
struct GemmShape {
  std::int64_t a_alignment, b_alignment, add_alignment, c_alignment;
  std::array<std::int64_t, 17> numbers;

  explicit GemmShape(const GemmCall& c)
      : a_alignment(alignment(c.a, c.a_ld, c.type)), b_alignment(alignment(c.b, c.b_ld, c.type)),
        add_alignment(c.add ? alignment(c.add, c.add_ld, c.c_type) : alignment(c.c, c.c_ld, c.c_type)),
        c_alignment(alignment(c.c, c.c_ld, c.c_type)), numbers{c.M,
                                                               c.N,
                                                               c.K,
                                                               c.a_ld,
                                                               c.b_ld,
                                                               c.c_ld,
                                                               c.add ? c.add_ld : c.c_ld,
                                                               a_alignment,
                                                               b_alignment,
                                                               c_alignment,
                                                               add_alignment,
                                                               static_cast<std::int64_t>(c.type),
                                                               static_cast<std::int64_t>(c.c_type),
                                                               c.a_transposed,
                                                               c.b_transposed,
                                                               c.bias != nullptr,
                                                               c.beta != 0} {}
  bool operator==(const GemmShape& other) const { return numbers == other.numbers; }
  /// As it stands in the file of algorithms.
  std::string text() const {
    std::string text;
    for (const std::int64_t number : numbers) text += std::to_string(number) + ",";
    return text;
  }
};

struct HashOfGemmShape {
  std::size_t operator()(const GemmShape& shape) const {
    std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a, a number at a time
    for (const std::int64_t number : shape.numbers) hash = (hash ^ static_cast<std::uint64_t>(number)) * 0x100000001b3u;
    return hash ^ hash >> 32;
  }
};

}  // namespace elastiform::ELASTIFORM_GPU
