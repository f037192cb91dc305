// A disk that fills up, played by the limit on a file's size: with its signal ignored a write beyond it fails with a reason, as on a full disk.
#include <sys/resource.h>

#include <csignal>
#include <filesystem>

#include "tests/experiments/own_run.hpp"
#include "tests/support/catch.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
namespace fs = std::filesystem;

/// Programs started while it lives cannot write a file beyond `bytes`.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit before_{};
  void (*handler_)(int);
};

void check_full(const ProgramResult& result, const std::string& path) {
  INFO(result.err);
  CHECK(result.status == 1);  // 139: HDF5 crashes at the end of the process over a file that it could not close
  CHECK_THAT(result.err, Contains("error: cannot write " + path + ": File too large\n"));
  CHECK_THAT(result.err, !Contains(".new"));
}

TEST_CASE("a full disk ends a training with the reason, and nothing that was kept is lost", "[experiments][full-disk]") {
  const OwnRun own;
  const auto before = own.run("inspect runs/micro/supernet.h5 --digest").out;
  // Small enough to fail inside the weights, inside the structure after them, and near the end.
  for (const rlim_t bytes : {4096, 65'536, 131'072}) {
    CAPTURE(bytes);
    REQUIRE(bytes < fs::file_size(own.folder / "runs/micro/supernet.h5"));
    fs::remove_all(own.folder / "runs/full");
    {
      const FileSizeLimit limit(bytes);
      check_full(own.run("train micro.toml --run runs/full --set train.checkpoint_every=10"), "runs/full/checkpoints/best.h5");
    }
    const auto resumed = own.run("train --resume runs/full --set train.checkpoint_every=20");
    INFO(resumed.err);
    CHECK(resumed.status == 0);
    CHECK(own.run("inspect runs/full/supernet.h5 --digest").status == 0);
  }
  CHECK(own.run("inspect runs/micro/supernet.h5 --digest").out == before);
}

TEST_CASE("a full disk ends an export with the reason and the path as typed", "[experiments][full-disk]") {
  const OwnRun own;
  REQUIRE(own.run("export runs/micro --subnet largest --to first.h5").status == 0);  // both scores are stored
  const FileSizeLimit limit(50'000);
  check_full(own.run("export runs/micro --subnet largest --to full.h5"), "full.h5");
  check_full(own.run("export runs/micro --subnet largest --format hf-llama --to full"), "full/model.safetensors");
  CHECK_FALSE(fs::exists(own.folder / "full.h5"));
  CHECK_FALSE(fs::exists(own.folder / "full"));
}

TEST_CASE("a lock that cannot note its owner still locks", "[experiments][full-disk]") {
  const OwnRun own;
  REQUIRE(own.run("evaluate runs/micro --subnet largest").status == 0);
  const FileSizeLimit limit(0);  // not one byte, as on a disk without a free block
  const auto known = own.run("evaluate runs/micro --subnet largest");
  INFO(known.err);
  CHECK(known.err.empty());
  CHECK(known.status == 0);
}

}  // namespace
}  // namespace elastiform
