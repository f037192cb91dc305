#include "kernels/device.hpp"

#include <algorithm>
#include <filesystem>

#include "experiments/elastiform/devices.hpp"
#include "kernels/errors.hpp"
#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;

TEST_CASE("commands run on CUDA-on-host, and their results say so", "[experiments][device]") {
  const auto& folder = micro_folder();
  const auto program = [&](const std::string& line) { return run_program_in(folder.path(), words(line)); };
  const auto trained = program(
      "train micro.toml --run device/a --device cuda-on-host --set train.steps=4 --set train.sequences=2 --set train.log_every=4 --set "
      "train.checkpoint_every=2");
  INFO(trained.err);
  REQUIRE(trained.status == 0);
  CHECK_THAT(program("inspect device/a/supernet.h5").out, Contains("cuda-on-host"));
  std::filesystem::copy_file(folder / "device/a/checkpoints/step-000002.h5", folder / "device/a/supernet.h5",
                             std::filesystem::copy_options::overwrite_existing);
  const auto resumed = program("train --resume device/a");  // on the CPU
  CHECK(resumed.status == 0);
  CHECK_THAT(resumed.out + resumed.err, Contains("the instruction set was cuda-on-host"));
  const auto scored = program("evaluate device/a --subnet smallest --json --split search --device cuda-on-host");
  INFO(scored.err);
  REQUIRE(scored.status == 0);
  CHECK_THAT(scored.out, Contains("\"precision\": \"f32 on cuda-on-host\""));
  CHECK_THAT(program("evaluate device/a --subnet smallest --json --split search").out, Contains("\"precision\": \"f32\""));
  const auto said = program("generate device/a --subnet smallest --prompt the --tokens 3 --temperature 0 --device cuda-on-host");
  CHECK(said.status == 0);
  CHECK(said.out == program("generate device/a --subnet smallest --prompt the --tokens 3 --temperature 0").out);
}

TEST_CASE("activations may wait in pinned memory of a device's host", "[experiments][device][offload]") {
  const auto train = [](const std::string& options) {
    return succeed_in(micro_folder().path(),
                      words("train micro.toml --device cuda-on-host --set train.steps=2 --set train.sequences=2 --set "
                            "train.log_every=2 " +
                            options))
        .out;
  };
  const std::string dry = train("--dry-run"), before = "lowest --memory-limit is ";
  const auto at = dry.find(before) + before.size();
  const std::string least = " --memory-limit " + dry.substr(at, dry.find('\n', at) - at);
  train("--run device/kept");
  CHECK_THAT(train("--run device/pinned --offload pinned" + least), Contains("pinned memory of the host"));
  CHECK_THAT(train("--dry-run --offload pinned" + least), Contains("pinned memory of the host"));
  const auto hash = [](const std::string& run) { return json_of("evaluate " + run + " --subnet largest")["weights_hash"]; };
  CHECK(hash("device/pinned") == hash("device/kept"));
}

TEST_CASE("a GPU that is not there is one line that says what is missing", "[experiments][device]") {
  if (std::filesystem::exists("/dev/nvidiactl")) return;  // there is one
  const auto result =
      check_refused(micro_folder().path(), words("train micro.toml --run device/gpu --device cuda"), "--device cuda: expected ");
  CHECK_THAT(result.err, !Contains("undefined symbol"));
  CHECK_FALSE(std::filesystem::exists(micro_folder() / "device/gpu"));
}

TEST_CASE("a plan that a device has no memory for is refused with both numbers", "[experiments][device]") {
  const auto train = [](const std::string& options) {
    return run_program_in(micro_folder().path(), words("train micro.toml --run device/large --device cuda-on-host" + options));
  };
  ::setenv("ELASTIFORM_CUDA_ON_HOST_MEMORY", "20000000", 1);
  const auto refused = train(""), dry = train(" --dry-run");
  ::unsetenv("ELASTIFORM_CUDA_ON_HOST_MEMORY");
  for (const auto& result : {refused, dry}) {
    CHECK(result.status == 2);
    CHECK_THAT(result.err, Contains("--device cuda-on-host: expected ") && Contains(" of free memory, as planned, found 19MiB free"));
    CHECK_THAT(result.err, Contains("fewer sequences, a shorter context or a smaller space"));
    CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  }
  CHECK_FALSE(std::filesystem::exists(micro_folder() / "device/large"));
}

TEST_CASE("a module that was built from other kernels is refused", "[experiments][device]") {
  const auto make = [](const char* module) { return make_cuda(Precision::f32, Products::ours, module); };
  CHECK(make(MODULE_OF_THIS) == nullptr);  // which is what that one makes
  CHECK_THROWS_WITH(make(MODULE_OF_OTHER), Contains("a module built from this program's kernels") && Contains("found 0000000000000000") &&
                                               Contains("./dev build"));
  CHECK_THROWS_WITH(make(MODULE_OF_FOREIGN), Contains("expected a module of this program"));
  CHECK_THROWS_WITH(make((micro_folder() / "none.so").c_str()), Contains("none.so beside the program"));
}

TEST_CASE("names of devices", "[experiments][device]") {
  CHECK(parse_device("cuda-on-host", "here") == Device::cuda_on_host);
  CHECK_THROWS_WITH(parse_device("gpu", "here"), Contains("here: expected one of cpu, cuda, cuda-on-host, found \"gpu\""));
  CHECK(text(Compute(Device::cuda, Precision::bf16)) == "bf16 on cuda");
}

}  // namespace
}  // namespace elastiform
