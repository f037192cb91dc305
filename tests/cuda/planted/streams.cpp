#include "tests/cuda/planted/planted.hpp"

// What the host does wrong around correct kernels.
namespace elastiform::ELASTIFORM_GPU {

namespace {

enum Bug {
  kNone,
  kNoEvent,
  kBufferWrittenEarly,
  kReadEarly,
  kHostPointer,
  kHostPointerInside,
  kHostReads,
  kUseAfterFree,
  kUseAfterFreeInList,
  kNotZeroed,
  kTooFewElements
};

struct Sum {
  float* total;
  const float* x;
};

GPU_KERNEL twice(float* x) { x[threadIdx.x] *= 2; }
GPU_KERNEL add_up(Sum sum) { atomicAdd(sum.total, sum.x[threadIdx.x]); }
GPU_KERNEL add_up_listed(const Sum* list) { atomicAdd(list[0].total, list[0].x[threadIdx.x]); }

constexpr std::int64_t kCount = 48, kBytes = kCount * 4;

/// x is copied, doubled in one stream, and summed in another.
template <Bug BUG>
bool run() {
  const std::vector<float> x = small_numbers(kCount);
  const Stream first = make_stream(), second = make_stream();
  const Event doubled = make_event();
  auto* const pinned = static_cast<float*>(allocate_pinned(kBytes));
  auto* const result = static_cast<float*>(allocate_pinned(4));
  auto* data = static_cast<float*>(allocate_on_device(BUG == kTooFewElements ? kBytes - 4 : kBytes));
  DeviceArray<float> total(1);
  for (std::size_t i = 0; i < x.size(); ++i) pinned[i] = x[i];
  const DeviceArray<Sum> list(std::vector<Sum>{{total.data(), data}});  // nobody looks at the pointers in there before a kernel does
  *result = 0;
  if (BUG != kNotZeroed) total.assign({0});
  copy_async(first, data, kBytes, pinned, kBytes, BUG == kTooFewElements ? kBytes - 4 : kBytes, 1);
  if (BUG == kBufferWrittenEarly) pinned[5] = 100;
  launch({"twice", {1}, {kCount}, 0, first}, twice, BUG == kHostPointer ? pinned : data);
  record(doubled, first);
  if (BUG != kNoEvent) wait(second, doubled);
  constexpr bool kFreesEarly = BUG == kUseAfterFree || BUG == kUseAfterFreeInList;
  if (kFreesEarly) free_on_device(data);  // which waits for the doubling, but the sum comes later
  if (BUG == kUseAfterFreeInList) launch({"add_up_listed", {1}, {kCount}, 0, second}, add_up_listed, list.data());
  else launch({"add_up", {1}, {kCount}, 0, second}, add_up, Sum{total.data(), BUG == kHostPointerInside ? pinned : data});
  copy_async(second, result, 4, total.data(), 4, 4, 1);
  if (BUG != kReadEarly) synchronize(second);
  if (BUG == kHostReads) *result = static_cast<volatile float*>(total.data())[0];
  float expected = 0;
  for (const float value : x) expected += 2 * value;
  const bool right = *result == expected;
  synchronize(second);
  if (!kFreesEarly) free_on_device(data);
  free_pinned(pinned);
  free_pinned(result);
  destroy(doubled);
  destroy(first);
  destroy(second);
  return right;
}

}  // namespace

std::vector<Planted> planted_in_streams() {
  return {
      {"none: two streams", 0, Sign::none, run<kNone>},
      {"a stream does not wait for the other", kAnyOrder | kThreadSanitizer, Sign::wrong_result, run<kNoEvent>},
      {"a pinned buffer is written before its copy is done", kAnyOrder | kThreadSanitizer, Sign::wrong_result, run<kBufferWrittenEarly>},
      {"a result is read before the stream is done", kAnyOrder | kThreadSanitizer, Sign::wrong_result, run<kReadEarly>},
      {"a kernel gets a pointer to memory of the host", kAnyOrder, Sign::report, run<kHostPointer>},
      {"a kernel gets a pointer to memory of the host inside a struct", kAnyOrder, Sign::report, run<kHostPointerInside>},
      {"the host reads memory of the device", kAnyOrder, Sign::crash, run<kHostReads>},
      {"a kernel gets memory that was freed", kAnyOrder, Sign::report, run<kUseAfterFree>},
      {"a kernel reads memory that was freed", kAnyOrder | kAddressSanitizer, Sign::wrong_result, run<kUseAfterFreeInList>},
      {"a sum begins with memory that was not zeroed", kAnyOrder, Sign::wrong_result, run<kNotZeroed>},
      {"an allocation is one element too small", kAnyOrder | kAddressSanitizer, Sign::wrong_result, run<kTooFewElements>},
  };
}

}  // namespace elastiform::ELASTIFORM_GPU
