#include "kernels/cuda/cuda_backend_memory.hpp"

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "kernels/cuda/kernels.hpp"
#include "kernels/errors.hpp"

namespace elastiform::ELASTIFORM_GPU {
namespace {

constexpr std::int64_t kPieceAlignment = 256;  // as allocate_on_device gives

std::int64_t round_up(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/// For destructors: what went wrong was, or will be, thrown where somebody waits for results.
void synchronize_quietly(Stream stream) noexcept {
  try {
    synchronize(stream);
  } catch (const DeviceError&) {
    return;
  }
}

}  // namespace

std::byte* DeviceScratch::at_least(std::int64_t bytes) {
  if (bytes <= bytes_) return data_;
  constexpr std::int64_t kUnit = 1 << 20;  // so that subnets of growing width do not grow it one by one
  const std::int64_t wanted = round_up(std::max(bytes, bytes_ + bytes_ / 2), kUnit);
  synchronize(stream_);  // the smaller one may be in use
  free_on_device(data_);
  data_ = nullptr;
  bytes_ = 0;
  data_ = static_cast<std::byte*>(allocate_on_device(wanted));
  bytes_ = wanted;
  ++generation_;
  return data_;
}

UploadRing::UploadRing(Stream stream) : stream_(stream) {
  for (Segment& segment : segments_) segment.left = make_event();
}

UploadRing::~UploadRing() {
  synchronize_quietly(stream_);
  release();
  for (const Segment& segment : segments_) destroy(segment.left);
}

void UploadRing::release() {
  free_pinned(pinned_);
  free_on_device(on_device_);
  pinned_ = on_device_ = nullptr;
  segment_bytes_ = used_ = 0;
}

void UploadRing::grow(std::int64_t bytes) {
  std::int64_t wanted = std::max(segment_bytes_, kLeastUploadSegment);
  while (wanted < bytes) wanted *= 2;
  if (segment_bytes_ > 0) synchronize(stream_);
  release();
  pinned_ = static_cast<std::byte*>(allocate_pinned(kSegments * wanted));
  on_device_ = static_cast<std::byte*>(allocate_on_device(kSegments * wanted));
  segment_bytes_ = wanted;
  current_ = 0;
  for (Segment& segment : segments_) segment.in_use = false;
}

void UploadRing::go_on() {
  record(segments_[static_cast<std::size_t>(current_)].left, stream_);
  segments_[static_cast<std::size_t>(current_)].in_use = true;
  current_ = (current_ + 1) % kSegments;
  used_ = 0;
  Segment& next = segments_[static_cast<std::size_t>(current_)];
  if (next.in_use && !has_happened(next.left)) {
    ++waits_;
    synchronize(stream_);
  }
  next.in_use = false;
}

std::byte* UploadRing::stage(std::int64_t bytes) {
  if (bytes > segment_bytes_) grow(bytes);
  if (used_ + bytes > segment_bytes_) go_on();
  staged_at_ = current_ * segment_bytes_ + used_;
  staged_bytes_ = bytes;
  used_ = std::min(segment_bytes_, round_up(used_ + bytes, kPieceAlignment));
  return pinned_ + staged_at_;
}

const std::byte* UploadRing::send() {
  copy_async(stream_, on_device_ + staged_at_, staged_bytes_, pinned_ + staged_at_, staged_bytes_, staged_bytes_, 1);
  return on_device_ + staged_at_;
}

const std::byte* UploadRing::upload_bytes(const std::byte* data, std::int64_t bytes) {
  std::memcpy(stage(bytes), data, static_cast<std::size_t>(bytes));
  return send();
}

DeviceSpace::~DeviceSpace() {
  synchronize_quietly(stream_);
  for (const auto& [base, allocation] : allocations_) free_on_device(allocation.shadow);
}

std::byte* DeviceSpace::allocate(std::int64_t bytes) {
  auto* memory = static_cast<std::byte*>(allocate_on_device(bytes));
  allocations_[memory] = {.bytes = bytes};
  return memory;
}

void DeviceSpace::release(std::byte* memory) noexcept {
  synchronize_quietly(stream_);  // it may be in use
  ++generation_;
  const auto found = allocations_.find(memory);
  if (found != allocations_.end()) {
    if (found->second.shadow) shadow_bytes_ -= found->second.bytes / 2;
    free_on_device(found->second.shadow);
    allocations_.erase(found);
  }
  free_on_device(memory);
}

void DeviceSpace::copy(std::byte* to, const std::byte* from, std::int64_t bytes) {
  wrote({to, 1, bytes, bytes, DType::float32});
  mark_filled(to);
  copy_async(stream_, to, bytes, from, bytes, bytes, 1);
  synchronize(stream_);
}

void DeviceSpace::zero(std::byte* memory, std::int64_t bytes) {
  constexpr std::int64_t kWord = bytes_of(DType::float32);
  static constexpr std::array<std::byte, kWord> kZeros{};
  const View words{memory, 1, bytes / kWord, bytes / kWord, DType::float32};
  wrote(words);
  mark_filled(memory);
  if (words.size() > 0) ELASTIFORM_GPU::zero(stream_, words);
  if (const std::int64_t rest = bytes % kWord; rest > 0) copy_async(stream_, memory + bytes - rest, rest, kZeros.data(), rest, rest, 1);
  synchronize(stream_);
}

DeviceSpace::Allocations::iterator DeviceSpace::find(const std::byte* address) {
  auto next = allocations_.upper_bound(address);
  if (next == allocations_.begin()) return allocations_.end();
  --next;
  return address < next->first + next->second.bytes ? next : allocations_.end();
}

void DeviceSpace::mark_stale(const std::byte* address) {
  if (const auto found = find(address); found != allocations_.end()) found->second.stale = true;
}

void DeviceSpace::mark_filled(const std::byte* address) {
  if (const auto found = find(address); found != allocations_.end()) found->second.filled = true;
}

ConstView DeviceSpace::shadow_of(ConstView weight) {
  const auto found = find(weight.data);
  if (found == allocations_.end() || !found->second.filled || weight.dtype != DType::float32) return weight;
  Allocation& allocation = found->second;
  if (!allocation.shadow) {
    allocation.shadow = static_cast<std::byte*>(allocate_on_device((allocation.bytes + 1) / 2));
    shadow_bytes_ += allocation.bytes / 2;
    allocation.stale = true;
  }
  if (allocation.stale)
    round_to_bf16(stream_, reinterpret_cast<const float*>(found->first), reinterpret_cast<BFloat16*>(allocation.shadow),
                  allocation.bytes / bytes_of(DType::float32));
  allocation.stale = false;
  return {allocation.shadow + (weight.data - found->first) / 2, weight.rows, weight.columns, weight.ld, DType::bfloat16};
}

BFloat16* DeviceSpace::kept_shadow(ConstView weight) {
  if (shadow_bytes_ == 0) return nullptr;
  const auto found = find(weight.data);
  if (found == allocations_.end() || !found->second.shadow || found->second.stale) return nullptr;
  return reinterpret_cast<BFloat16*>(found->second.shadow + (weight.data - found->first) / 2);
}

std::byte* PinnedSpace::allocate(std::int64_t bytes) {
  try {
    return static_cast<std::byte*>(allocate_pinned(bytes));
  } catch (const DeviceError& error) {
    throw InputError({"--offload pinned", std::to_string(bytes) + " bytes of the host's memory that can be pinned", error.what(),
                      "a higher --memory-limit sends less away; --offload FOLDER lets it wait in a file"});
  }
}

void PinnedSpace::release(std::byte* memory) noexcept {
  try {
    synchronize_device();  // it may be in use
  } catch (const DeviceError&) {
  }
  free_pinned(memory);
}

void PinnedSpace::copy(std::byte* to, const std::byte* from, std::int64_t bytes) {
  synchronize_device();
  std::memcpy(to, from, static_cast<std::size_t>(bytes));
}

void PinnedSpace::zero(std::byte* memory, std::int64_t bytes) {
  synchronize_device();
  std::memset(memory, 0, static_cast<std::size_t>(bytes));
}

}  // namespace elastiform::ELASTIFORM_GPU
