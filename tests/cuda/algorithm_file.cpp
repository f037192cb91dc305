#include "kernels/cuda/device/algorithm_file.hpp"

#include <signal.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "kernels/cuda/device/gemm_shape.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/child.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {

TEST_CASE("what is added to the file of algorithms is there for the next process, also after a kill", "[cuda]") {
  const TemporaryFolder folder;
  const std::string path = folder / "deep/algorithms.txt", bytes("\0\x7f\xff ", 4);
  const ChildResult killed = run_in_child([&] {
    AlgorithmFile file("device, library 1", path);
    file.add("1,2,", bytes);
    file.add("3,4,", "");
    return ::raise(SIGKILL);
  });
  CHECK(killed.signal == SIGKILL);
  const AlgorithmFile file("device, library 1", path);
  CHECK(file.find("1,2,") == bytes);
  CHECK(file.find("3,4,") == "");
  CHECK_FALSE(file.find("5,6,"));
  CHECK_FALSE(AlgorithmFile("device, library 2", path).find("1,2,"));
}

TEST_CASE("two processes keep each other's algorithms, and the first one's for a shape that both have timed", "[cuda]") {
  const TemporaryFolder folder;
  const std::string path = folder / "algorithms.txt";
  AlgorithmFile one("heading", path), two("heading", path);
  CHECK(one.add("a", "1") == "1");
  CHECK(two.add("b", "2") == "2");
  CHECK(two.add("a", "3") == "1");
  const AlgorithmFile next("heading", path);
  CHECK(next.find("a") == "1");
  CHECK(next.find("b") == "2");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 2);  // and the lock: nothing is left beside
}

TEST_CASE("a file of algorithms that cannot be written or read is none", "[cuda]") {
  const TemporaryFolder folder;
  AlgorithmFile nowhere("heading", ""), in_a_file("heading", "/dev/null/algorithms.txt");
  CHECK(nowhere.add("a", "1") == "1");
  CHECK(nowhere.find("a") == "1");
  CHECK(in_a_file.add("a", "1") == "1");
  std::ofstream(folder / "algorithms.txt") << "heading\nno blank\nodd 123\nwrong 12xy\nright 6162\n";
  const AlgorithmFile file("heading", folder / "algorithms.txt");
  CHECK_FALSE(file.find("odd"));
  CHECK_FALSE(file.find("wrong"));
  CHECK(file.find("right") == "ab");
}

TEST_CASE("products of other sizes, alignments, types or epilogues are other shapes to a library", "[cuda]") {
  using namespace ELASTIFORM_GPU;
  alignas(256) static std::byte memory[1024];
  const GemmCall call{.M = 4, .N = 8, .K = 16, .a = memory, .b = memory, .c = memory, .a_ld = 64, .b_ld = 16, .add_ld = 0, .c_ld = 8};
  CHECK(GemmShape(call).a_alignment == 256);  // rows of 64 float32
  CHECK(GemmShape(call).b_alignment == 64);
  CHECK(GemmShape(call).c_alignment == 32);
  CHECK(GemmShape(call).add_alignment == 32);  // c stands for it
  std::vector<GemmCall> others(7, call);
  others[0].N = 9;
  others[1].a = memory + 32;
  others[2].type = others[2].c_type = DType::bfloat16;
  others[3].bias = memory;
  others[4].add = memory, others[4].add_ld = 8, others[4].beta = 1;
  others[5].b_transposed = true;
  others[6].c_ld = 16;
  for (std::size_t i = 0; i < others.size(); ++i) {
    CAPTURE(i);
    CHECK_FALSE(GemmShape(others[i]) == GemmShape(call));
    CHECK(HashOfGemmShape()(GemmShape(others[i])) != HashOfGemmShape()(GemmShape(call)));
    CHECK(GemmShape(others[i]).text() != GemmShape(call).text());
  }
  GemmCall elsewhere = call;
  elsewhere.a = memory + 256;
  CHECK(GemmShape(elsewhere) == GemmShape(call));
  CHECK(HashOfGemmShape()(GemmShape(elsewhere)) == HashOfGemmShape()(GemmShape(call)));
}

}  // namespace elastiform
