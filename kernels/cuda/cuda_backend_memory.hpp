#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <type_traits>

#include "kernels/cuda/kept_bytes.hpp"
#include "kernels/cuda/runtime.hpp"
#include "kernels/memory_block.hpp"
#include "kernels/view.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// A stream of its own.
class OwnStream {
 public:
  OwnStream() : stream_(make_stream()) {}
  ~OwnStream() { destroy(stream_); }
  OwnStream(const OwnStream&) = delete;
  OwnStream& operator=(const OwnStream&) = delete;
  operator Stream() const { return stream_; }  // NOLINT(google-explicit-constructor)

 private:
  Stream stream_;
};

/// Device memory for one operation at a time. It grows when more is asked for than ever, and is kept; its content is not.
class DeviceScratch {
 public:
  explicit DeviceScratch(Stream stream) : stream_(stream) {}
  ~DeviceScratch() { free_on_device(data_); }
  DeviceScratch(const DeviceScratch&) = delete;
  DeviceScratch& operator=(const DeviceScratch&) = delete;

  std::byte* at_least(std::int64_t bytes);
  std::int64_t bytes() const { return bytes_; }
  /// Changes with its address.
  std::int64_t generation() const { return generation_; }

 private:
  Stream stream_;
  std::int64_t generation_ = 0;
  std::byte* data_ = nullptr;
  std::int64_t bytes_ = 0;
};

/// Small data on its way from the host to the device: tokens, targets, lists of rectangles. Each piece has a place in pinned memory and one
/// in device memory, both parts of a ring of segments. A segment is written again when what was in the stream as it was left is done; a
/// steady step finds it so, and waits for nothing.
class UploadRing {
 public:
  explicit UploadRing(Stream stream);
  ~UploadRing();
  UploadRing(const UploadRing&) = delete;
  UploadRing& operator=(const UploadRing&) = delete;

  /// Pinned memory to write `bytes` bytes to; send() puts their copy into the stream and says where they arrive. It holds for work that is
  /// in the stream before the next stage().
  std::byte* stage(std::int64_t bytes);
  const std::byte* send();
  template <class T>
  const std::remove_const_t<T>* upload(std::span<T> elements) {
    return reinterpret_cast<const std::remove_const_t<T>*>(
        upload_bytes(reinterpret_cast<const std::byte*>(elements.data()), static_cast<std::int64_t>(elements.size_bytes())));
  }

  std::int64_t bytes() const { return kSegments * segment_bytes_; }  // of each of the two
  /// How often it has waited for the stream.
  std::int64_t waits() const { return waits_; }

 private:
  static constexpr int kSegments = static_cast<int>(kUploadSegments);
  struct Segment {
    Event left = nullptr;  // recorded when the ring went on to the next
    bool in_use = false;
  };

  const std::byte* upload_bytes(const std::byte* data, std::int64_t bytes);
  void go_on();
  void grow(std::int64_t bytes);
  void release();

  Stream stream_;
  std::byte *pinned_ = nullptr, *on_device_ = nullptr;
  std::int64_t segment_bytes_ = 0, used_ = 0;      // of the current segment
  std::int64_t staged_at_ = 0, staged_bytes_ = 0;  // of the piece between stage() and send()
  int current_ = 0;
  std::array<Segment, kSegments> segments_{};
  std::int64_t waits_ = 0;
};

/// The memory of a CudaBackend's device, and the bfloat16 shadows of allocations that weights lie in: products in bf16 read half the bytes.
/// A shadow is made when a product first asks for it; AdamW keeps it up to date, and what else writes into its allocation makes it stale.
/// Of an arena, in which the weights of a pass may be formed, there is none: it would be stale whenever anything is computed.
/// Blocks of it must not outlive the backend.
class DeviceSpace final : public MemorySpace {
 public:
  explicit DeviceSpace(Stream stream) : stream_(stream) {}
  ~DeviceSpace() override;

  std::string_view name() const override { return "device"; }
  std::byte* allocate(std::int64_t bytes) override;
  void release(std::byte* memory) noexcept override;
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes) override;
  void zero(std::byte* memory, std::int64_t bytes) override;

  /// The weight in bfloat16; `weight` itself where its memory is not of this space, or was never filled through it, as an arena.
  ConstView shadow_of(ConstView weight);
  /// Where AdamW must write the weight in bfloat16 too: nullptr where there is no shadow that is up to date.
  BFloat16* kept_shadow(ConstView weight);
  /// Something writes to this view.
  void wrote(ConstView view) {
    if (shadow_bytes_ > 0) mark_stale(view.data);
  }
  std::int64_t shadow_bytes() const { return shadow_bytes_; }
  /// Changes when memory is released: what stands at its address, and its shadow's, is something else from then on.
  std::int64_t generation() const { return generation_; }

 private:
  struct Allocation {
    std::int64_t bytes = 0;
    std::byte* shadow = nullptr;
    bool stale = true, filled = false;
  };
  using Allocations = std::map<const std::byte*, Allocation>;

  /// The allocation that the address lies in, or end().
  Allocations::iterator find(const std::byte* address);
  void mark_stale(const std::byte* address);
  void mark_filled(const std::byte* address);

  Stream stream_;
  Allocations allocations_;
  std::int64_t shadow_bytes_ = 0, generation_ = 0;
};

/// Memory of the host that a backend of the device copies from and to while the host goes on: for activations that wait. Such a copy stands in
/// the backend's stream with all else, so host code must not look at what it wrote before the stream is waited for.
class PinnedSpace final : public MemorySpace {
 public:
  std::string_view name() const override { return "pinned memory of the host"; }
  std::byte* allocate(std::int64_t bytes) override;  // InputError that names --offload where there is too little
  void release(std::byte* memory) noexcept override;
  void copy(std::byte* to, const std::byte* from, std::int64_t bytes) override;
  void zero(std::byte* memory, std::int64_t bytes) override;
};

}  // namespace elastiform::ELASTIFORM_GPU
