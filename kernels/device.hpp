#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "kernels/backend.hpp"
#include "kernels/parallel.hpp"

namespace elastiform {

/// What computes. cuda_on_host runs the CUDA kernels on the CPU, some thousand times slower: for tests and for looking at kernels.
enum class Device : std::uint8_t { cpu, cuda, cuda_on_host };

std::string_view name_of(Device device);  // "cpu", "cuda", "cuda-on-host"
/// Throws InputError for other names; `where` is what names the device.
Device parse_device(std::string_view text, const std::string& where);

/// Where networks run, and in which precision.
struct Compute {
  Device device = Device::cpu;
  Precision precision = Precision::f32;
  Compute() = default;
  Compute(Precision precision_) : precision(precision_) {}  // NOLINT(google-explicit-constructor): on the CPU
  Compute(Device device_, Precision precision_) : device(device_), precision(precision_) {}
};

/// "f32", "bf16 on cuda": results of another one have other bits.
std::string text(const Compute& compute);

/// Makes a backend of a device, or throws InputError that says what is missing on this machine or in this build.
using BackendMaker = std::unique_ptr<Backend> (*)(Precision precision);
/// The program says how devices other than the CPU are made; without it asking for one is an InputError.
void offer_device(Device device, BackendMaker maker);

/// pool: the CPU's workers; others are parallel inside. Throws InputError.
std::unique_ptr<Backend> make_backend(const Compute& compute, const ThreadPool& pool);

/// Traits of what make_backend() makes, for plans where there is none yet.
BackendTraits traits_of(const Compute& compute, int slots);

}  // namespace elastiform
