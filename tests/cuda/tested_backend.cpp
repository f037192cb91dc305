// test_cuda runs the tables of cases of tests/kernels on the CUDA kernels.
#include "tests/support/tested_backend.hpp"

#include <map>
#include <optional>

#include "kernels/cuda/cuda_backend.hpp"
#include "tests/cuda/launches.hpp"
#include "tests/cuda/plain_library.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/support/staged_backend.hpp"

namespace elastiform {
namespace {

namespace gpu = ELASTIFORM_GPU;

const std::map<std::string, gpu::Order> kOrders = {{"reverse", gpu::Order::reverse}, {"shuffled", gpu::Order::shuffle}};
constexpr const char* kLibrary = "library";

}  // namespace

struct TestedBackend::Parts {
  Parts(Precision precision, std::unique_ptr<gpu::LibraryGemm> library) : device(precision, std::move(library)), staged(device) {}
  gpu::CudaBackend device;
  StagedBackend staged;
  std::optional<gpu::OrderGuard> order;
};

TestedBackend::TestedBackend(Precision precision, const std::string& arrangement)
    : parts_(std::make_unique<Parts>(precision, arrangement == kLibrary ? std::make_unique<gpu::PlainLibrary>() : nullptr)),
      backend_(&parts_->staged) {
  if (kOrders.count(arrangement) > 0) parts_->order.emplace(kOrders.at(arrangement), 1);
}
TestedBackend::~TestedBackend() = default;

std::vector<std::string> TestedBackend::arrangements() {
  if (kSanitized) return {"shuffled"};
  return {"reverse", "shuffled"};
}
std::vector<std::string> TestedBackend::approximate_arrangements(std::string_view operation) {
  if (operation.substr(0, 6) == "matmul") return {kLibrary};
  return {};
}
std::vector<Precision> TestedBackend::precisions() { return {Precision::f32, Precision::bf16}; }
void TestedBackend::for_each_bf16_kernel(const std::function<void()>& body) { body(); }
bool TestedBackend::is_slow() { return true; }
std::int64_t TestedBackend::largest_head_dim() { return 256; }

}  // namespace elastiform
