// test_gpu runs the tables of cases of tests/kernels on a GPU: ./dev gpu-check. Our kernels give the same bits wherever matrices lie; with
// cuBLASLt, which takes other algorithms for other leading dimensions, results agree within tolerances.
#include "tests/support/tested_backend.hpp"

#include "experiments/elastiform/devices.hpp"
#include "tests/support/staged_backend.hpp"

namespace elastiform {

struct TestedBackend::Parts {
  Parts(Precision precision, Products products) : device(make_cuda(precision, products)), staged(*device) {}
  std::unique_ptr<Backend> device;
  StagedBackend staged;
};

TestedBackend::TestedBackend(Precision precision, const std::string& arrangement)
    : parts_(std::make_unique<Parts>(precision, arrangement == "cuBLASLt" ? Products::library : Products::ours)),
      backend_(&parts_->staged) {}
TestedBackend::~TestedBackend() = default;

std::vector<std::string> TestedBackend::arrangements() { return {"again"}; }  // a GPU has orders of its own
std::vector<std::string> TestedBackend::approximate_arrangements(std::string_view operation) {
  if (operation.substr(0, 6) == "matmul") return {"cuBLASLt"};
  return {};
}
std::vector<Precision> TestedBackend::precisions() { return {Precision::f32, Precision::bf16}; }
void TestedBackend::for_each_bf16_kernel(const std::function<void()>& body) { body(); }
bool TestedBackend::is_slow() { return false; }
std::int64_t TestedBackend::largest_head_dim() { return 256; }

}  // namespace elastiform
