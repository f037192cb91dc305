#include "kernels/cuda_on_host/device_memory.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>

#include "kernels/cuda_on_host/settings.hpp"
#include "kernels/cuda_on_host/streams.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define ELASTIFORM_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ELASTIFORM_ADDRESS_SANITIZER 1
#endif
#endif
#ifdef ELASTIFORM_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace elastiform::ELASTIFORM_GPU {

namespace {

constexpr std::int64_t kAlignment = 256;
constexpr std::int64_t kGap = 4096;      // between allocations; holds NaN, and is poison to AddressSanitizer
constexpr std::int64_t kStep = 2 << 20;  // by which the accessible part grows: a huge page
// Beyond what is in use: opening and closing costs time for each page that was touched, at each launch and copy.
constexpr std::int64_t kRotation = 32 << 20;

std::int64_t up(std::int64_t bytes, std::int64_t unit) { return (bytes + unit - 1) / unit * unit; }

void poison([[maybe_unused]] const void* memory, [[maybe_unused]] std::int64_t bytes) {
#ifdef ELASTIFORM_ADDRESS_SANITIZER
  __asan_poison_memory_region(memory, static_cast<std::size_t>(bytes));
#endif
}
void unpoison([[maybe_unused]] const void* memory, [[maybe_unused]] std::int64_t bytes) {
#ifdef ELASTIFORM_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(memory, static_cast<std::size_t>(bytes));
#endif
}
/// All bits set: not a number in every floating type.
void fill(char* memory, std::int64_t bytes) { std::memset(memory, 0xff, static_cast<std::size_t>(bytes)); }

/// Allocations by their offset. A free range is used again only when others have been, so that a stale pointer finds NaN for long.
class Memory {
 public:
  Memory() : limit_(host::settings().memory_bytes), reserved_(up(2 * limit_ + (std::int64_t{1} << 30), kStep)) {
    void* memory = ::mmap(nullptr, static_cast<std::size_t>(reserved_), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
      throw DeviceError("CUDA-on-host: no " + std::to_string(reserved_) + " bytes of addresses for the device's memory");
    base_ = reinterpret_cast<char*>(up(reinterpret_cast<std::intptr_t>(memory), kStep));
    ::madvise(base_, static_cast<std::size_t>(reserved_ - kStep), MADV_HUGEPAGE);
  }
  void* allocate(std::int64_t bytes);
  void free(void* memory);
  std::int64_t size_at(const void* memory, bool end_too) const;
  DeviceMemory sizes() const { return {limit_ - used_, limit_}; }
  void open() {
    if (opened_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    if (--opened_ == 0) protect(PROT_NONE);
  }
  std::recursive_mutex mutex;

 private:
  void protect(int protection) {
    if (accessible_ > 0 && ::mprotect(base_, static_cast<std::size_t>(accessible_), protection) != 0)
      throw DeviceError("CUDA-on-host: the device's memory cannot be protected");
  }
  bool find_place(std::int64_t bytes, std::int64_t from, std::int64_t& place) const;
  void grow(std::int64_t end);

  char* base_ = nullptr;
  std::int64_t limit_ = 0, reserved_ = 0, used_ = 0, accessible_ = 0, next_ = kGap;
  int opened_ = 0;
  std::map<std::int64_t, std::int64_t> sizes_;  // offset → bytes, as asked for
};

Memory& memory() {
  static auto* const theirs = new Memory;  // outlives whatever static objects free memory
  return *theirs;
}

/// The first gap behind `from` that holds the bytes.
bool Memory::find_place(std::int64_t bytes, std::int64_t from, std::int64_t& place) const {
  place = from;
  for (auto next = sizes_.lower_bound(from); next != sizes_.end(); ++next) {
    if (place + bytes + kGap <= next->first) return true;
    place = up(next->first + next->second + kGap, kAlignment);
  }
  return place + bytes + kGap <= reserved_ - kStep;  // of which less than a step lies before the base
}

void Memory::grow(std::int64_t end) {
  if (end <= accessible_) return;
  const std::int64_t old = accessible_;
  const host::DeviceAccess access;
  accessible_ = up(end, kStep);
  protect(PROT_READ | PROT_WRITE);
  fill(base_ + old, accessible_ - old);
  poison(base_ + old, accessible_ - old);
}

void* Memory::allocate(std::int64_t bytes) {
  const std::int64_t whole = up(bytes, kAlignment);
  std::int64_t place = 0;
  if (next_ > used_ + kRotation) next_ = kGap;
  if (used_ + whole > limit_ || !(find_place(whole, next_, place) || find_place(whole, kGap, place)))
    throw DeviceError("CUDA-on-host: " + std::to_string(bytes) + " bytes of device memory were asked for, and " +
                      std::to_string(limit_ - used_) + " of " + std::to_string(limit_) + " are free");
  grow(place + whole + kGap);
  used_ += whole;
  sizes_[place] = bytes;
  next_ = up(place + whole + kGap, kAlignment);
  unpoison(base_ + place, bytes);
  return base_ + place;
}

void Memory::free(void* memory) {
  const auto found = sizes_.find(static_cast<char*>(memory) - base_);
  if (found == sizes_.end()) throw std::logic_error("free_on_device: no allocation begins there");
  const host::DeviceAccess access;
  fill(static_cast<char*>(memory), found->second);
  poison(memory, found->second);
  used_ -= up(found->second, kAlignment);
  sizes_.erase(found);
}

/// The bytes from there to the end of its allocation; -1 outside. end_too: 0 at the end.
std::int64_t Memory::size_at(const void* memory, bool end_too) const {
  const char* const p = static_cast<const char*>(memory);
  if (p < base_ || p >= base_ + reserved_) return -1;
  const std::int64_t offset = p - base_;
  auto next = sizes_.upper_bound(offset);
  if (next == sizes_.begin()) return -1;
  --next;
  const std::int64_t left = next->first + next->second - offset;
  return left > 0 || (left == 0 && end_too) ? left : -1;
}

std::map<const char*, std::int64_t>& pinned() {
  static auto* const theirs = new std::map<const char*, std::int64_t>;
  return *theirs;
}

using Lock = std::lock_guard<std::recursive_mutex>;

}  // namespace

host::DeviceAccess::DeviceAccess() {
  const Lock lock(memory().mutex);
  memory().open();
}
host::DeviceAccess::~DeviceAccess() {
  const Lock lock(memory().mutex);
  memory().close();
}

host::Place host::place_of(const void* p) {
  const Lock lock(memory().mutex);
  if (memory().size_at(p, false) >= 0) return Place::device;
  auto next = pinned().upper_bound(static_cast<const char*>(p));
  if (next == pinned().begin()) return Place::pageable;
  --next;
  return static_cast<const char*>(p) < next->first + next->second ? Place::pinned : Place::pageable;
}

bool host::holds(const void* p, std::int64_t bytes) {
  const Lock lock(memory().mutex);
  return memory().size_at(p, true) >= bytes;
}

std::string device_name() { return "host (the threads of a block as fibers of one CPU thread)"; }

DeviceMemory device_memory() {
  const Lock lock(memory().mutex);
  return memory().sizes();
}

void* allocate_on_device(std::int64_t bytes) {
  if (bytes < 0) throw std::logic_error("allocate_on_device: negative size " + std::to_string(bytes));
  if (bytes == 0) return nullptr;
  host::count_allocation();
  const Lock lock(memory().mutex);
  return memory().allocate(bytes);
}

void free_on_device(void* p) {
  if (p == nullptr) return;
  host::finish_all();  // as cudaFree does
  const Lock lock(memory().mutex);
  memory().free(p);
}

void* allocate_pinned(std::int64_t bytes) {
  if (bytes < 0) throw std::logic_error("allocate_pinned: negative size " + std::to_string(bytes));
  if (bytes == 0) return nullptr;
  host::count_allocation();
  void* p = nullptr;
  if (::posix_memalign(&p, kAlignment, static_cast<std::size_t>(up(bytes, kAlignment))) != 0)
    throw DeviceError("CUDA-on-host: " + std::to_string(bytes) + " bytes of pinned memory were asked for, and the host has not as much");
  fill(static_cast<char*>(p), bytes);
  const Lock lock(memory().mutex);
  pinned()[static_cast<char*>(p)] = bytes;
  return p;
}

void free_pinned(void* p) {
  if (p == nullptr) return;
  host::finish_all();
  const Lock lock(memory().mutex);
  if (pinned().erase(static_cast<char*>(p)) == 0) throw std::logic_error("free_pinned: no allocation begins there");
  std::free(p);
}

bool is_on_device(const void* p) { return host::place_of(p) == host::Place::device; }

}  // namespace elastiform::ELASTIFORM_GPU
