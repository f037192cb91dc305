#pragma once

#include <cstdint>

namespace elastiform {

/// Lives as long as one call of an operation and adds it to the summary by operation that is printed at exit when ELASTIFORM_VERBOSE
/// asks for one. Default-made it does nothing.
class [[nodiscard]] TimedCall {
 public:
  TimedCall() = default;
  /// `workers` share the call: its time counts once for each, so that all times are of cores and can be compared.
  TimedCall(const char* operation, double flops, std::int64_t bytes, int workers)
      : operation_(operation), flops_(flops), bytes_(bytes), workers_(workers), begin_(now()) {}
  TimedCall(const TimedCall&) = delete;
  TimedCall& operator=(const TimedCall&) = delete;
  ~TimedCall() {
    if (operation_) add();
  }

 private:
  static std::int64_t now() noexcept;  // nanoseconds of the steady clock, whose header costs every source half a second of compilation
  void add() const noexcept;

  const char* operation_ = nullptr;
  double flops_ = 0;
  std::int64_t bytes_ = 0;
  int workers_ = 1;
  std::int64_t begin_ = 0;
};

}  // namespace elastiform
