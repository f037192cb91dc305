#include "kernels/precision.hpp"

#include <cstdlib>

#include "kernels/cpu/bf16.hpp"
#include "kernels/errors.hpp"
#include "tests/experiments/program.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

TEST_CASE("a run in bf16 trains, searches and is evaluated in it, and its files say so", "[experiments][precision]") {
  const auto& folder = micro_folder();
  const auto program = [&](const std::string& line) { return run_program_in(folder.path(), words(line)); };
  const std::string settings = " --set train.precision=bf16 --set deploy.dtype=bf16 --set train.steps=8 --set train.checkpoint_every=4";
  const auto trained = program("train micro.toml --run bf16/a" + settings);
  if (!cpu::has_bf16()) {
    CHECK(trained.status == 2);
    CHECK_THAT(trained.err, Contains("train.precision = bf16: this CPU has no bf16 dot products (AVX512_BF16); use f32"));
    return;
  }
  INFO(trained.err);
  REQUIRE(trained.status == 0);
  CHECK_THAT(program("inspect bf16/a/supernet.h5").out, Contains("bf16"));
  const auto scored = program("evaluate bf16/a --subnet middle --json --split search");
  REQUIRE(scored.status == 0);
  CHECK_THAT(scored.out, Contains("\"precision\": \"bf16\""));
  CHECK(program("search bf16/a --evaluations 4").status == 0);
  CHECK_THAT(program("show bf16/a 2").out, Contains("bf16"));

  REQUIRE(program("train micro.toml --run bf16/b --threads 1" + settings).status == 0);
  REQUIRE(program("train micro.toml --run bf16/f32 --set train.steps=8").status == 0);
  const auto digest = [&](const char* run) { return program(std::string("inspect --digest ") + run + "/supernet.h5").out; };
  CHECK(digest("bf16/a") == digest("bf16/b"));
  CHECK(digest("bf16/a") != digest("bf16/f32"));
}

TEST_CASE("bf16 is refused where ELASTIFORM_ISA asks for less than AVX-512", "[experiments][precision]") {
  if (!cpu::has_bf16()) return;  // refused in any case, as above
  ::setenv("ELASTIFORM_ISA", "AVX2", 1);
  const auto result = run_program_in(micro_folder().path(), words("train micro.toml --run bf16/refused --set train.precision=bf16"));
  ::unsetenv("ELASTIFORM_ISA");
  CHECK(result.status == 2);
  CHECK_THAT(result.err, Contains("train.precision = bf16: this CPU has no bf16 dot products (AVX512_BF16) under ELASTIFORM_ISA=AVX2"));
}

TEST_CASE("words for a precision are f32 and bf16", "[experiments][precision]") {
  CHECK(parse_precision("f32", "here") == Precision::f32);
  CHECK(parse_precision("bf16", "here") == Precision::bf16);
  CHECK_THROWS_WITH(parse_precision("fp16", "here"), "here: expected one of f32, bf16, found 'fp16'");
  CHECK_NOTHROW(require_precision(Precision::f32, "here"));
  if (!cpu::has_bf16()) CHECK_THROWS_AS(require_precision(Precision::bf16, "here"), InputError);
}

}  // namespace
}  // namespace elastiform
