#pragma once

#include <cstddef>

// Stacks of their own for the threads of a block, and what the sanitizers must hear about them. Files that include this one are compiled
// without ThreadSanitizer (CMakeLists.txt): what the runtime itself reads and writes on behalf of a fiber is no access of the kernel's. For
// the same reason they use no containers, whose instrumented copies the linker might choose.
namespace elastiform::ELASTIFORM_GPU::host {

/// One stack that runs or waits. Reports of AddressSanitizer need its bounds; ThreadSanitizer holds it for a thread of its own.
struct Fiber {
  void* stack_pointer = nullptr;  // while it waits
  void* bounds = nullptr;         // lowest address of the stack
  std::size_t bytes = 0;
  void* fake_stack = nullptr;         // AddressSanitizer's
  void* sanitizer_context = nullptr;  // ThreadSanitizer's
  Fiber* next = nullptr;              // in a list of idle ones
};

/// Makes a fiber that calls main() when it is first switched to; main never returns. nullptr when memory is short. Its accesses are those of
/// the identity.
Fiber* make_fiber(void (*main)(), void* identity);
/// Saves the running stack as `from` and goes on with `to`.
void switch_fiber(Fiber& from, Fiber& to);
/// The first thing that a new fiber does: tells AddressSanitizer that the switch is over.
void begin_fiber();
/// `fiber` becomes the one that the calling OS thread runs in now.
void adopt_current(Fiber& fiber);

/// Whether each CUDA thread must have a fiber of its own, because ThreadSanitizer tells threads apart by their fiber's identity.
bool fibers_are_identities();

// What orders memory for ThreadSanitizer; without it they do nothing. A token is any address.
void release_token(const void* token);
void acquire_token(const void* token);
/// While one lives, library functions may read and write what is the runtime's.
class UnseenAccesses {
 public:
  UnseenAccesses();
  UnseenAccesses(const UnseenAccesses&) = delete;
  UnseenAccesses& operator=(const UnseenAccesses&) = delete;
  ~UnseenAccesses();
};
/// Forgets earlier accesses of this page-aligned anonymous memory, and its content.
void forget_accesses(void* memory, std::size_t bytes);

/// A thread in ThreadSanitizer's eyes; nullptr without it. What makes one is ordered before all that it does.
void* make_identity();

/// For ThreadSanitizer a stream is a thread, with a stack: on the caller's its accesses would race with the caller's. nullptr without it.
Fiber* make_stream_fiber();
void destroy_stream_fiber(Fiber* fiber);
/// body(data) on that fiber, after acquiring `begin`; releases `end` at last. Without a fiber it is only called.
void run_on(Fiber* fiber, const void* begin, const void* end, void (*body)(void*), void* data);

}  // namespace elastiform::ELASTIFORM_GPU::host
