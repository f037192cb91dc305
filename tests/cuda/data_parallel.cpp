// Ranks that train on devices of their own: each a thread with a CudaBackend, linked by NCCL's twin.
#include <atomic>
#include <cstring>
#include <mutex>

#include "kernels/collectives/nccl_link.hpp"
#include "kernels/collectives/nccl_on_host.hpp"
#include "kernels/cuda/cuda_backend.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/sanitized.hpp"
#include "tests/trainers/fixture.hpp"
#include "trainers/checkpoint.hpp"

namespace elastiform {
namespace {

namespace gpu = ELASTIFORM_GPU;

std::atomic<std::int64_t> moved_bytes{0};

/// Messages are in device memory, which nobody reaches but through a stream: work that was given before comes first.
void reach_device(nccl_on_host::cudaStream_t stream, void* to, const void* from, std::size_t bytes) {
  const auto size = static_cast<std::int64_t>(bytes);
  if (!gpu::is_on_device(to) && !gpu::is_on_device(from)) throw std::logic_error("a message that is not in device memory");
  gpu::copy_async(reinterpret_cast<gpu::Stream>(stream), to, size, from, size, size, 1);
  moved_bytes += size;
}

std::unique_ptr<Link> make_twin(Communicator& ranks, void* stream) { return std::make_unique<nccl_on_host::NcclLink>(ranks, stream); }

struct TwinReachesDevices {
  TwinReachesDevices() { nccl_on_host::reach_memory(reach_device); }
  TwinReachesDevices(const TwinReachesDevices&) = delete;
  TwinReachesDevices& operator=(const TwinReachesDevices&) = delete;
  ~TwinReachesDevices() {
    nccl_on_host::reach_memory(
        [](nccl_on_host::cudaStream_t, void* to, const void* from, std::size_t bytes) { std::memcpy(to, from, bytes); });
  }
};

struct ShortRun : Fixture {
  ShortRun() {
    options.steps = kSanitized ? 2 : 5;
    options.sequences = 1;
    options.accumulation = 4;
    stages = {{.share = 0.5, .steps = 0, .sampler = "balanced"},
              {.share = 0.5, .steps = 0, .sampler = "sandwich", .objective = "labels+largest"}};
    resolve_stages(stages, options.steps);
  }
};

struct Trained {
  std::string weights;
  std::int64_t reduced_bytes = 0;  // by all ranks
};

Trained train_on(const Fixture& f, int size, LinkMaker links, std::int64_t fails_at = -1) {
  Trained trained;
  std::mutex mutex;
  run_ranks(size, [&](Communicator& ranks) {
    gpu::CudaBackend backend(Precision::f32, gpu::make_library_gemm(), links);
    Trainer trainer(f.space, f.options, f.stages, *f.data, backend, std::nullopt, ranks);
    std::int64_t reduced = 0;
    while (!trainer.done()) {
      if (!ranks.leads() && trainer.next_step() == fails_at) throw std::logic_error("out of power");
      reduced += trainer.step().reduced_bytes;
    }
    const std::string hash = weights_hash(trainer.weights());
    const std::lock_guard lock(mutex);
    if (!trained.weights.empty()) CHECK(hash == trained.weights);
    trained.weights = hash;
    trained.reduced_bytes += reduced;
  });
  return trained;
}

}  // namespace

TEST_CASE("ranks on devices add their gradients by NCCL's messages, with the bits of one process", "[cuda][data_parallel][nccl]") {
  const ShortRun f;
  const TwinReachesDevices guard;
  const Trained alone = train_on(f, 1, make_twin);
  CHECK(alone.reduced_bytes == 0);
  for (const int size : {2, 4}) {
    CAPTURE(size);
    moved_bytes = 0;
    const Trained through_host = train_on(f, size, nullptr);
    CHECK(moved_bytes == 0);
    CHECK(through_host.weights == alone.weights);
    const Trained linked = train_on(f, size, make_twin);
    CHECK(linked.weights == alone.weights);
    CHECK(linked.reduced_bytes == through_host.reduced_bytes);
    // Each sum goes up and comes back, and each message is read once and written once.
    CHECK(moved_bytes == 4 * linked.reduced_bytes);
  }
}

TEST_CASE("a rank on a device that fails ends the others", "[cuda][data_parallel][nccl]") {
  const ShortRun f;
  const TwinReachesDevices guard;
  CHECK_THROWS_AS(train_on(f, 2, make_twin, 1), std::exception);
}

}  // namespace elastiform
