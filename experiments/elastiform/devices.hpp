#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>

#include "kernels/backend.hpp"
#include "kernels/device.hpp"

namespace elastiform {

/// Says how the devices of --device are made: `cuda` by the module elastiform_cuda.so beside the program, loaded when it is asked for, so
/// that nothing else needs CUDA; `cuda-on-host` by this program. Of several processes on a machine each takes a GPU of its own, by its number;
/// they are linked by elastiform_nccl.so, if that is there too.
void offer_devices(int process = 0, int processes = 1);

/// Whose matrix products a GPU computes: cuBLASLt's where it has them, whose bits differ between leading dimensions, or our kernels'.
enum class Products { library, ours };

/// The module beside the running program.
std::filesystem::path cuda_module();
/// The backend of --device cuda. Throws InputError unless the module was built from the same kernels/ as this program, and where it finds no
/// GPU.
std::unique_ptr<Backend> make_cuda(Precision precision, Products products, const std::filesystem::path& module = cuda_module());

/// Memory of the device that is free now; nullopt for the CPU, where nothing is refused: the host may swap. After make_backend().
std::optional<std::int64_t> free_bytes_of(Device device);

/// Memory of a GPU's host for activations that wait. After make_backend(); InputError for the CPU, whose activations are the host's already.
std::unique_ptr<MemorySpace> make_pinned_space(Device device);

}  // namespace elastiform
