#include "supernet/subnet.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace elastiform;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::refuses_or_reads([&] {
    const Subnet subnet = parse_subnet(fuzz::text_of(data, size));
    const std::string canonical = format(subnet);
    fuzz::require(parse_subnet(canonical) == subnet);
    fuzz::require(format(parse_subnet(canonical)) == canonical);
  });
  return 0;
}
