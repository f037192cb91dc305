#include "kernels/cuda_on_host/fiber.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define ELASTIFORM_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ELASTIFORM_ADDRESS_SANITIZER 1
#endif
#endif
#ifdef ELASTIFORM_ADDRESS_SANITIZER
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef ELASTIFORM_THREAD_SANITIZER  // CMakeLists.txt: this file itself is compiled without it
#include <sanitizer/tsan_interface.h>
extern "C" void AnnotateIgnoreReadsBegin(const char* file, int line);
extern "C" void AnnotateIgnoreReadsEnd(const char* file, int line);
extern "C" void AnnotateIgnoreWritesBegin(const char* file, int line);
extern "C" void AnnotateIgnoreWritesEnd(const char* file, int line);
#endif

#if !defined(__x86_64__) || defined(ELASTIFORM_UCONTEXT)
#define ELASTIFORM_USE_UCONTEXT 1
#include <ucontext.h>
#endif

namespace elastiform::ELASTIFORM_GPU::host {

namespace {

// Kernels keep small arrays; sanitized code needs more. Untouched pages cost nothing.
constexpr std::size_t kStackBytes = 256 << 10;
constexpr std::size_t kGuardBytes = 4096;
#ifdef ELASTIFORM_ADDRESS_SANITIZER
Fiber* switched_from = nullptr;
#endif
int fibers_made = 0;

}  // namespace

#ifdef ELASTIFORM_USE_UCONTEXT

namespace {
void prepare_stack(Fiber& fiber, char* top, void (*main)()) {
  auto* context = new (std::nothrow) ucontext_t;
  fiber.stack_pointer = context;
  if (context == nullptr) return;
  ::getcontext(context);
  context->uc_stack.ss_sp = fiber.bounds;
  context->uc_stack.ss_size = static_cast<std::size_t>(top - static_cast<char*>(fiber.bounds));
  context->uc_link = nullptr;
  ::makecontext(context, main, 0);
}
void switch_stack(Fiber& from, Fiber& to) {
  if (from.stack_pointer == nullptr) from.stack_pointer = new ucontext_t;
  ::swapcontext(static_cast<ucontext_t*>(from.stack_pointer), static_cast<ucontext_t*>(to.stack_pointer));
}
}  // namespace

#else

// Saves what a function must preserve in the System V ABI on the old stack and restores it from the new one: 20 times as fast as
// swapcontext, which also asks the kernel for the signal mask.
extern "C" void elastiform_switch_stack(void** save, void* next);
__asm__(R"(
.text
.p2align 4
.hidden elastiform_switch_stack
.globl elastiform_switch_stack
.type elastiform_switch_stack, @function
elastiform_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size elastiform_switch_stack, .-elastiform_switch_stack
)");

namespace {
void prepare_stack(Fiber& fiber, char* top, void (*main)()) {
  constexpr int kSaved = 6;
  void** slot = reinterpret_cast<void**>(top);
  *--slot = nullptr;                        // where main would return to: the end of every backtrace
  *--slot = reinterpret_cast<void*>(main);  // popped by the first switch, with the stack aligned as after a call
  for (int i = 0; i < kSaved; ++i) *--slot = nullptr;
  fiber.stack_pointer = slot;
}
void switch_stack(Fiber& from, Fiber& to) { elastiform_switch_stack(&from.stack_pointer, to.stack_pointer); }
}  // namespace

#endif

Fiber* make_fiber(void (*main)(), void* identity) {
  void* memory = ::mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  ::mprotect(memory, kGuardBytes, PROT_NONE);  // a kernel that recurses too deep dies here
  auto* fiber = new (std::nothrow) Fiber;
  if (fiber == nullptr) return nullptr;
  fiber->bounds = static_cast<char*>(memory) + kGuardBytes;
  fiber->bytes = kStackBytes;
  // Stacks that begin at the same offset of a page would share few sets of the L1 cache.
  const std::size_t stagger = static_cast<std::size_t>(fibers_made++ % 61) * 192;
  prepare_stack(*fiber, static_cast<char*>(fiber->bounds) + kStackBytes - 64 - stagger, main);
  if (fiber->stack_pointer == nullptr) return nullptr;
  fiber->sanitizer_context = identity;
  return fiber;
}

void switch_fiber(Fiber& from, Fiber& to) {
#ifdef ELASTIFORM_THREAD_SANITIZER
  __tsan_switch_to_fiber(to.sanitizer_context, __tsan_switch_to_fiber_no_sync);
#endif
#ifdef ELASTIFORM_ADDRESS_SANITIZER
  switched_from = &from;
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bounds, to.bytes);
#endif
  switch_stack(from, to);
#ifdef ELASTIFORM_ADDRESS_SANITIZER
  const void* bounds = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(from.fake_stack, &bounds, &bytes);
  switched_from->bounds = const_cast<void*>(bounds);
  switched_from->bytes = bytes;
#endif
}

void begin_fiber() {
#ifdef ELASTIFORM_ADDRESS_SANITIZER
  const void* bounds = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &bounds, &bytes);
  switched_from->bounds = const_cast<void*>(bounds);  // of the OS thread's stack, which nothing else tells
  switched_from->bytes = bytes;
#endif
}

void adopt_current([[maybe_unused]] Fiber& fiber) {
#ifdef ELASTIFORM_THREAD_SANITIZER
  fiber.sanitizer_context = __tsan_get_current_fiber();
#endif
}

#ifdef ELASTIFORM_THREAD_SANITIZER

bool fibers_are_identities() { return true; }
void release_token(const void* token) { __tsan_release(const_cast<void*>(token)); }
void acquire_token(const void* token) { __tsan_acquire(const_cast<void*>(token)); }
UnseenAccesses::UnseenAccesses() {
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
}
UnseenAccesses::~UnseenAccesses() {
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
}
void forget_accesses(void* memory, std::size_t bytes) {
  const UnseenAccesses unseen;  // mapping it anew would be a write of the running fiber
  ::mmap(memory, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}
void* make_identity() { return __tsan_create_fiber(0); }

namespace {

/// What a stream's fiber is to do next, and who waits for it.
struct Errand {
  const void *begin, *end;
  void (*body)(void*);
  void* data;
  Fiber *fiber, *caller;
};
Errand errand{};

void stream_main() {
  begin_fiber();
  for (;;) {
    const Errand mine = errand;
    acquire_token(mine.begin);
    mine.body(mine.data);
    release_token(mine.end);
    switch_fiber(*mine.fiber, *mine.caller);
  }
}

}  // namespace

Fiber* make_stream_fiber() { return make_fiber(stream_main, make_identity()); }
void destroy_stream_fiber(Fiber* fiber) {
  __tsan_destroy_fiber(fiber->sanitizer_context);
  const UnseenAccesses unseen;
  ::munmap(static_cast<char*>(fiber->bounds) - kGuardBytes, kGuardBytes + kStackBytes);
  delete fiber;
}
void run_on(Fiber* fiber, const void* begin, const void* end, void (*body)(void*), void* data) {
  Fiber caller;
  adopt_current(caller);
  errand = {begin, end, body, data, fiber, &caller};
  switch_fiber(caller, *fiber);
}

#else

bool fibers_are_identities() { return false; }
void release_token(const void* /*token*/) {}
void acquire_token(const void* /*token*/) {}
UnseenAccesses::UnseenAccesses() {}
UnseenAccesses::~UnseenAccesses() {}
void forget_accesses(void* /*memory*/, std::size_t /*bytes*/) {}
void* make_identity() { return nullptr; }
Fiber* make_stream_fiber() { return nullptr; }
void destroy_stream_fiber(Fiber* /*fiber*/) {}
void run_on(Fiber* /*fiber*/, const void* /*begin*/, const void* /*end*/, void (*body)(void*), void* data) { body(data); }

#endif

}  // namespace elastiform::ELASTIFORM_GPU::host
