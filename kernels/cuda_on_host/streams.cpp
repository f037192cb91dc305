#include "kernels/cuda_on_host/streams.hpp"

#include <chrono>
#include <cstdint>
#include <cstring>
#include <deque>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda_on_host/device_calls.hpp"
#include "kernels/cuda_on_host/device_memory.hpp"
#include "kernels/cuda_on_host/fiber.hpp"
#include "kernels/cuda_on_host/settings.hpp"

namespace elastiform::ELASTIFORM_GPU {

namespace {

struct Queue;

/// Something that waits in a stream: work, or another stream up to a place in it.
struct Item {
  std::unique_ptr<host::Work> work;
  std::shared_ptr<Queue> other;
  std::int64_t place = 0;
  const void* happened = nullptr;  // the event's token
  Launch launch{};                 // work's, which is not the host's to read any more
};

/// A stream's work in the order in which it runs. For ThreadSanitizer a stream is a thread of its own, which is ordered after the host by
/// what the host gives it, and before the host by waiting for it.
struct Queue {
  std::deque<Item> items;
  std::int64_t added = 0, done = 0;
  Graph recording = nullptr;
  host::Fiber* fiber = host::make_stream_fiber();
  char token = 0;

  Queue() = default;
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;
  ~Queue() { host::destroy_stream_fiber(fiber); }
};

}  // namespace

struct GraphOfTheDevice {
  std::vector<std::shared_ptr<host::Work>> works;
};

struct StreamOfTheDevice {
  std::shared_ptr<Queue> queue = std::make_shared<Queue>();
};

struct EventOfTheDevice {
  std::shared_ptr<Queue> queue;  // none: never recorded
  std::int64_t place = 0;
  std::chrono::steady_clock::time_point when;
  bool measures_time = false;
  char token = 0;
};

namespace {

std::mutex mutex;  // over all streams: one thing runs at a time
std::string failure;

/// Stands for nullptr. Unlike CUDA's it is a stream like any other: nothing waits for it unasked.
Stream default_stream() {
  static auto* const theirs = new StreamOfTheDevice;
  return theirs;
}

std::set<Stream>& streams() {
  static auto* const theirs = new std::set<Stream>{default_stream()};
  return *theirs;
}

Queue& queue_of(Stream stream) { return *(stream == nullptr ? default_stream() : stream)->queue; }

/// As the stream itself: the work's memory, too, is its own by now.
void run_and_delete(void* data) {
  auto* const work = static_cast<host::Work*>(data);
  work->run();
  delete work;
}

void run_until(Queue& queue, std::int64_t place);

void run_first(Queue& queue) {
  Item item = std::move(queue.items.front());
  queue.items.pop_front();
  ++queue.done;
  if (item.other != nullptr) {
    run_until(*item.other, item.place);
    host::run_on(
        queue.fiber, item.happened, &queue.token, [](void*) {}, nullptr);
    return;
  }
  host::Work* const work = item.work.release();
  host::run_on(queue.fiber, work, &queue.token, run_and_delete, work);
  if (item.launch.block.x == 0 || *host::grid_failure() == '\0') return;
  host::acquire_token(&queue.token);
  failure = "CUDA kernel " + text(item.launch) + ": " + host::grid_failure();
}

/// After a failure nothing runs until somebody has heard of it; what waited is lost, as on a GPU.
void run_until(Queue& queue, std::int64_t place) {
  while (queue.done < place && failure.empty()) run_first(queue);
  if (failure.empty()) return;
  for (const Stream stream : streams()) {
    stream->queue->items.clear();
    stream->queue->done = stream->queue->added;
  }
}

void wait_for(Queue& queue, std::int64_t place) {
  {
    const host::DeviceAccess access;
    run_until(queue, place);
  }
  host::acquire_token(&queue.token);
  if (!failure.empty()) throw DeviceError(std::exchange(failure, std::string()));
}

void put(Queue& queue, Item item) {
  queue.items.push_back(std::move(item));
  ++queue.added;
  if (!host::settings().queued) wait_for(queue, queue.added);
}

void add(Queue& queue, std::unique_ptr<host::Work> work) {
  if (queue.recording != nullptr) return queue.recording->works.push_back(std::move(work));
  Item item;
  item.launch = work->launch();
  host::release_token(work.get());
  item.work = std::move(work);
  put(queue, std::move(item));
}

struct Copy {
  char* to;
  std::int64_t to_pitch;
  const char* from;
  std::int64_t from_pitch, bytes, rows;
};

class CopyWork final : public host::Work {
 public:
  explicit CopyWork(const Copy& copy) : Work({"copy", {0, 0, 0}, {0, 0, 0}}), copy_(copy) {}
  void run() override {
    for (std::int64_t i = 0; i < copy_.rows; ++i)
      std::memcpy(copy_.to + i * copy_.to_pitch, copy_.from + i * copy_.from_pitch, static_cast<std::size_t>(copy_.bytes));
  }
  void check_pointers() const override {  // of one that was recorded: within the device
    if (!host::holds(copy_.to, (copy_.rows - 1) * copy_.to_pitch + copy_.bytes) ||
        !host::holds(copy_.from, (copy_.rows - 1) * copy_.from_pitch + copy_.bytes))
      throw DeviceError("CUDA-on-host: a recorded copy from or to memory that was freed");
  }

 private:
  Copy copy_;
};

class RecordWork final : public host::Work {
 public:
  explicit RecordWork(Event event) : Work({"event", {0, 0, 0}, {0, 0, 0}}), event_(event) {}
  void run() override {
    event_->when = std::chrono::steady_clock::now();
    host::release_token(&event_->token);
  }

 private:
  Event event_;
};

/// Work of a graph, once more.
class PlayedWork final : public host::Work {
 public:
  explicit PlayedWork(std::shared_ptr<host::Work> recorded) : Work(recorded->launch()), recorded_(std::move(recorded)) {}
  void run() override { recorded_->run(); }

 private:
  std::shared_ptr<host::Work> recorded_;
};

using Lock = std::lock_guard<std::mutex>;

void refuse_while_recording(const Queue& queue, const char* what) {
  if (queue.recording != nullptr) throw DeviceError(std::string("CUDA-on-host: a stream that records refuses ") + what);
}

[[noreturn]] void refuse(const Launch& l, const std::string& why) { throw DeviceError("CUDA kernel " + text(l) + ": " + why); }

}  // namespace

void host::check(const Launch& l) {
  constexpr unsigned int kMostX = 0x7fffffff, kMostYZ = 65535, kMostThreads = 1024, kMostDepth = 64;
  constexpr std::size_t kMostShared = 227 << 10, kWithoutAsking = 48 << 10;
  const auto in = [](unsigned int n, unsigned int most) { return n >= 1 && n <= most; };
  if (!in(l.grid.x, kMostX) || !in(l.grid.y, kMostYZ) || !in(l.grid.z, kMostYZ))
    refuse(l, "a grid has 1 to 2147483647 x 65535 x 65535 blocks");
  if (!in(l.block.x, kMostThreads) || !in(l.block.y, kMostThreads) || !in(l.block.z, kMostDepth) ||
      l.block.x * l.block.y * l.block.z > kMostThreads)
    refuse(l, "a block has 1 to 1024 threads, at most 64 in z");
  if (!l.asks && l.shared_bytes > kWithoutAsking) refuse(l, "a launch that does not ask has 49152 bytes of shared memory");
  if (l.shared_bytes > kMostShared) refuse(l, "a block has at most " + std::to_string(kMostShared) + " bytes of shared memory");
}

void host::check_pointer(const Launch& l, int argument, const void* pointer) {
  if (pointer != nullptr && !holds(pointer, 0))
    refuse(l, "argument " + std::to_string(argument) + " is, or holds, a pointer to other memory than the device's");
}

void host::enqueue(Stream stream, std::unique_ptr<Work> work) {
  const Lock lock(mutex);
  add(queue_of(stream), std::move(work));
}

void host::finish_all() {
  const Lock lock(mutex);
  const DeviceAccess access;
  for (const Stream stream : streams()) {
    run_until(*stream->queue, stream->queue->added);
    acquire_token(&stream->queue->token);
  }
}

Stream make_stream() {
  const Lock lock(mutex);
  const Stream stream = new StreamOfTheDevice;
  streams().insert(stream);
  return stream;
}

void destroy(Stream stream) {
  if (stream == nullptr) return;
  const Lock lock(mutex);
  const host::DeviceAccess access;
  run_until(*stream->queue, stream->queue->added);
  streams().erase(stream);
  delete stream;
}

void synchronize(Stream stream) {
  host::count_wait();
  const Lock lock(mutex);
  refuse_while_recording(queue_of(stream), "synchronize");
  wait_for(queue_of(stream), queue_of(stream).added);
}

void synchronize_device() {
  host::count_wait();
  host::finish_all();
}

void begin_recording(Stream stream) {
  const Lock lock(mutex);
  Queue& queue = queue_of(stream);
  refuse_while_recording(queue, "to begin recording");
  queue.recording = new GraphOfTheDevice;
}

Graph end_recording(Stream stream) {
  const Lock lock(mutex);
  Queue& queue = queue_of(stream);
  if (queue.recording == nullptr) throw DeviceError("CUDA-on-host: the stream does not record");
  return std::exchange(queue.recording, nullptr);
}

void play(Graph graph, Stream stream) {
  for (const std::shared_ptr<host::Work>& work : graph->works) work->check_pointers();
  const Lock lock(mutex);
  for (const std::shared_ptr<host::Work>& work : graph->works) add(queue_of(stream), std::make_unique<PlayedWork>(work));
}

void destroy(Graph graph) {
  const Lock lock(mutex);
  const host::DeviceAccess access;
  for (const Stream stream : streams()) run_until(*stream->queue, stream->queue->added);  // what was played may still wait
  delete graph;
}

Event make_event(bool measures_time) {
  const Event event = new EventOfTheDevice;
  event->measures_time = measures_time;
  return event;
}

void destroy(Event event) {
  if (event == nullptr) return;
  const Lock lock(mutex);
  if (event->queue != nullptr) {
    const host::DeviceAccess access;
    run_until(*event->queue, event->place);
    host::acquire_token(&event->queue->token);  // its record is over, ThreadSanitizer too must see
  }
  delete event;
}

void record(Event event, Stream stream) {
  const Lock lock(mutex);
  refuse_while_recording(queue_of(stream), "an event");
  event->queue = (stream == nullptr ? default_stream() : stream)->queue;
  event->place = event->queue->added + 1;
  add(*event->queue, std::make_unique<RecordWork>(event));
}

void wait(Stream stream, Event event) {
  const Lock lock(mutex);
  if (event->queue == nullptr) return;
  refuse_while_recording(queue_of(stream), "to wait for an event");
  put(queue_of(stream), {nullptr, event->queue, event->place, &event->token, {}});
}

bool has_happened(Event event) {
  const Lock lock(mutex);
  if (event->queue != nullptr) {
    wait_for(*event->queue, event->place);
    host::acquire_token(&event->token);
  }
  return true;
}

float milliseconds_between(Event begin, Event end) {
  if (!begin->measures_time || !end->measures_time) throw DeviceError("CUDA-on-host: an event that measures no time");
  has_happened(begin);
  has_happened(end);
  return std::chrono::duration<float, std::milli>(end->when - begin->when).count();
}

void copy_async(Stream stream, void* to, std::int64_t to_pitch, const void* from, std::int64_t from_pitch, std::int64_t bytes,
                std::int64_t rows) {
  if (bytes <= 0 || rows <= 0) return;
  const host::Place there = host::place_of(to), here = host::place_of(from);
  if ((there == host::Place::device && !host::holds(to, (rows - 1) * to_pitch + bytes)) ||
      (here == host::Place::device && !host::holds(from, (rows - 1) * from_pitch + bytes)))
    throw DeviceError("CUDA-on-host: a copy of " + std::to_string(rows) + " rows of " + std::to_string(bytes) +
                      " bytes leaves its memory of the device");
  const Lock lock(mutex);
  Queue& queue = queue_of(stream);
  if (there != host::Place::device || here != host::Place::device) refuse_while_recording(queue, "a copy from or to the host");
  add(queue, std::make_unique<CopyWork>(Copy{static_cast<char*>(to), to_pitch, static_cast<const char*>(from), from_pitch, bytes, rows}));
  if (there == host::Place::pageable || here == host::Place::pageable) {
    host::count_wait();
    wait_for(queue, queue.added);
  }
}

}  // namespace elastiform::ELASTIFORM_GPU
