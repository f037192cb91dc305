#include "search/machine_clock.hpp"

#include <chrono>

namespace elastiform {
namespace {

// The first touches pages and fills caches, the second finds the frequency that the work is done at.
constexpr int kWarmUp = 2;

double milliseconds_now() { return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

}  // namespace

MachineClock::MachineClock(Backend& backend, const Weights& supernet, const Deploy& deploy)
    : backend_(backend), supernet_(supernet), deploy_(deploy) {
  if (deploy_.context == 0) deploy_.context = supernet.table().space().model().context;
}

std::vector<PassTimes> MachineClock::time(const Subnet& subnet, int passes, Timed timed) {
  const Weights extracted = extract(supernet_, subnet);
  const PlacedWeights weights(extracted, backend_.memory());
  InferencePass pass(backend_, *weights, deploy_);
  for (int i = 0; i < kWarmUp; ++i) pass.run();
  std::vector<PassTimes> all;
  for (int i = 0; i < passes; ++i) {
    backend_.wait();
    all.push_back(timed == Timed::whole ? whole_of(pass) : parts_of(pass, subnet.blocks.size()));
  }
  return all;
}

PassTimes MachineClock::whole_of(InferencePass& pass) {
  PassTimes times;
  const double begin = milliseconds_now();
  pass.run();
  backend_.wait();  // of a device that works behind the program's back
  times.whole = milliseconds_now() - begin;
  return times;
}

PassTimes MachineClock::parts_of(InferencePass& pass, std::size_t blocks) {
  PassTimes times;
  times.attention.assign(blocks, 0);
  times.feed_forward.assign(blocks, 0);
  double last = milliseconds_now();
  pass.run([&](PassPart part, int block) {
    backend_.wait();
    const double now = milliseconds_now(), took = now - last;
    last = now;
    const auto at = static_cast<std::size_t>(block);
    switch (part) {
      case PassPart::embedding: times.embedding += took; break;
      case PassPart::attention: times.attention[at] += took; break;
      case PassPart::feed_forward: times.feed_forward[at] += took; break;
      case PassPart::head: times.head += took; break;
    }
  });
  return times;
}

}  // namespace elastiform
