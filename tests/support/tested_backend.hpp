#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/backend.hpp"

namespace elastiform {

/// What the tables of cases in tests/kernels are run on: the CPU in test_kernels, CUDA on the host in test_cuda. Each of the two programs
/// has a tested_backend.cpp that says so. Its matrices are in the host's memory.
class TestedBackend {
 public:
  /// arrangement: one of arrangements() or of approximate_arrangements().
  explicit TestedBackend(Precision precision = Precision::f32, const std::string& arrangement = "");
  ~TestedBackend();
  Backend& operator*() const { return *backend_; }
  Backend* operator->() const { return backend_; }

  /// How the work can be spread besides the plain way, which must not change a bit: over other numbers of threads, in other orders.
  static std::vector<std::string> arrangements();
  /// Ways to compute an operation that give other bits, within its tolerances: by a device's library of matrix products.
  static std::vector<std::string> approximate_arrangements(std::string_view operation);
  /// f32, and bf16 where it can be had.
  static std::vector<Precision> precisions();
  /// Runs body with every kernel for products of bf16 that there is: several, one, or none.
  static void for_each_bf16_kernel(const std::function<void()>& body);
  /// Whether it takes hundreds of times as long as the CPU: then large cases are smaller, and the reference is compared with itself elsewhere.
  static bool is_slow();
  static std::int64_t largest_head_dim();

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
  Backend* backend_ = nullptr;
};

}  // namespace elastiform
