#include "experiments/bench/support/case_line.hpp"

#include <cstdlib>
#include <set>
#include <sstream>

#include "experiments/bench/support/kernel_case.hpp"
#include "experiments/bench/support/kernel_table.hpp"
#include "kernels/cpu/bf16.hpp"
#include "kernels/cpu/cpu_backend.hpp"
#include "tests/experiments/program.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

std::string mistake(const std::string& line) {
  const ThreadPool pool(1);
  return input_error([&] {
    const CaseLine parsed = CaseLine::parse(line);
    CpuBackend backend(pool, parsed.precision);
    KernelCase(parsed, backend).run();
  });
}

TEST_CASE("every row of the kernel table is a case line that says what it runs", "[experiments][bench]") {
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  std::set<std::string> operations;
  for (const std::string& text : kernel_table()) {
    CAPTURE(text);
    const CaseLine line = CaseLine::parse(text);
    CHECK(line.text() == text);
    operations.insert(line.operation);
    if (line.bytes() > (4 << 20)) continue;  // the table's large ones take seconds without a benchmark's need
    const KernelCase kernel(line, backend);
    kernel.run();
    CHECK((kernel.flops() > 0) == has_bf16_products(line.operation));
    CHECK(kernel.bytes() > 0);
    if (!cpu::has_bf16() || !has_bf16_products(line.operation)) continue;
    CpuBackend in_halves(pool, Precision::bf16);
    const CaseLine narrow = in_bf16(line);
    CHECK(CaseLine::parse(narrow.text()).text() == narrow.text());
    KernelCase(narrow, in_halves).run();
  }
  const auto known = kernel_case_operations();
  CHECK(operations == std::set<std::string>(known.begin(), known.end()));
}

TEST_CASE("what ELASTIFORM_VERBOSE=kernels prints runs as a case", "[experiments][bench]") {
  const auto& folder = micro_folder();
  ::setenv("ELASTIFORM_VERBOSE", "kernels", 1);
  const std::string precision = GENERATE(as<std::string>{}, "f32", "bf16");
  if (precision == "bf16" && !cpu::has_bf16()) return;
  const auto trained = run_program_in(folder.path(), words("train micro.toml --run cases-" + precision +
                                                           " --threads 1 --set train.steps=1 --set train.precision=" + precision));
  ::unsetenv("ELASTIFORM_VERBOSE");
  REQUIRE(trained.status == 0);
  std::set<std::string> known, seen;
  for (const std::string& operation : kernel_case_operations()) known.insert(operation);
  std::istringstream lines(trained.err);
  for (std::string line; std::getline(lines, line);) {
    const std::string operation = line.substr(0, line.find(' '));
    if (line.find(" dtype=float32") == std::string::npos || !seen.insert(operation).second) continue;
    CAPTURE(line);
    CHECK(known.count(operation) == 1);
    CHECK(mistake(line) == kNoError);
    CHECK(CaseLine::parse(line).text() == line);
    const bool narrow = has_bf16_products(operation) || line.find(":bf16") != std::string::npos;
    CHECK((CaseLine::parse(line).precision == Precision::bf16) == (narrow && precision == "bf16"));
  }
  CHECK(seen.size() >= 10);
}

TEST_CASE("a case counts the operations of its shapes and the workers it can use", "[experiments][bench]") {
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const auto matmul = [&](int rows) {
    return KernelCase(CaseLine::parse("matmul y=" + std::to_string(rows) + "x8/8 x=" + std::to_string(rows) + "x4/32 w=4x8/8"), backend);
  };
  CHECK(matmul(256).flops() == 2 * 256 * 4 * 8);
  CHECK(matmul(256).workers() == 1);  // one panel
  CHECK(matmul(257).workers() == 2);
  const std::string attention = " batch=2 query_tokens=3 key_tokens=3 heads=2 groups=1 head_dim=4 scale=0.5";
  const KernelCase forward(CaseLine::parse("attention_forward out=6x8/8 q=6x8/8 k=6x4/4 v=6x4/4" + attention), backend);
  CHECK(forward.flops() == 2 * 2 * 6 * 2 * 2 * 4);  // two products, six pairs, two sequences, two heads
  const KernelCase all_keys(CaseLine::parse("attention_forward out=6x8/8 q=6x8/8 k=6x4/4 v=6x4/4" + attention + " causal=0"), backend);
  CHECK(all_keys.flops() == 2 * 2 * 9 * 2 * 2 * 4);
}

TEST_CASE("a wrong case line ends in one line that names what is wrong", "[experiments][bench]") {
  CHECK_THAT(mistake("matmull y=4x4/4"), Contains("expected one of adamw") && Contains("'matmull'"));
  CHECK_THAT(mistake("matmul x=4x4/4 w=4x4/4"), Contains("matmul has no y"));
  CHECK_THAT(mistake("matmul y=5x4/4 x=4x4/4 w=4x4/4"), Contains("y.rows is 5, but x.rows is 4"));
  CHECK_THAT(mistake("matmul y=4x4/4 x=4x4/4:bf16 w=4x4/4"), Contains("x is bfloat16, but backend cpu computes in float32"));
  CHECK_THAT(mistake("matmul y=4x4/4 x=4x4/4:f16 w=4x4/4"), Contains("expected ROWSxCOLUMNS/LEADING_DIMENSION"));
  CHECK_THAT(mistake("matmul y=4x4/4 x=4x4/4 w=4x4/4 gain=1x4/4"), Contains("no operand gain"));
  CHECK_THAT(mistake("matmul y=4x4/4 x=4x4/4 w=4x4/4 kind=rms"), Contains("no scalar kind"));
  CHECK_THAT(mistake("matmul y=4x4/4 x=4x4/4 w=4x4/4 scale=one"), Contains("scale=one is not a number"));
  CHECK_THAT(mistake("matmul y=4x4/4 x=4x4/4 w=4x4/4 transposed=2"), Contains("transposed=2, not 1 or 0"));
  CHECK_THAT(mistake("matmul y=4x4/3 x=4x4/4 w=4x4/4"), Contains("at least the columns"));
  CHECK_THAT(mistake("matmul y=4x4/4 x=9999999x9999999/9999999"), Contains("at most 4 GiB"));
  CHECK_THAT(mistake("matmul y=4x0/4"), Contains("ROWSxCOLUMNS/LEADING_DIMENSION"));
  CHECK_THAT(mistake("matmul y"), Contains("NAME=VALUE"));
  CHECK_THAT(mistake("matmul y=4x4/4 x=4x4/4 w=4x4/4 dtype=float64"), Contains("float64"));
  CHECK_THAT(mistake(" "), Contains("an operation"));
}

}  // namespace
}  // namespace elastiform
