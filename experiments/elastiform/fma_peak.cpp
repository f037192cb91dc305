#include "experiments/elastiform/fma_peak.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/cpu/bf16.hpp"
#include "kernels/cpu/identity.hpp"
#include "kernels/cpu/peak.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/storage/durable_file.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;
constexpr int kMeasurements = 3;              // about 0.1 s each; the best counts, so a busy moment does not stay
constexpr double kLeast = 1e6, kMost = 1e18;  // FLOP/s; outside of them a cache is damaged
constexpr std::uintmax_t kMaxCache = std::uintmax_t{1} << 20;

double measure(const ThreadPool& pool, Precision precision) {
  const auto measure_core = precision == Precision::bf16 ? cpu::measure_bf16_peak : cpu::measure_fma_peak;
  double best = 0;
  for (int repeat = 0; repeat < kMeasurements; ++repeat) {
    std::vector<double> each(static_cast<std::size_t>(pool.size()));
    pool.for_each(pool.size(), [&](std::int64_t i) { each[static_cast<std::size_t>(i)] = measure_core(); });
    best = std::max(best, std::accumulate(each.begin(), each.end(), 0.0));
  }
  return best;
}

nlohmann::json read_cache(const std::string& path) {
  std::error_code error;
  if (path.empty() || !fs::is_regular_file(path, error) || fs::file_size(path, error) > kMaxCache || error) return nlohmann::json::object();
  std::ifstream file(path, std::ios::binary);
  auto cache = nlohmann::json::parse(file, nullptr, false);
  return cache.is_object() ? cache : nlohmann::json::object();
}

}  // namespace

FmaPeak::FmaPeak(const ThreadPool& pool, Precision precision, std::string cache)
    : cache_(std::move(cache)), machine_(fmt::format("{}, {}, {} threads{}", processor_name(), isa_name(precision), pool.size(),
                                                     precision == Precision::bf16 ? ", bf16" : "")) {
  const auto known = read_cache(cache_);
  const auto entry = known.find(machine_);
  if (entry != known.end() && entry->is_number()) flops_ = entry->get<double>();
  if (flops_ >= kLeast && flops_ <= kMost) return;
  flops_ = measure(pool, precision);
  keep();
}

void FmaPeak::reached(double flops) {
  if (!std::isfinite(flops) || flops <= flops_) return;
  flops_ = flops;
  keep();
}

void FmaPeak::keep() const {
  if (cache_.empty()) return;
  auto known = read_cache(cache_);  // another process may have added a machine or a number of threads
  known[machine_] = flops_;
  try {
    fs::create_directories(fs::path(cache_).parent_path());
    write_durably(cache_, known.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  } catch (const std::exception&) {
    // A read-only home is no reason not to train.
  }
}

std::string fma_peak_cache() {
  const char *folder = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  if (folder != nullptr && folder[0] == '/') return std::string(folder) + "/elastiform/fma_peak.json";
  return home != nullptr && home[0] == '/' ? std::string(home) + "/.cache/elastiform/fma_peak.json" : "";
}

}  // namespace elastiform
