#include <signal.h>
#include <stdlib.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

#include "kernels/cuda/gpu.hpp"
#include "kernels/cuda/last_launches.hpp"
#include "kernels/errors.hpp"
#include "tests/cuda/launches.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/child.hpp"
#include "tests/support/device_array.hpp"
#include "tests/support/sanitized.hpp"

namespace elastiform::ELASTIFORM_GPU {

namespace {

using Catch::Matchers::Contains;

GPU_KERNEL add(float* x, float value) { x[threadIdx.x] += value; }
GPU_KERNEL copy_plus(const float* x, float* y, float value) { y[threadIdx.x] = x[threadIdx.x] + value; }
GPU_KERNEL breaks() { throw std::runtime_error("broken"); }

/// Host memory that a stream may use later.
struct Pinned {
  explicit Pinned(int count) : data(static_cast<float*>(allocate_pinned(count * 4))) {}
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  ~Pinned() { free_pinned(data); }
  float* data;
};

void copy_floats(Stream stream, float* to, const float* from, std::int64_t count) { copy_async(stream, to, 0, from, 0, count * 4, 1); }

struct TwoStreams {
  Stream a = make_stream(), b = make_stream();
  Event event = make_event(true);
  TwoStreams() = default;
  TwoStreams(const TwoStreams&) = delete;
  TwoStreams& operator=(const TwoStreams&) = delete;
  ~TwoStreams() {
    destroy(event);
    destroy(a);
    destroy(b);
  }
};

/// The variables that settings read, unset at the end of the scope.
struct Environment {
  void set(const char* name, const char* value) const { ::setenv(name, value, 1); }
  Environment() = default;
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() {
    for (const char* name : {"ELASTIFORM_CUDA_ON_HOST_ORDER", "ELASTIFORM_CUDA_ON_HOST_STREAMS", "ELASTIFORM_CUDA_ON_HOST_MEMORY"})
      ::unsetenv(name);
  }
};

}  // namespace

TEST_CASE("work waits in its stream until somebody waits for it", "[cuda]") {
  const DeviceArray<float> x(std::vector<float>(8, 1.0f));
  const Pinned out(8);
  out.data[0] = -1;
  launch({"add", {1}, {8}}, add, x.data(), 2);
  copy_floats(nullptr, out.data, x.data(), 8);
  if (!kSanitized) CHECK(out.data[0] == -1);  // ThreadSanitizer would rightly report this
  synchronize(nullptr);
  CHECK(out.data[0] == 3);
  set_queued(false);
  launch({"add", {1}, {8}}, add, x.data(), 2);
  copy_floats(nullptr, out.data, x.data(), 8);
  CHECK(out.data[0] == 5);
  set_queued(true);
}

TEST_CASE("a pinned buffer that is written too early reaches the device changed", "[cuda]") {
  const DeviceArray<float> x(1);
  const Pinned in(1);
  in.data[0] = 1;
  copy_floats(nullptr, x.data(), in.data, 1);
  if (!kSanitized) {  // as above
    in.data[0] = 2;
    CHECK(x.values() == std::vector<float>{2});
  }
  float pageable = 4;
  copy_floats(nullptr, x.data(), &pageable, 1);  // returns when it is done
  pageable = 5;
  CHECK(x.values() == std::vector<float>{4});
}

TEST_CASE("a stream waits for an event of another, and not for what follows it", "[cuda]") {
  TwoStreams streams;
  const DeviceArray<float> x(std::vector<float>{1}), y(std::vector<float>{0});
  launch({"add", {1}, {1}, 0, streams.a}, add, x.data(), 10);
  record(streams.event, streams.a);
  if (!kSanitized) launch({"add", {1}, {1}, 0, streams.a}, add, x.data(), 100);  // a race with the other stream, were it run before
  wait(streams.b, streams.event);
  launch({"copy_plus", {1}, {1}, 0, streams.b}, copy_plus, x.data(), y.data(), 0);
  CHECK(y.values(streams.b) == std::vector<float>{11});
  CHECK(x.values(streams.a) == std::vector<float>{kSanitized ? 11.0f : 111.0f});
  // Without the event the other stream is not waited for.
  if (!kSanitized) {
    launch({"add", {1}, {1}, 0, streams.a}, add, x.data(), 1);
    launch({"copy_plus", {1}, {1}, 0, streams.b}, copy_plus, x.data(), y.data(), 0);
    CHECK(y.values(streams.b) == std::vector<float>{111});
  }
}

TEST_CASE("an event tells that what came before it is done, and when", "[cuda]") {
  TwoStreams streams;
  const Event never = make_event();
  CHECK(has_happened(never));
  wait(streams.a, never);
  destroy(never);
  const DeviceArray<float> x(std::vector<float>{1});
  const Pinned out(1);
  const Event begin = make_event(true);
  record(begin, streams.a);
  launch({"add", {1}, {1}, 0, streams.a}, add, x.data(), 1);
  copy_floats(streams.a, out.data, x.data(), 1);
  record(streams.event, streams.a);
  CHECK(has_happened(streams.event));
  CHECK(out.data[0] == 2);
  CHECK(milliseconds_between(begin, streams.event) >= 0);
  const Event untimed = make_event();
  record(untimed, streams.a);
  CHECK_THROWS_WITH(milliseconds_between(begin, untimed), Contains("measures no time"));
  destroy(untimed);
  destroy(begin);
}

TEST_CASE("the last launches are told, the youngest first", "[cuda]") {
  LastLaunches last;
  CHECK(last.text().empty());
  last.add({"a", {1}, {8}});
  CHECK(last.text() == "; the last launches: a on 1x1x1 blocks of 8x1x1 threads, 0 bytes of shared memory");
  for (const char* const name : {"b", "c", "d", "e", "f"}) last.add({name, {1}, {8}});
  CHECK_THAT(last.text(), Contains("the last launches: f on 1x1x1") && Contains(", before it c on ") && !Contains(" b on "));
}

TEST_CASE("after a failure what waited is lost, and it is told once", "[cuda]") {
  TwoStreams streams;
  const DeviceArray<float> x(std::vector<float>{1});
  launch({"breaks", {1}, {1}, 0, streams.a}, breaks);
  launch({"add", {1}, {1}, 0, streams.a}, add, x.data(), 1);
  CHECK_THAT(failure_of(streams.a), Contains("CUDA kernel breaks on 1x1x1 blocks") && Contains("broken"));
  CHECK(failure_of(streams.a).empty());
  CHECK(x.values() == std::vector<float>{1});
}

TEST_CASE("kernels may be launched from several threads", "[cuda]") {
  constexpr int kRounds = 50;
  const DeviceArray<float> x(std::vector<float>(64)), y(std::vector<float>(64));
  const auto run = [](float* data) {
    const Stream stream = make_stream();
    for (int i = 0; i < kRounds; ++i) {
      launch({"add", {1}, {64}, 0, stream}, add, data, 1);
      synchronize(stream);
    }
    destroy(stream);
  };
  std::thread other(run, x.data());
  run(y.data());
  other.join();
  CHECK(x.values() == std::vector<float>(64, kRounds));
  CHECK(y.values() == std::vector<float>(64, kRounds));
}

TEST_CASE("rows are copied between pitches, in every direction", "[cuda]") {
  const DeviceArray<float> device(12), second(12);
  const std::vector<float> from{1, 2, 3, 4, 5, 6};
  std::vector<float> to(10, -1);
  copy_async(nullptr, device.data(), 16, from.data(), 8, 8, 3);     // rows of 2, 4 apart
  copy_async(nullptr, second.data(), 12, device.data(), 16, 8, 3);  // 3 apart
  copy_async(nullptr, to.data() + 1, 16, second.data(), 12, 8, 2);  // the first two rows
  CHECK(to == std::vector<float>{-1, 1, 2, -1, -1, 3, 4, -1, -1, -1});
  CHECK_THROWS_WITH(copy_async(nullptr, to.data(), 16, device.data(), 16, 8, 4), Contains("leaves its memory of the device"));
  copy_async(nullptr, nullptr, 0, nullptr, 0, 0, 1);  // nothing
}

TEST_CASE("memory of the device is new, aligned, and counted", "[cuda]") {
  const DeviceMemory before = device_memory();
  auto* const x = static_cast<float*>(allocate_on_device(1000));
  CHECK(reinterpret_cast<std::uintptr_t>(x) % 256 == 0);
  CHECK(device_memory().free == before.free - 1024);
  CHECK(is_on_device(x));
  CHECK(is_on_device(reinterpret_cast<char*>(x) + 999));
  CHECK_FALSE(is_on_device(reinterpret_cast<char*>(x) + 1000));
  CHECK_FALSE(is_on_device(&before));
  std::vector<float> values(250);
  copy_floats(nullptr, values.data(), x, 250);
  for (const float value : values) CHECK(std::isnan(value));
  free_on_device(x);
  CHECK_FALSE(is_on_device(x));
  CHECK(device_memory().free == before.free);
  CHECK(allocate_on_device(0) == nullptr);
  CHECK_THROWS_AS(free_on_device(x), std::logic_error);
  CHECK_THROWS_AS(allocate_on_device(-1), std::logic_error);
  const std::string asked = std::to_string(before.total + 1);
  CHECK_THROWS_WITH(allocate_on_device(before.total + 1),
                    Contains(asked + " bytes of device memory were asked for, and " + std::to_string(before.free) + " of " +
                             std::to_string(before.total) + " are free"));
  CHECK_THAT(device_name(), Contains("host"));
}

TEST_CASE("what is freed is not given out again at once, but after all else", "[cuda]") {
  void* const first = allocate_on_device(256);
  free_on_device(first);
  void* const second = allocate_on_device(256);
  CHECK(second != first);
  free_on_device(second);
}

TEST_CASE("the host cannot touch memory of the device", "[cuda]") {
  const DeviceArray<float> x(std::vector<float>{1, 2});
  launch({"add", {1}, {2}}, add, x.data(), 1);
  synchronize(nullptr);
  const ChildResult reads = run_in_child([&] { return static_cast<const volatile float*>(x.data())[0] == 0 ? 1 : 0; });
  const ChildResult writes = run_in_child([&] {
    static_cast<volatile float*>(x.data())[0] = 0;
    return 0;
  });
  CHECK_FALSE(reads.ended_well());
  CHECK_FALSE(writes.ended_well());
  if (!kSanitized) CHECK(reads.signal == SIGSEGV);
  CHECK(run_in_child([&] { return x.values() == std::vector<float>{2, 3} ? 0 : 1; }).ended_well());  // nor does a child lose it
}

TEST_CASE("the environment says how kernels run", "[cuda]") {
  const Environment environment;
  const host::Settings usual = host::settings_from_environment();
  CHECK(usual.order == Order::forward);
  CHECK(usual.queued);
  CHECK(usual.memory_bytes == std::int64_t{4} << 30);
  environment.set("ELASTIFORM_CUDA_ON_HOST_ORDER", "shuffle:12");
  environment.set("ELASTIFORM_CUDA_ON_HOST_STREAMS", "at-once");
  environment.set("ELASTIFORM_CUDA_ON_HOST_MEMORY", "1000000");
  const host::Settings other = host::settings_from_environment();
  CHECK(other.order == Order::shuffle);
  CHECK(other.seed == 12);
  CHECK_FALSE(other.queued);
  CHECK(other.memory_bytes == 1000000);
  environment.set("ELASTIFORM_CUDA_ON_HOST_ORDER", "reverse");
  CHECK(host::settings_from_environment().order == Order::reverse);
  for (const char* text : {"backward", "shuffle", "shuffle:", "shuffle:x", "shuffle:1x"}) {
    environment.set("ELASTIFORM_CUDA_ON_HOST_ORDER", text);
    CHECK_THROWS_AS(host::settings_from_environment(), InputError);
  }
  environment.set("ELASTIFORM_CUDA_ON_HOST_ORDER", "forward");
  for (const char* text : {"0", "-1", "4G", "9999999999999999999"}) {
    environment.set("ELASTIFORM_CUDA_ON_HOST_MEMORY", text);
    CHECK_THROWS_WITH(host::settings_from_environment(),
                      Contains("ELASTIFORM_CUDA_ON_HOST_MEMORY: expected bytes, from 1 to 1099511627776"));
  }
  environment.set("ELASTIFORM_CUDA_ON_HOST_MEMORY", "1");
  environment.set("ELASTIFORM_CUDA_ON_HOST_STREAMS", "later");
  CHECK_THROWS_WITH(host::settings_from_environment(), Contains("expected queued or at-once, found later"));
}

}  // namespace elastiform::ELASTIFORM_GPU
