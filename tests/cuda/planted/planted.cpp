#include "tests/cuda/planted/planted.hpp"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/support/catch.hpp"
#include "tests/support/child.hpp"

#if defined(__SANITIZE_ADDRESS__)
#define ELASTIFORM_BUILD_MODE kAddressSanitizer
#elif defined(__SANITIZE_THREAD__)
#define ELASTIFORM_BUILD_MODE kThreadSanitizer
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ELASTIFORM_BUILD_MODE kAddressSanitizer
#elif __has_feature(thread_sanitizer)
#define ELASTIFORM_BUILD_MODE kThreadSanitizer
#endif
#endif
#ifndef ELASTIFORM_BUILD_MODE
#define ELASTIFORM_BUILD_MODE kAnyOrder
#endif

namespace elastiform::ELASTIFORM_GPU {

namespace {

// How a child ends. The sanitizers are told to end a process with numbers that nothing else ends with.
constexpr int kRight = 0, kWrong = 10, kReported = 11, kNotStarted = 12, kRace = 66, kAddressReport = 99;
constexpr const char *kNumber = "ELASTIFORM_PLANTED", *kOrder = "ELASTIFORM_CUDA_ON_HOST_ORDER";

std::vector<Planted> all_planted() {
  std::vector<Planted> all;
  for (const auto& family : {planted_in_gemm(), planted_in_pipelines(), planted_in_warps(), planted_in_reductions(), planted_in_streams()})
    all.insert(all.end(), family.begin(), family.end());
  return all;
}

const char* text_of(unsigned int mode) { return mode == kReverse ? "reverse" : mode == kShuffle ? "shuffle:1" : "forward"; }

void add_options(const char* variable, const std::string& options) {
  const char* const usual = std::getenv(variable);
  ::setenv(variable, ((usual == nullptr ? "" : usual) + options).c_str(), 1);
}

/// Runs one row of the table in this program, started anew: ThreadSanitizer does not watch what a process forks that has many threads.
ChildResult run(std::size_t number, unsigned int mode) {
  return run_in_child([&] {
    static_cast<void>(std::freopen("/dev/null", "w", stdout));
    ::setenv(kNumber, std::to_string(number).c_str(), 1);
    ::setenv(kOrder, text_of(mode), 1);
    add_options("TSAN_OPTIONS", ":halt_on_error=1:exitcode=" + std::to_string(kRace) + ":atexit_sleep_ms=0");
    add_options("ASAN_OPTIONS", ":exitcode=" + std::to_string(kAddressReport));
    ::execl("/proc/self/exe", "test_cuda", "one planted bug", nullptr);
    return kNotStarted;
  });
}

/// Whether the child ended as the table says.
bool is_caught(const Planted& planted, unsigned int mode, const ChildResult& child) {
  const auto says = [&](const char* who) { return child.errors.find(who) != std::string::npos; };
  if (mode == kAddressSanitizer) return child.exit_code == kAddressReport && says("AddressSanitizer");
  if (mode == kThreadSanitizer) return child.exit_code == kRace && says("ThreadSanitizer: data race");
  switch (planted.sign) {
    case Sign::wrong_result: return child.exit_code == kWrong;
    case Sign::report: return child.exit_code == kReported;
    case Sign::crash: return child.signal == SIGSEGV;
    case Sign::none: break;
  }
  return false;
}

std::vector<unsigned int> modes_of_this_build() {
  if (ELASTIFORM_BUILD_MODE == kAnyOrder) return {kForward, kReverse, kShuffle};
  return {ELASTIFORM_BUILD_MODE};
}

}  // namespace

TEST_CASE("one planted bug", "[.]") {  // what run() starts
  const char* const number = std::getenv(kNumber);
  REQUIRE(number != nullptr);
  ::signal(SIGSEGV, SIG_DFL);
  int end = kReported;
  try {
    end = all_planted().at(std::stoul(number)).run() ? kRight : kWrong;
  } catch (const DeviceError&) {
  }
  ::_exit(end);
}

TEST_CASE("planted bugs are caught, each in every mode that the table names", "[cuda]") {
  int bugs = 0;
  const std::vector<Planted> all = all_planted();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].caught_by == 0) continue;
    ++bugs;
    for (const unsigned int mode : modes_of_this_build()) {
      if ((all[i].caught_by & mode) == 0) continue;
      const ChildResult child = run(i, mode);
      INFO(all[i].what << ", mode " << mode << ": exit " << child.exit_code << ", signal " << child.signal << '\n' << child.errors);
      CHECK(is_caught(all[i], mode, child));
    }
  }
  CHECK(bugs >= 25);
}

TEST_CASE("the correct kernels are right and raise nothing in any mode", "[cuda]") {
  const std::vector<Planted> all = all_planted();
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (all[i].caught_by != 0) continue;
    for (const unsigned int order : {kForward, kReverse, kShuffle}) {
      const ChildResult child = run(i, order);
      INFO(all[i].what << ", mode " << order << ": exit " << child.exit_code << ", signal " << child.signal << '\n' << child.errors);
      CHECK(child.ended_well());
    }
  }
}

}  // namespace elastiform::ELASTIFORM_GPU
