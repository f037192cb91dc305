#include "experiments/elastiform/memory_limit.hpp"

#include "kernels/errors.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {

TEST_CASE("memory limits are read with their units", "[experiments][memory]") {
  CHECK(parse_memory_limit("1") == 1);
  CHECK(parse_memory_limit("4096") == 4096);
  CHECK(parse_memory_limit("512MiB") == std::int64_t{512} << 20);
  CHECK(parse_memory_limit("1.5GiB") == std::int64_t{1536} << 20);
  CHECK(parse_memory_limit("2G") == 2'000'000'000);
  CHECK(parse_memory_limit("0.5KiB") == 512);
  for (const char* wrong :
       {"", "0", "-1", "abc", "MiB", "12 MiB", "12mib", "1e6", "0x10", "nan", "inf", "0.1", "12MiBs", "2000TiB", "1..5G"}) {
    CAPTURE(wrong);
    CHECK_THROWS_AS(parse_memory_limit(wrong), InputError);
  }
}

TEST_CASE("a limit that is shown suffices when it is typed", "[experiments][memory]") {
  for (const std::int64_t bytes : {std::int64_t{1}, std::int64_t{1024}, std::int64_t{1025}, (std::int64_t{16} << 20) - 1,
                                   std::int64_t{16} << 20, (std::int64_t{300} << 20) + 1}) {
    CAPTURE(bytes);
    CHECK(parse_memory_limit(memory_limit_text(bytes)) >= bytes);
  }
  CHECK(memory_limit_text(1025) == "2KiB");
  CHECK(memory_limit_text(1025, Rounded::down) == "1KiB");
  CHECK(memory_limit_text((std::int64_t{300} << 20) + 1) == "301MiB");
}

}  // namespace elastiform
