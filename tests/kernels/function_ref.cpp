#include "kernels/function_ref.hpp"

#include <memory>

#include "tests/support/catch.hpp"

using namespace elastiform;

namespace {

int twice(FunctionRef<int(int)> function, int x) { return function(function(x)); }
void ignore_result(FunctionRef<void(int)> function) { function(7); }

}  // namespace

TEST_CASE("a FunctionRef calls the object that it was made of", "[kernels]") {
  static_assert(sizeof(FunctionRef<void()>) == 2 * sizeof(void*));
  static_assert(!std::is_constructible_v<FunctionRef<int(int)>, int (*)(void*)>);
  int calls = 0;
  auto count = [calls](int x) mutable { return ++calls, x + calls; };
  CHECK(twice(count, 10) == 13);  // 10 + 1, 11 + 2: one object, not a copy a call
  CHECK(count(0) == 3);
  const auto constant = [](int x) { return 3 * x; };
  CHECK(twice(constant, 2) == 18);
  CHECK(twice([&](int x) { return x - calls; }, 5) == 5);
  ignore_result([&](int x) { return calls = x; });
  CHECK(calls == 7);
}

TEST_CASE("a FunctionRef hands arguments on without copying them", "[kernels]") {
  const auto take = [](std::unique_ptr<int> value) { return std::unique_ptr<int>(std::move(value)); };
  const FunctionRef<std::unique_ptr<int>(std::unique_ptr<int>)> function = take;
  const FunctionRef<std::unique_ptr<int>(std::unique_ptr<int>)> copy = function;
  CHECK(*copy(std::make_unique<int>(4)) == 4);
}
