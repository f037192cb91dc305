// kernels/cuda/runtime.hpp over the CUDA runtime.
#include "kernels/cuda/runtime.hpp"

#include <cuda_runtime.h>

#include <map>
#include <mutex>
#include <utility>

#include "kernels/cuda/last_launches.hpp"
#include "kernels/errors.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

thread_local LastLaunches last_launches;  // what this thread has put into its streams

void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw DeviceError(std::string("CUDA: ") + what + ": " + cudaGetErrorString(status));
}

/// For what fails while the host has gone on: the call that hears of it is not the one that is at fault.
void check_work(cudaError_t status) {
  if (status != cudaSuccess)
    throw DeviceError(std::string("CUDA: work of the stream: ") + cudaGetErrorString(status) + last_launches.text() +
                      "; CUDA_LAUNCH_BLOCKING=1 in the environment makes the one at fault fail by itself");
}

cudaStream_t cuda(Stream stream) { return reinterpret_cast<cudaStream_t>(stream); }
cudaEvent_t cuda(Event event) { return reinterpret_cast<cudaEvent_t>(event); }

std::string mebibytes(std::int64_t bytes) { return std::to_string(bytes >> 20) + " MiB"; }

}  // namespace

std::string device_name() {
  int device = 0;
  cudaDeviceProp properties;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaGetDeviceProperties(&properties, device), "cudaGetDeviceProperties");
  return std::string(properties.name) + ", sm_" + std::to_string(10 * properties.major + properties.minor);
}

DeviceMemory device_memory() {
  std::size_t free = 0, total = 0;
  check(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return {static_cast<std::int64_t>(free), static_cast<std::int64_t>(total)};
}

void* allocate_on_device(std::int64_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  const cudaError_t status = cudaMalloc(&memory, static_cast<std::size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // it is no error of the next call
    const DeviceMemory left = device_memory();
    throw DeviceError("CUDA: out of memory: " + mebibytes(bytes) + " asked for, " + mebibytes(left.free) + " of " + mebibytes(left.total) +
                      " free; --memory-limit, fewer sequences, a shorter context or a smaller space need less");
  }
  check(status, "cudaMalloc");
  return memory;
}
// Errors while memory is given back are those of work that came before; the next call that can throw reports them.
void free_on_device(void* memory) { static_cast<void>(cudaFree(memory)); }

void* allocate_pinned(std::int64_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  const cudaError_t status = cudaMallocHost(&memory, static_cast<std::size_t>(bytes));
  if (status == cudaErrorMemoryAllocation) {
    static_cast<void>(cudaGetLastError());  // it is no error of the next call
    throw DeviceError("CUDA: " + mebibytes(bytes) + " of the host's memory cannot be pinned");
  }
  check(status, "cudaMallocHost");
  return memory;
}
void free_pinned(void* memory) { static_cast<void>(cudaFreeHost(memory)); }

namespace {
cudaMemoryType type_of(const void* memory) {
  cudaPointerAttributes attributes;
  check(cudaPointerGetAttributes(&attributes, memory), "cudaPointerGetAttributes");
  return attributes.type;
}
}  // namespace
bool is_on_device(const void* memory) { return type_of(memory) == cudaMemoryTypeDevice; }

Stream make_stream() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  return reinterpret_cast<Stream>(stream);
}
void destroy(Stream stream) { static_cast<void>(cudaStreamDestroy(cuda(stream))); }
void synchronize(Stream stream) { check_work(cudaStreamSynchronize(cuda(stream))); }
void synchronize_device() { check_work(cudaDeviceSynchronize()); }

void note(const Launch& launch) { last_launches.add(launch); }

void allow_shared_memory(const void* kernel, std::size_t dynamic_bytes) {
  constexpr std::size_t kWithoutAsking = 48 << 10;  // of a block, its SHARED arrays included
  static std::mutex mutex;
  static std::map<std::pair<int, const void*>, std::size_t> allowed;  // by device and kernel
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  const std::lock_guard<std::mutex> lock(mutex);
  const auto [known, is_new] = allowed.try_emplace({device, kernel}, 0);
  if (is_new) {
    cudaFuncAttributes attributes{};
    check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
    known->second = kWithoutAsking - attributes.sharedSizeBytes;
  }
  if (dynamic_bytes <= known->second) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(dynamic_bytes)),
        "more shared memory for a kernel");
  known->second = dynamic_bytes;
}

Event make_event(bool measures_time) {
  cudaEvent_t event = nullptr;
  check(cudaEventCreateWithFlags(&event, measures_time ? cudaEventDefault : cudaEventDisableTiming), "cudaEventCreate");
  return reinterpret_cast<Event>(event);
}
void destroy(Event event) { static_cast<void>(cudaEventDestroy(cuda(event))); }
void record(Event event, Stream stream) { check(cudaEventRecord(cuda(event), cuda(stream)), "cudaEventRecord"); }
void wait(Stream stream, Event event) { check(cudaStreamWaitEvent(cuda(stream), cuda(event), 0), "cudaStreamWaitEvent"); }
bool has_happened(Event event) {
  const cudaError_t status = cudaEventQuery(cuda(event));
  if (status == cudaErrorNotReady) return false;
  check_work(status);
  return true;
}
float milliseconds_between(Event begin, Event end) {
  float milliseconds = 0;
  check(cudaEventSynchronize(cuda(end)), "cudaEventSynchronize");
  check(cudaEventElapsedTime(&milliseconds, cuda(begin), cuda(end)), "cudaEventElapsedTime");
  return milliseconds;
}

void begin_recording(Stream stream) { check(cudaStreamBeginCapture(cuda(stream), cudaStreamCaptureModeThreadLocal), "recording"); }

Graph end_recording(Stream stream) {
  cudaGraph_t recorded = nullptr;
  check(cudaStreamEndCapture(cuda(stream), &recorded), "the end of a recording");
  cudaGraphExec_t made = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&made, recorded, 0);
  static_cast<void>(cudaGraphDestroy(recorded));
  check(status, "a graph");
  return reinterpret_cast<Graph>(made);
}

void play(Graph graph, Stream stream) {
  note({.name = "a recorded piece of work", .grid = {}, .block = {}});
  check(cudaGraphLaunch(reinterpret_cast<cudaGraphExec_t>(graph), cuda(stream)), "a graph's launch");
}
void destroy(Graph graph) { static_cast<void>(cudaGraphExecDestroy(reinterpret_cast<cudaGraphExec_t>(graph))); }

void copy_async(Stream stream, void* to, std::int64_t to_pitch, const void* from, std::int64_t from_pitch, std::int64_t bytes,
                std::int64_t rows) {
  if (bytes == 0 || rows == 0) return;
  const auto size = [](std::int64_t n) { return static_cast<std::size_t>(n); };
  const bool whole = rows == 1 || (to_pitch == bytes && from_pitch == bytes);
  check(whole ? cudaMemcpyAsync(to, from, size(bytes * rows), cudaMemcpyDefault, cuda(stream))
              : cudaMemcpy2DAsync(to, size(to_pitch), from, size(from_pitch), size(bytes), size(rows), cudaMemcpyDefault, cuda(stream)),
        "a copy");
  // A GPU that reads pageable memory itself may still be copying when the call returns.
  if (type_of(to) == cudaMemoryTypeUnregistered || type_of(from) == cudaMemoryTypeUnregistered) synchronize(stream);
}

}  // namespace elastiform::ELASTIFORM_GPU
