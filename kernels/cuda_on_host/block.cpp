#include "kernels/cuda_on_host/block.hpp"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>

namespace elastiform::ELASTIFORM_GPU::host {

Dim3 thread_index, block_index, block_dimensions, grid_dimensions;
Block block;

namespace {

/// Ends a waiting thread after another one failed.
struct Unwind {};

std::uint64_t random_state = 0;
Tokens static_tokens;
Fiber* idle = nullptr;

// ThreadSanitizer of LLVM 14 has 255 slots for threads. With more, who takes over a slot is thought to be ordered after whoever had it, and
// nothing is found. So the threads of a block share kIdentities identities, number modulo that many, and neighbouring blocks take the one
// and the other half of the fibers; the rest is for streams and the host. A fiber keeps its identity, or accesses of its stack would be races.
constexpr int kIdentities = 121;  // odd: threads a power of two apart differ
Fiber* fibers_of_identities[2 * kMostThreads];
void* identities[2 * kIdentities];
int first_fiber = 0;  // of the running block

void begin_random(std::uint64_t seed) { random_state = seed * 0x9e3779b97f4a7c15u + 0x632be59bd9b4e019u; }

void become_current(Thread& thread) {
  block.current = &thread;
  thread_index = thread.index;
}

/// The first ready thread; nullptr when all wait or have ended.
Thread* take_ready() {
  for (;;) {
    Thread* const thread = block.ready;
    if (thread == nullptr) return nullptr;
    block.ready = thread->next;
    if (!block.unwinding || thread->state != State::not_begun) return thread;
    thread->state = State::ended;
    --block.alive;
  }
}

void begin_unwinding() {
  block.unwinding = true;
  for (int i = block.count - 1; i >= 0; --i) {
    Thread& thread = block.threads[i];
    if (&thread != block.current && (thread.state == State::at_barrier || thread.state == State::in_warp_operation))
      make_ready_first(thread);
  }
}

void add_to_message(const char* format, va_list arguments) {
  const UnseenAccesses unseen;
  const std::size_t length = std::strlen(block.message);
  std::vsnprintf(block.message + length, sizeof block.message - length, format, arguments);
}
__attribute__((format(printf, 1, 2))) void add_to_message(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  add_to_message(format, arguments);
  va_end(arguments);
}

void begin_message(const Thread& thread) {
  block.message[0] = '\0';
  add_to_message("block (%u,%u,%u), thread (%u,%u,%u): ", block_index.x, block_index.y, block_index.z, thread.index.x, thread.index.y,
                 thread.index.z);
}

/// Nobody can go on, yet somebody waits: says why, and lets all end.
void report_deadlock() {
  const Thread *in_warp = nullptr, *at_barrier = nullptr, *ended = nullptr;
  for (int i = block.count - 1; i >= 0; --i) {
    const Thread& thread = block.threads[i];
    if (thread.state == State::in_warp_operation) in_warp = &thread;
    if (thread.state == State::at_barrier) at_barrier = &thread;
    if (thread.state == State::ended) ended = &thread;
  }
  if (in_warp != nullptr) {
    begin_message(*in_warp);
    describe_wait_in_warp(*in_warp);
  } else if (at_barrier != nullptr && ended != nullptr) {
    begin_message(*at_barrier);
    add_to_message("deadlock: waits at the barrier in %s:%d, and thread (%u,%u,%u) ended before it", at_barrier->site.file,
                   at_barrier->site.line, ended->index.x, ended->index.y, ended->index.z);
  }
  block.current = nullptr;
  begin_unwinding();
}

Fiber* fiber_for(const Thread& thread);

/// Goes on with `thread`, from a fiber that waits or ended its thread.
void enter(Fiber& from, Thread& thread) {
  if (thread.fiber == nullptr) thread.fiber = fiber_for(thread);
  become_current(thread);
  switch_fiber(from, *thread.fiber);
}

void run_current() {
  Thread& self = *block.current;
  self.state = State::ready;
  forget_async_copies(self.number);
  acquire_token(block.kernel.begin);
  try {
    block.kernel.call(block.kernel.arguments);
  } catch (const Unwind&) {
  } catch (const std::exception& error) {
    begin_message(self);
    add_to_message("%s", error.what());
    begin_unwinding();
  } catch (...) {
    begin_message(self);
    add_to_message("an exception");
    begin_unwinding();
  }
  release_token(block.kernel.end);
  self.state = State::ended;
  --block.alive;
}

void put_back(Fiber& fiber) {
  if (fibers_are_identities()) return;
  fiber.next = idle;  // the last one used is in the cache
  idle = &fiber;
}

void fiber_main() {
  begin_fiber();
  for (;;) {
    Fiber& self = *block.current->fiber;
    run_current();
    Thread* next = take_ready();
    if (next == nullptr && block.alive > 0) {
      report_deadlock();
      next = take_ready();
    }
    if (next != nullptr && next->state == State::not_begun && !fibers_are_identities()) {
      next->fiber = &self;
      become_current(*next);
      continue;
    }
    put_back(self);
    if (next == nullptr) switch_fiber(self, block.launcher);
    else enter(self, *next);
  }
}

Fiber* new_fiber(void* identity) {
  Fiber* const fiber = make_fiber(fiber_main, identity);
  if (fiber != nullptr) return fiber;
  std::fputs("CUDA-on-host: no memory for the stack of a thread\n", stderr);
  std::abort();
}

/// All fibers of blocks of this size, made by the launcher: whoever makes an identity is ordered before it, so no thread of a block may.
void make_fibers_of_identities() {
  if (!fibers_are_identities()) return;
  for (int half = 0; half < 2; ++half) {
    for (int i = 0; i < block.count || i < kIdentities; ++i) {
      void*& identity = identities[half * kIdentities + i % kIdentities];
      if (identity == nullptr) identity = make_identity();
      Fiber*& fiber = fibers_of_identities[half * kMostThreads + i];
      if (fiber == nullptr) fiber = new_fiber(identity);
    }
  }
}

/// Small blocks go through all identities before one is used again, large ones alternate between the halves.
void choose_fibers_of_block() {
  const int half = first_fiber / kMostThreads, next = first_fiber % kMostThreads + block.count;
  first_fiber = next + block.count <= kIdentities ? half * kMostThreads + next : (1 - half) * kMostThreads;
}

Fiber* fiber_for(const Thread& thread) {
  if (fibers_are_identities()) return fibers_of_identities[first_fiber + thread.number];
  if (idle == nullptr) return new_fiber(nullptr);
  Fiber* const fiber = idle;
  idle = fiber->next;
  return fiber;
}

void shuffle_order() {
  for (int i = block.count - 1; i > 0; --i) {
    const std::uint32_t j = random_below(static_cast<std::uint32_t>(i) + 1);
    Thread* const thread = block.order[i];
    block.order[i] = block.order[j];
    block.order[j] = thread;
  }
}

void make_all_ready() {
  if (block.order_of_threads == Order::shuffle) shuffle_order();
  for (int i = block.count - 1; i >= 0; --i) {
    block.order[i]->next = block.ready;
    block.ready = block.order[i];
  }
}

void begin_block() {
  choose_fibers_of_block();
  for (int i = 0; i < block.count; ++i) {
    Thread& thread = block.threads[i];
    thread.state = State::not_begun;
    thread.fiber = nullptr;
    block.order[block.order_of_threads == Order::reverse ? block.count - 1 - i : i] = &thread;
  }
  for (Warp& warp : block.warps) warp = {};
  block.alive = block.count;
  block.at_barrier = 0;
  block.barrier_parity = 0;
  block.ready = nullptr;
  block.unwinding = false;
  block.message[0] = '\0';
  block.tokens = &static_tokens;
  // Freed with the block, which makes the sanitizer forget what they ordered.
  if (fibers_are_identities()) block.tokens = static_cast<Tokens*>(std::malloc(sizeof(Tokens)));
}

bool run_block(const Launch& launch) {
  begin_block();
  begin_shared_memory(launch.shared_bytes, launch.asks);
  make_all_ready();
  enter(block.launcher, *take_ready());  // comes back when no thread is left
  end_shared_memory();
  if (fibers_are_identities()) std::free(block.tokens);
  return block.message[0] == '\0';
}

void number_threads() {
  const Dim3 size = block_dimensions;
  block.count = static_cast<int>(size.x * size.y * size.z);
  for (int i = 0; i < block.count; ++i) {
    const unsigned int n = static_cast<unsigned int>(i);
    block.threads[i].index = {n % size.x, n / size.x % size.y, n / size.x / size.y};
    block.threads[i].number = i;
  }
}

std::uint64_t common_divisor(std::uint64_t a, std::uint64_t b) { return b == 0 ? a : common_divisor(b, a % b); }

}  // namespace

std::uint32_t random_below(std::uint32_t n) {
  random_state ^= random_state << 13;  // xorshift64 of Marsaglia
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return static_cast<std::uint32_t>((random_state >> 32) * n >> 32);
}

bool same(Site a, Site b) { return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0); }

void make_ready_first(Thread& thread) {
  thread.state = State::ready;
  thread.next = block.ready;
  block.ready = &thread;
}

void report_block(const char* format, ...) {
  if (block.message[0] != '\0') return;
  add_to_message("block (%u,%u,%u): ", block_index.x, block_index.y, block_index.z);
  va_list arguments;
  va_start(arguments, format);
  add_to_message(format, arguments);
  va_end(arguments);
}

void fail(const char* format, ...) {
  begin_message(*block.current);
  va_list arguments;
  va_start(arguments, format);
  add_to_message(format, arguments);
  va_end(arguments);
  block.current->state = State::ready;
  begin_unwinding();
  throw Unwind();
}

void suspend() {
  Thread& self = *block.current;
  Thread* next = take_ready();
  if (next == nullptr) {
    report_deadlock();
    next = take_ready();
  }
  if (next != &self) enter(*self.fiber, *next);
  else become_current(self);
  if (block.unwinding) throw Unwind();
}

void block_barrier(Site site) {
  if (block.unwinding) return;  // called by a destructor
  Thread& self = *block.current;
  if (block.at_barrier == 0) block.first_at_barrier = &self;
  const Thread& first = *block.first_at_barrier;
  if (block.at_barrier > 0 && !same(site, first.site))
    fail("divergent barrier: this one is in %s:%d, and thread (%u,%u,%u) waits at the one in %s:%d", site.file, site.line, first.index.x,
         first.index.y, first.index.z, first.site.file, first.site.line);
  const char* const token = &block.tokens->barrier[block.barrier_parity];
  release_token(token);
  self.state = State::at_barrier;
  self.site = site;
  if (++block.at_barrier == block.count) {
    block.at_barrier = 0;
    block.barrier_parity ^= 1;
    for (int i = 0; i < block.count; ++i) block.threads[i].state = State::ready;
    make_all_ready();
  }
  suspend();
  acquire_token(token);
}

void fence() {
  static char token;  // of the device: orders what came before a fence before what follows a later one
  release_token(&token);
  acquire_token(&token);
}

void run_grid(const Launch& launch, const Kernel& kernel) {
  block.kernel = kernel;
  block_dimensions = launch.block;
  grid_dimensions = launch.grid;
  number_threads();
  const Settings& how = settings();
  block.order_of_threads = how.order;
  begin_random(how.seed);
  adopt_current(block.launcher);
  release_token(kernel.begin);
  make_fibers_of_identities();
  const std::uint64_t blocks = std::uint64_t{launch.grid.x} * launch.grid.y * launch.grid.z;
  std::uint64_t step = 1, first = 0;
  if (how.order == Order::shuffle && blocks > 1) {  // i · step + first runs through all numbers below `blocks`
    first = random_below(static_cast<std::uint32_t>(blocks));
    do step = 1 + random_below(static_cast<std::uint32_t>(blocks - 1));
    while (common_divisor(step, blocks) != 1);
  } else if (how.order == Order::reverse) {
    step = first = blocks - 1;
  }
  bool ok = true;
  std::uint64_t number = first;
  for (std::uint64_t i = 0; i < blocks && ok; ++i, number = (number + step) % blocks) {
    block_index = {static_cast<unsigned int>(number % launch.grid.x), static_cast<unsigned int>(number / launch.grid.x % launch.grid.y),
                   static_cast<unsigned int>(number / launch.grid.x / launch.grid.y)};
    ok = run_block(launch);
  }
  acquire_token(kernel.end);
}

const char* grid_failure() { return block.message; }

}  // namespace elastiform::ELASTIFORM_GPU::host
