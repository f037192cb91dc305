#include "kernels/errors.hpp"

#include "tests/support/catch.hpp"

namespace elastiform {

TEST_CASE("an input error is one line", "[kernels]") {
  const auto line = [](InputError::Parts parts) { return std::string(InputError(std::move(parts)).what()); };
  CHECK(line({"recipe demo.toml: train.rate", "a number above 0", "'fast'", "e.g. 2e-3"}) ==
        "recipe demo.toml: train.rate: expected a number above 0, found 'fast'; e.g. 2e-3");
  CHECK(line({"subnet e320:2xh7f1280", "", "block 0 has 7 heads", "runs/demo allows 2, 4, 6; nearest e320:2xh6f1280"}) ==
        "subnet e320:2xh7f1280: block 0 has 7 heads; runs/demo allows 2, 4, 6; nearest e320:2xh6f1280");
  CHECK(line({"data.txt", "", "the file is empty", ""}) == "data.txt: the file is empty");
  CHECK(line({"a", "b", "", ""}) == "a: expected b");
  CHECK(line({"a\nb", "", "\x1b[31mred\r\n", ""}) == "a b:  [31mred  ");  // quoted input neither breaks the line nor colours the terminal
}

}  // namespace elastiform
