// test_gpu runs the tables of cases of tests/kernels on a GPU: ./dev gpu-check.
#include "tests/support/tested_backend.hpp"

#include "experiments/elastiform/devices.hpp"
#include "kernels/device.hpp"
#include "tests/support/staged_backend.hpp"

namespace elastiform {
namespace {

std::unique_ptr<Backend> gpu(Precision precision) {
  offer_devices();
  return make_backend({Device::cuda, precision}, ThreadPool(1));
}

}  // namespace

struct TestedBackend::Parts {
  explicit Parts(Precision precision) : device(gpu(precision)), staged(*device) {}
  std::unique_ptr<Backend> device;
  StagedBackend staged;
};

TestedBackend::TestedBackend(Precision precision, const std::string& /*arrangement*/)
    : parts_(std::make_unique<Parts>(precision)), backend_(&parts_->staged) {}
TestedBackend::~TestedBackend() = default;

std::vector<std::string> TestedBackend::arrangements() { return {"again"}; }  // a GPU has orders of its own
std::vector<Precision> TestedBackend::precisions() { return {Precision::f32, Precision::bf16}; }
void TestedBackend::for_each_bf16_kernel(const std::function<void()>& body) { body(); }
bool TestedBackend::is_slow() { return false; }
std::int64_t TestedBackend::largest_head_dim() { return 256; }

}  // namespace elastiform
