#include "experiments/elastiform/fma_peak.hpp"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

nlohmann::json cached(const std::string& path) { return nlohmann::json::parse(content_of(path)); }

TEST_CASE("the peak is measured once, kept for the machine, and replaced by what is faster", "[experiments][peak]") {
  const TemporaryFolder folder;
  const auto cache = folder / "sub/fma_peak.json";
  const ThreadPool pool(1);
  const double measured = FmaPeak(pool, Precision::f32, cache).flops();
  CHECK(measured > 1e8);
  auto known = cached(cache);
  REQUIRE(known.size() == 1);
  CHECK(known.front() == measured);

  const auto machine = known.begin().key();
  known[machine] = 123e9;  // no measurement gives this number: it is read
  known["another machine"] = 7;
  folder.write("sub/fma_peak.json", known.dump());
  FmaPeak peak(pool, Precision::f32, cache);
  CHECK(peak.flops() == 123e9);
  peak.reached(100e9);
  CHECK(peak.flops() == 123e9);
  peak.reached(456e9);
  CHECK(peak.flops() == 456e9);
  CHECK(cached(cache)[machine] == 456e9);
  CHECK(cached(cache)["another machine"] == 7);  // other entries stay
  CHECK(FmaPeak(pool, Precision::f32, cache).flops() == 456e9);
}

TEST_CASE("a cache that cannot be read or written only means measuring again", "[experiments][peak]") {
  const TemporaryFolder folder;
  const ThreadPool pool(1);
  const auto content = GENERATE(as<std::string>{}, "", "{", "[1]", "\xff\xfe");
  CHECK(FmaPeak(pool, Precision::f32, folder.write("damaged.json", content)).flops() > 1e8);
  CHECK(cached(folder / "damaged.json").size() == 1);
  folder.write("file", "");
  CHECK(FmaPeak(pool, Precision::f32, folder / "file/fma_peak.json").flops() > 1e8);  // its folder is a file
  CHECK(FmaPeak(pool, Precision::f32, folder.path()).flops() > 1e8);
  CHECK(FmaPeak(pool, Precision::f32, "").flops() > 1e8);
}

TEST_CASE("a value of the cache that no machine has is measured again", "[experiments][peak]") {
  const TemporaryFolder folder;
  const auto cache = folder / "fma_peak.json";
  const ThreadPool pool(1);
  FmaPeak first(pool, Precision::f32, cache);
  const auto machine = cached(cache).begin().key();
  for (const nlohmann::json& wrong : {nlohmann::json(-1), nlohmann::json(1e300), nlohmann::json("fast"), nlohmann::json()}) {
    folder.write("fma_peak.json", nlohmann::json{{machine, wrong}}.dump());
    const double again = FmaPeak(pool, Precision::f32, cache).flops();
    CHECK(again > 1e8);
    CHECK(again < 1e15);
  }
}

}  // namespace
}  // namespace elastiform
