#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/cuda/launch.hpp"

// What the CUDA backend asks of a device besides kernels: device/runtime.cpp answers for GPUs, kernels/cuda_on_host/ for the host.
namespace elastiform::ELASTIFORM_GPU {

/// A point in a stream that another one can wait for.
using Event = struct EventOfTheDevice*;

struct DeviceMemory {
  std::int64_t free = 0, total = 0;  // bytes
};

std::string device_name();  // "NVIDIA H100 80GB HBM3, sm_90" or "host (8 lanes a fiber …)"
DeviceMemory device_memory();

/// Device memory, 256-byte aligned; nullptr for 0 bytes. Throws DeviceError that says what was asked for and what is free.
void* allocate_on_device(std::int64_t bytes);
void free_on_device(void* memory);
/// Host memory that the device copies from and to while the host goes on.
void* allocate_pinned(std::int64_t bytes);
void free_pinned(void* memory);
/// Whether it points into memory of allocate_on_device.
bool is_on_device(const void* memory);

Stream make_stream();
void destroy(Stream stream);
/// Waits until all work of the stream is done; throws what went wrong in it.
void synchronize(Stream stream);
void synchronize_device();                     // the same for all streams
Event make_event(bool measures_time = false);  // as milliseconds_between needs it
void destroy(Event event);
void record(Event event, Stream stream);
void wait(Stream stream, Event event);  // work put into the stream later begins after the event
bool has_happened(Event event);
float milliseconds_between(Event begin, Event end);

/// Kernels that were recorded instead of run, to be put into streams again and again as one launch: a cudaGraphExec_t.
using Graph = struct GraphOfTheDevice*;
/// From here to end_recording() the stream takes kernels and copies within the device, runs none of them, and refuses all else.
void begin_recording(Stream stream);
Graph end_recording(Stream stream);
void play(Graph graph, Stream stream);
void destroy(Graph graph);

/// Copies `rows` rows of `bytes` bytes, pitches in bytes; any direction between host and device. From and to pageable host memory it
/// returns when the copy is done, from and to pinned memory at once.
void copy_async(Stream stream, void* to, std::int64_t to_pitch, const void* from, std::int64_t from_pitch, std::int64_t bytes,
                std::int64_t rows);

}  // namespace elastiform::ELASTIFORM_GPU
