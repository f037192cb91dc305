#include <cstdio>
#include <cstring>

#include "kernels/cuda_on_host/block.hpp"
#include "kernels/cuda_on_host/numbers.hpp"

// Operations that the lanes of a warp do together: each lane leaves what it brings, and the last of the mask does the work for all.
namespace elastiform::ELASTIFORM_GPU::host {

namespace {

int lane_of(const Thread& thread) { return thread.number % kWarp; }
Warp& warp_of(const Thread& thread) { return block.warps[thread.number / kWarp]; }
bool has(std::uint32_t mask, int lane) { return (mask >> lane & 1) != 0; }
/// The thread of that lane in the running thread's warp.
Thread& lane_thread(int lane) { return block.threads[block.current->number / kWarp * kWarp + lane]; }

/// The lane whose value this one receives; its own where CUDA says so.
int source_lane(const WarpCall& call, int lane) {
  const int end = (lane / call.width + 1) * call.width, begin = end - call.width;
  int source = lane;
  switch (call.operation) {
    case WarpOperation::shuffle: source = begin + (call.argument & (call.width - 1)); break;
    case WarpOperation::shuffle_up: source = lane - call.argument; break;
    case WarpOperation::shuffle_down: source = lane + call.argument; break;
    default: source = lane ^ call.argument; break;
  }
  const bool outside = source >= end || (call.operation == WarpOperation::shuffle_up && source < begin);
  return outside ? lane : source;
}

void do_shuffle(std::uint32_t mask) {
  std::uint64_t values[kWarp];
  for (int lane = 0; lane < kWarp; ++lane)
    if (has(mask, lane)) values[lane] = lane_thread(lane).call.value;
  for (int lane = 0; lane < kWarp; ++lane) {
    if (!has(mask, lane)) continue;
    WarpCall& call = lane_thread(lane).call;
    const int source = source_lane(call, lane);
    if (!has(mask, source))
      fail("%s in %s:%d with mask 0x%08x: lane %d reads lane %d, which the mask lacks", name_of(call.operation), call.site.file,
           call.site.line, mask, lane, source);
    call.value = values[source];
  }
}

void do_ballot(std::uint32_t mask) {
  std::uint32_t votes = 0;
  for (int lane = 0; lane < kWarp; ++lane)
    if (has(mask, lane) && lane_thread(lane).call.value != 0) votes |= 1u << lane;
  for (int lane = 0; lane < kWarp; ++lane)
    if (has(mask, lane)) lane_thread(lane).call.value = votes;
}

/// Register j of lane i: of matrix j row i / 4, columns 2 · (i % 4) and the next; transposed: of column i / 4, those rows.
void do_load_matrices() {
  for (int lane = 0; lane < kWarp; ++lane) {
    const WarpCall& call = lane_thread(lane).call;
    const int outer = lane / 4, inner = 2 * (lane % 4);
    for (int j = 0; j < 4; ++j) {
      const auto element = [&](int i) {
        const std::uint32_t bits = call.flag ? lane_thread(8 * j + i).call.row[outer] : lane_thread(8 * j + outer).call.row[i];
        return bits;
      };
      call.registers[j] = element(inner) | element(inner + 1) << 16;
    }
  }
}

float number(std::uint32_t bits, bool is_float16) {
  const auto half = static_cast<std::uint16_t>(bits);
  return is_float16 ? float_of_float16(half) : float_of_bfloat16(half);
}

/// The fragments of m16n8k16: lane i holds of a the rows i / 4 and that + 8, columns 2 · (i % 4) and the next, and those + 8; of b
/// these as rows, column i / 4; of d those rows of a, columns 2 · (i % 4) and the next.
void do_multiply() {
  constexpr int kM = 16, kN = 8, kK = 16;
  float a[kM][kK], b[kK][kN], d[kM][kN];
  for (int lane = 0; lane < kWarp; ++lane) {
    const WarpCall& call = lane_thread(lane).call;
    const int outer = lane / 4, inner = 2 * (lane % 4);
    for (int half = 0; half < 2; ++half) {
      for (int j = 0; j < 4; ++j) a[outer + 8 * (j % 2)][inner + 8 * (j / 2) + half] = number(call.a[j] >> 16 * half, call.flag);
      for (int j = 0; j < 2; ++j) b[inner + 8 * j + half][outer] = number(call.b[j] >> 16 * half, call.flag);
      for (int j = 0; j < 2; ++j) d[outer + 8 * j][inner + half] = call.d[2 * j + half];
    }
  }
  for (int m = 0; m < kM; ++m)
    for (int k = 0; k < kK; ++k)
      for (int n = 0; n < kN; ++n) d[m][n] += a[m][k] * b[k][n];
  for (int lane = 0; lane < kWarp; ++lane) {
    float* const registers = lane_thread(lane).call.d;
    for (int j = 0; j < 4; ++j) registers[j] = d[lane / 4 + 8 * (j / 2)][2 * (lane % 4) + j % 2];
  }
}

void perform(WarpOperation operation, std::uint32_t mask) {
  switch (operation) {
    case WarpOperation::barrier: break;
    case WarpOperation::ballot: do_ballot(mask); break;
    case WarpOperation::load_matrices: do_load_matrices(); break;
    case WarpOperation::multiply: do_multiply(); break;
    default: do_shuffle(mask); break;
  }
}

/// In the order in which threads go on; a shuffled one is made from a random first lane and an odd step.
void make_lanes_ready(std::uint32_t mask) {
  std::uint32_t first = kWarp - 1, step = kWarp - 1;  // the last becomes the first of the list
  if (block.order_of_threads == Order::reverse) first = 0, step = 1;
  if (block.order_of_threads == Order::shuffle) first = random_below(kWarp), step = 2 * random_below(kWarp / 2) + 1;
  for (std::uint32_t i = 0, lane = first; i < kWarp; ++i, lane = (lane + step) % kWarp)
    if (has(mask, static_cast<int>(lane))) make_ready_first(lane_thread(static_cast<int>(lane)));
}

int lowest_lane(std::uint32_t mask) { return __builtin_ctz(mask); }

/// Lanes that wait for each other in different operations never meet.
void check_meeting(const WarpCall& call, int lane, std::uint32_t waiting) {
  if ((waiting & call.mask) == 0) return;
  const int other_lane = lowest_lane(waiting & call.mask);
  const WarpCall& other = lane_thread(other_lane).call;
  if (!has(other.mask, lane)) return;
  if (other.operation == call.operation && other.mask == call.mask && same(other.site, call.site)) return;
  fail("lanes of a warp meet in different operations: lane %d in %s with mask 0x%08x in %s:%d, lane %d in %s with mask 0x%08x in %s:%d",
       lane, name_of(call.operation), call.mask, call.site.file, call.site.line, other_lane, name_of(other.operation), other.mask,
       other.site.file, other.site.line);
}

/// Waits for the other lanes; afterwards the thread's call holds its result.
void meet(const WarpCall& call) {
  if (block.unwinding) return;  // called by a destructor
  Thread& self = *block.current;
  Warp& warp = warp_of(self);
  const int lane = lane_of(self);
  if (!has(call.mask, lane))
    fail("%s in %s:%d with mask 0x%08x, which lacks the calling lane %d", name_of(call.operation), call.site.file, call.site.line,
         call.mask, lane);
  check_meeting(call, lane, warp.waiting);
  self.call = call;
  self.state = State::in_warp_operation;
  warp.waiting |= 1u << lane;
  bool all = (warp.waiting & call.mask) == call.mask;
  for (int i = 0; i < kWarp && all; ++i) all = !has(call.mask, i) || lane_thread(i).call.mask == call.mask;
  if (all) {
    perform(call.operation, call.mask);
    warp.waiting &= ~call.mask;
    warp.parity ^= 1u << lowest_lane(call.mask);
    make_lanes_ready(call.mask);
  }
  suspend();
}

}  // namespace

const char* name_of(WarpOperation operation) {
  constexpr const char* kNames[] = {"__syncwarp",      "__shfl_sync",         "__shfl_up_sync", "__shfl_down_sync",
                                    "__shfl_xor_sync", "a vote of the lanes", "ldmatrix",       "mma"};
  return kNames[static_cast<int>(operation)];
}

void describe_wait_in_warp(const Thread& thread) {
  const UnseenAccesses unseen;
  const WarpCall& call = thread.call;
  int missing = 0;
  for (int lane = 0; lane < kWarp; ++lane) {
    const int number = thread.number / kWarp * kWarp + lane;
    const Thread& other = block.threads[number];
    const bool here = number < block.count && other.state == State::in_warp_operation && other.call.mask == call.mask;
    if (has(call.mask, lane) && !here) {
      missing = lane;
      break;
    }
  }
  const int number = thread.number / kWarp * kWarp + missing;
  const Thread& other = block.threads[number];
  char where[300] = "which has ended";
  if (number >= block.count) std::snprintf(where, sizeof where, "which the block does not have");
  else if (other.state == State::at_barrier)
    std::snprintf(where, sizeof where, "which waits at the barrier in %s:%d", other.site.file, other.site.line);
  else if (other.state == State::in_warp_operation)
    std::snprintf(where, sizeof where, "which waits in %s with mask 0x%08x in %s:%d", name_of(other.call.operation), other.call.mask,
                  other.call.site.file, other.call.site.line);
  const std::size_t length = std::strlen(block.message);
  std::snprintf(block.message + length, sizeof block.message - length, "deadlock: waits in %s with mask 0x%08x in %s:%d for lane %d, %s",
                name_of(call.operation), call.mask, call.site.file, call.site.line, missing, where);
}

void warp_barrier(std::uint32_t mask, Site site) {
  const Warp& warp = warp_of(*block.current);
  const int lowest = mask == 0 ? 0 : lowest_lane(mask);
  const char* const token = &block.tokens->warp[block.current->number / kWarp][lowest][warp.parity >> lowest & 1];
  release_token(token);
  meet({WarpOperation::barrier, mask, site});
  acquire_token(token);
}

std::uint64_t shuffle(WarpOperation kind, std::uint32_t mask, std::uint64_t value, int argument, int width, Site site) {
  if (width < 1 || width > kWarp || (width & (width - 1)) != 0)
    fail("%s in %s:%d: width %d is no power of two up to 32", name_of(kind), site.file, site.line, width);
  Thread& self = *block.current;
  meet({kind, mask, site, value, argument, width});
  return self.call.value;
}

std::uint32_t ballot(std::uint32_t mask, bool vote, Site site) {
  Thread& self = *block.current;
  meet({WarpOperation::ballot, mask, site, vote ? 1u : 0u});
  return static_cast<std::uint32_t>(self.call.value);
}

void load_matrices(const std::uint16_t (&row)[8], bool transposed, std::uint32_t (&r)[4], Site site) {
  WarpCall call{WarpOperation::load_matrices, 0xffffffffu, site};
  call.flag = transposed;
  call.row = row;
  call.registers = r;
  meet(call);
}

void multiply(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0, std::uint32_t b1, bool is_float16, Site site) {
  WarpCall call{WarpOperation::multiply, 0xffffffffu, site};
  call.flag = is_float16;
  call.d = d;
  call.a = a;
  call.b[0] = b0;
  call.b[1] = b1;
  meet(call);
}

}  // namespace elastiform::ELASTIFORM_GPU::host
