#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "experiments/bench/support/case_line.hpp"
#include "kernels/backend.hpp"

namespace elastiform {

struct CaseOperands;

/// A case line with memory behind it, ready to run on a float32 backend. An operation that is used inside panels runs inside them here:
/// more than 256 rows are spread over the workers, as in a training step.
class KernelCase {
 public:
  /// Throws InputError (where: "case") for an unknown operation, operand or scalar and for shapes that do not fit together.
  KernelCase(const CaseLine& line, Backend& backend);
  ~KernelCase();
  void run() const { run_(); }
  double flops() const { return flops_; }  // 0: bound by memory
  double bytes() const { return bytes_; }  // read and written, each operand once
  /// Workers that the call can use: the pieces it is cut into, at most the backend's.
  int workers() const { return workers_; }

 private:
  std::unique_ptr<CaseOperands> operands_;
  std::function<void()> run_;
  double flops_ = 0, bytes_ = 0;
  int workers_ = 1;
};

/// The operations that KernelCase knows: all that ELASTIFORM_VERBOSE prints.
std::vector<std::string> kernel_case_operations();

}  // namespace elastiform
