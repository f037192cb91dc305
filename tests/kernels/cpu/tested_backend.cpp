// test_kernels runs the tables of cases on the CPU.
#include "tests/support/tested_backend.hpp"

#include <limits>

#include "tests/support/cpu.hpp"
#include "tests/support/sanitized.hpp"

namespace elastiform {

struct TestedBackend::Parts {
  Cpu cpu;
};

TestedBackend::TestedBackend(Precision precision, const std::string& arrangement)
    : parts_(new Parts{Cpu(arrangement.empty() ? 1 : std::stoi(arrangement), precision)}), backend_(&parts_->cpu.backend) {}
TestedBackend::~TestedBackend() = default;

std::vector<std::string> TestedBackend::arrangements() {
  if (kSanitized) return {"3 threads"};
  return {"2 threads", "5 threads"};
}
std::vector<std::string> TestedBackend::approximate_arrangements(std::string_view /*operation*/) { return {}; }
std::vector<Precision> TestedBackend::precisions() { return precisions_here(); }
void TestedBackend::for_each_bf16_kernel(const std::function<void()>& body) { elastiform::for_each_bf16_kernel(body); }
bool TestedBackend::is_slow() { return false; }
std::int64_t TestedBackend::largest_head_dim() { return std::numeric_limits<std::int64_t>::max(); }

}  // namespace elastiform
