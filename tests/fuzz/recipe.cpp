#include "experiments/elastiform/recipe.hpp"
#include "tests/fuzz/fuzz.hpp"

using namespace elastiform;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::refuses_or_reads([&] {
    const Recipe recipe = Recipe::parse(fuzz::text_of(data, size), "recipe");
    const std::string resolved = recipe.text();
    fuzz::require(Recipe::parse(resolved, "resolved").text() == resolved);
  });
  return 0;
}
