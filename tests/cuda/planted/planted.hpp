#pragma once

#include <cstddef>
#include <vector>

#include "kernels/cuda/gpu.hpp"
#include "tests/support/device_array.hpp"

// Bugs of the kinds that people make in kernels, planted to see that somebody notices. Each kernel is written in the idioms of ours and takes
// its bug as a template parameter; kNone is the correct one.
namespace elastiform::ELASTIFORM_GPU {

/// The ways in which the test suite runs kernels: three orders in the plain build, and the two builds with sanitizers.
enum Mode : unsigned int { kForward = 1, kReverse = 2, kShuffle = 4, kAddressSanitizer = 8, kThreadSanitizer = 16 };
constexpr unsigned int kAnyOrder = kForward | kReverse | kShuffle;

/// How a bug shows without a sanitizer: a wrong result, an error from the runtime, a crash.
enum class Sign { none, wrong_result, report, crash };

struct Planted {
  const char* what;        // the bug; none: a correct kernel
  unsigned int caught_by;  // every mode that notices, each time
  Sign sign;               // in the plain build
  bool (*run)();           // whether the result is right
};

std::vector<Planted> planted_in_gemm();
std::vector<Planted> planted_in_pipelines();
std::vector<Planted> planted_in_warps();
std::vector<Planted> planted_in_reductions();
std::vector<Planted> planted_in_streams();

/// Numbers from 0 to 6 whose sums are exact in float32 in any order.
inline std::vector<float> small_numbers(std::size_t count, unsigned int start = 0) {
  std::vector<float> numbers(count);
  for (std::size_t i = 0; i < count; ++i) numbers[i] = static_cast<float>((i * 5 + i / 7 + start) % 7);
  return numbers;
}

}  // namespace elastiform::ELASTIFORM_GPU
