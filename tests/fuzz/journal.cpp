#include "supernet/storage/durable_file.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace elastiform;

// Reading ignores a damaged tail, opening cuts it off: afterwards both see the same records, and one more can be appended.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::refuses_or_reads([&] {
    const std::string path = fuzz::file_with(fuzz::text_of(data, size));
    std::size_t before = 0, after = 0;
    Journal::read(path, [&](std::uint64_t, std::string_view) { ++before; });
    {
      Journal journal(path);
      journal.append("one more");
      journal.commit();
    }
    std::string last;
    Journal::read(path, [&](std::uint64_t, std::string_view record) { ++after, last = record; });
    fuzz::require(after == before + 1 && last == "one more");
  });
  return 0;
}
