#include "kernels/cuda_on_host/settings.hpp"

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <string>
#include <string_view>

#include "kernels/errors.hpp"

namespace elastiform::ELASTIFORM_GPU {

namespace {

template <class T>
bool parse(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

std::atomic<std::int64_t> allocations{0}, waits{0};

[[noreturn]] void refuse(const char* variable, std::string expected, std::string_view found) {
  throw InputError({variable, std::move(expected), std::string(found), "unset it for the default"});
}

std::string_view variable(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? std::string_view() : std::string_view(text);
}

}  // namespace

host::Settings host::settings_from_environment() {
  Settings settings;
  constexpr const char* kOrder = "ELASTIFORM_CUDA_ON_HOST_ORDER";
  constexpr const char* kStreams = "ELASTIFORM_CUDA_ON_HOST_STREAMS";
  constexpr const char* kMemory = "ELASTIFORM_CUDA_ON_HOST_MEMORY";
  constexpr std::string_view kShuffle = "shuffle:";
  const std::string_view order = variable(kOrder), streams = variable(kStreams), memory = variable(kMemory);
  if (order == "reverse") settings.order = Order::reverse;
  else if (order.substr(0, kShuffle.size()) == kShuffle && parse(order.substr(kShuffle.size()), settings.seed))
    settings.order = Order::shuffle;
  else if (!order.empty() && order != "forward") refuse(kOrder, "forward, reverse or shuffle:SEED", order);
  if (streams == "at-once") settings.queued = false;
  else if (!streams.empty() && streams != "queued") refuse(kStreams, "queued or at-once", streams);
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  if (!memory.empty() && (!parse(memory, settings.memory_bytes) || settings.memory_bytes < 1 || settings.memory_bytes > kMost))
    refuse(kMemory, "bytes, from 1 to " + std::to_string(kMost), memory);
  return settings;
}

host::Counts host::counts() { return {allocations, waits}; }
void host::count_allocation() { ++allocations; }
void host::count_wait() { ++waits; }

host::Settings& host::settings() {
  static Settings settings = settings_from_environment();
  return settings;
}

void set_order(Order order, std::uint64_t seed) {
  host::settings().order = order;
  host::settings().seed = seed;
}

void set_queued(bool queued) { host::settings().queued = queued; }

}  // namespace elastiform::ELASTIFORM_GPU
