#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "kernels/cuda_on_host/block.hpp"

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

// Shared memory of the running block, and its copies in flight. Arrays are laid out as threads first ask for them, with gaps between.
namespace elastiform::ELASTIFORM_GPU::host {

namespace {

constexpr std::size_t kMostStatic = 48 << 10;  // of arrays declared by SHARED: nvcc's limit; also of all, where a launch does not ask
constexpr std::size_t kMostTotal = 227 << 10;  // with the dynamic part: an H100's
constexpr std::size_t kGap = 256;              // stays poisoned
constexpr int kMostArrays = 64;
constexpr std::size_t kArenaBytes = kMostTotal + (kMostArrays + 1) * 2 * kGap;
constexpr std::size_t kPage = 4096;

struct Array {
  const void* key;
  const char* name;
  std::size_t offset, bytes, whole;  // with the gap behind it
};
Array arrays[kMostArrays];  // [0] is the dynamic part
int array_count = 0;
std::size_t used = 0, static_bytes = 0;
bool may_have_all = true;  // the launch asked for more than every block has
char* arena = nullptr;

constexpr int kMostCopies = 256, kMostGroups = 16;
/// Copies of one thread in flight; counters only grow, places are taken in turns.
struct AsyncCopies {
  AsyncCopy copies[kMostCopies];
  unsigned int issued = 0, done = 0, groups = 0;
  unsigned int group_end[kMostGroups];  // `issued` when the group was committed
};
AsyncCopies* copies_of_threads = nullptr;

void poison([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef ELASTIFORM_ADDRESS_SANITIZER
  __asan_poison_memory_region(memory, bytes);
#endif
}
void unpoison([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) {
#ifdef ELASTIFORM_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

/// All bits set: not a number in every floating type. Not memset, which ThreadSanitizer would take for an access of the running thread.
void fill(char* memory, std::size_t bytes) {
  if (!fibers_are_identities()) {
    std::memset(memory, 0xff, bytes);
    return;
  }
  volatile char* const to = memory;
  for (std::size_t i = 0; i < bytes; ++i) to[i] = static_cast<char>(0xff);
}

void* add_array(const void* key, const char* name, std::size_t bytes) {
  char* const memory = arena + used;
  const std::size_t whole = (bytes + kGap - 1) / kGap * kGap + kGap;
  arrays[array_count++] = {key, name, used, bytes, whole};
  used += whole;
  unpoison(memory, whole);
  fill(memory, whole);
  poison(memory + bytes, whole - bytes);
  return memory;
}

#ifndef ELASTIFORM_ADDRESS_SANITIZER  // which has seen it when it happened
/// Where bits of the gap behind an array were cleared; its end if nowhere.
std::size_t first_written_behind(const Array& array) {
  std::size_t i = array.bytes;
  while (i < array.whole && arena[array.offset + i] == static_cast<char>(0xff)) ++i;
  return i;
}
#endif

AsyncCopies& copies_of_current() { return copies_of_threads[block.current->number]; }

void* map(std::size_t bytes) {
  const UnseenAccesses unseen;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory != MAP_FAILED) return memory;
  std::fputs("CUDA-on-host: no memory for shared memory\n", stderr);
  std::abort();
}

}  // namespace

void begin_shared_memory(std::size_t dynamic_bytes, bool asks) {
  if (arena == nullptr) {
    arena = static_cast<char*>(map(kArenaBytes));
    copies_of_threads = static_cast<AsyncCopies*>(map(kMostThreads * sizeof(AsyncCopies)));
    poison(arena, kArenaBytes);
  }
  array_count = 0;
  used = kGap;
  static_bytes = 0;
  may_have_all = asks;
  add_array(nullptr, "the dynamic part", dynamic_bytes);
}

void end_shared_memory() {
#ifndef ELASTIFORM_ADDRESS_SANITIZER
  for (int i = 0; i < array_count; ++i) {
    const std::size_t written = first_written_behind(arrays[i]);
    if (written < arrays[i].whole)
      report_block("%s has %zu bytes of shared memory, and byte %zu was written", arrays[i].name, arrays[i].bytes, written);
  }
#endif
  poison(arena, used);
  if (fibers_are_identities()) forget_accesses(arena, (used + kPage - 1) / kPage * kPage);  // the next block's is another memory
}

void* shared_array(const void* key, std::size_t bytes, std::size_t alignment, const char* name) {
  for (int i = 1; i < array_count; ++i)
    if (arrays[i].key == key) return arena + arrays[i].offset;
  if (array_count == kMostArrays) fail("more than %d arrays in shared memory", kMostArrays - 1);
  if (alignment > kGap) fail("array %s in shared memory asks for an alignment of %zu bytes", name, alignment);
  static_bytes += bytes;
  if (static_bytes > kMostStatic)
    fail("with array %s the block has %zu bytes of arrays in shared memory, of which %zu are allowed", name, static_bytes, kMostStatic);
  const std::size_t total = static_bytes + arrays[0].bytes, most = may_have_all ? kMostTotal : kMostStatic;
  if (total > most)
    fail("with array %s the block has %zu bytes of arrays and %zu dynamic bytes in shared memory, %zu more than there are%s", name,
         static_bytes, arrays[0].bytes, total - most, may_have_all ? "" : " for a launch that does not ask");
  return add_array(key, name, bytes);
}

void* dynamic_shared() { return arena + arrays[0].offset; }

void check_shared(const void* p, std::size_t bytes, const char* what, Site site) {
  const std::size_t offset = static_cast<std::size_t>(static_cast<const char*>(p) - arena);
  if (offset % bytes != 0) fail("%s in %s:%d: an address of shared memory is no multiple of %zu", what, site.file, site.line, bytes);
  for (int i = 0; i < array_count; ++i)
    if (offset >= arrays[i].offset && offset + bytes <= arrays[i].offset + arrays[i].bytes) return;
  fail("%s in %s:%d: %zu bytes that are not inside an array of shared memory", what, site.file, site.line, bytes);
}

void forget_async_copies(int thread) {
  AsyncCopies& copies = copies_of_threads[thread];
  copies.issued = copies.done = copies.groups = 0;
}

void begin_async_copy(const AsyncCopy& copy, Site site) {
  AsyncCopies& mine = copies_of_current();
  if (mine.issued - mine.done == kMostCopies) fail("cp.async in %s:%d: more than %d copies in flight", site.file, site.line, kMostCopies);
  for (unsigned int i = mine.done; i != mine.issued; ++i)
    if (mine.copies[i % kMostCopies].to == copy.to) fail("cp.async in %s:%d: to where another one is in flight", site.file, site.line);
  mine.copies[mine.issued++ % kMostCopies] = copy;
}

void commit_async_copies() {
  AsyncCopies& mine = copies_of_current();
  mine.group_end[mine.groups++ % kMostGroups] = mine.issued;
}

int async_copies_due(int groups, Site site) {
  const AsyncCopies& mine = copies_of_current();
  if (groups >= kMostGroups) fail("cp.async.wait_group in %s:%d: %d groups; at most %d", site.file, site.line, groups, kMostGroups - 1);
  const unsigned int left = static_cast<unsigned int>(groups);
  if (mine.groups <= left) return 0;
  const int due = static_cast<int>(mine.group_end[(mine.groups - 1 - left) % kMostGroups] - mine.done);
  return due > 0 ? due : 0;
}

AsyncCopy next_async_copy() {
  AsyncCopies& mine = copies_of_current();
  return mine.copies[mine.done++ % kMostCopies];
}

}  // namespace elastiform::ELASTIFORM_GPU::host
