#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "kernels/cuda/launch.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// The last few launches, the youngest first: kernels run after the call that starts them has returned, and what goes wrong in one is told by
/// a later call, which can only say what might have been at fault. Adding one allocates nothing.
class LastLaunches {
 public:
  void add(const Launch& launch) { launches_[count_++ % kMost] = launch; }
  /// "; the last launches: A, before it B …"; empty if there was none.
  std::string text() const {
    std::string result;
    for (std::size_t i = 0; i < kMost && i < count_; ++i)
      result += (i == 0 ? "; the last launches: " : ", before it ") + elastiform::ELASTIFORM_GPU::text(launches_[(count_ - 1 - i) % kMost]);
    return result;
  }

 private:
  static constexpr std::size_t kMost = 4;
  std::array<Launch, kMost> launches_{};
  std::size_t count_ = 0;
};

}  // namespace elastiform::ELASTIFORM_GPU
