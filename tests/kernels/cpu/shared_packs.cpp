#include "kernels/cpu/shared_packs.hpp"

#include <vector>

#include "kernels/cpu/cpu_backend.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"

namespace elastiform {
namespace {

ConstView view_at(const std::vector<float>& memory, std::int64_t rows, std::int64_t columns, std::int64_t ld) {
  return view_of(memory.data(), rows, columns, ld);
}

}  // namespace

TEST_CASE("a piece is packed once and read by all; who finds it half done packs its own", "[kernels][bf16]") {
  const std::vector<float> memory(64);
  cpu::SharedPack pack;
  pack.begin(view_at(memory, 4, 16, 16), false, 2, 16);
  std::vector<std::uint32_t> own(16), other(16);
  int packed = 0;
  const auto fill = [&](std::uint32_t* words) { words[0] = static_cast<std::uint32_t>(++packed); };
  // While the first worker packs, a second one comes.
  const std::uint32_t* shared = pack.piece(0, own.data(), [&](std::uint32_t* words) {
    CHECK(pack.piece(0, other.data(), fill) == other.data());
    CHECK(pack.ready<std::uint32_t>(0) == nullptr);
    fill(words);
  });
  CHECK(shared != own.data());
  CHECK(packed == 2);
  CHECK(pack.ready<std::uint32_t>(0) == shared);
  CHECK(pack.piece(0, own.data(), fill) == shared);
  CHECK(packed == 2);
  CHECK(pack.piece(1, own.data(), fill) != shared);
  CHECK(packed == 3);
  pack.begin(view_at(memory, 4, 16, 16), false, 2, 16);
  CHECK(pack.ready<std::uint32_t>(0) == nullptr);
}

TEST_CASE("packs of a loop are told apart by all that makes a matrix, and bounded", "[kernels][bf16]") {
  const std::vector<float> memory(64);
  cpu::SharedPacks packs;
  const ConstView w = view_at(memory, 4, 8, 16);
  CHECK(packs.of(w, false, 1, 16) == nullptr);  // no loop
  packs.open();
  CHECK_THROWS_AS(packs.open(), std::logic_error);
  cpu::SharedPack* const first = packs.of(w, false, 1, 16);
  REQUIRE(first != nullptr);
  CHECK(packs.of(w, false, 1, 16) == first);
  CHECK(packs.of(w.slice(4, 7), false, 1, 16) != first);
  CHECK(packs.of(w.slice(3, 8), false, 1, 16) != first);
  CHECK(packs.of(w, true, 1, 16) != first);
  CHECK(packs.of(view_at(memory, 4, 8, 15), false, 1, 16) == nullptr);  // a fifth one
  packs.close();
  packs.open();
  CHECK(packs.of(w, false, 5 << 20, 1) == nullptr);  // too large to share
  CHECK(packs.of(w, false, 1, 16) != nullptr);
  packs.close();
}

TEST_CASE("packed weights stay inside what a plan counts for them", "[kernels][bf16]") {
  struct Shape {
    std::int64_t C, F;
  };
  const Shape s = GENERATE(Shape{8, 24}, Shape{544, 96}, Shape{96, 544}, Shape{520, 1030});
  const Precision precision = GENERATE(from_range(precisions_here()));
  CAPTURE(s.C, s.F, name_of(precision));
  Cpu cpu(1, precision);
  const Memory memory{DType::float32, 0};
  const Matrix x = memory.input(300, s.C, 1), gate = memory.input(s.C, s.F, 2), up = memory.input(s.C, s.F, 3),
               down = memory.input(s.F, s.C, 4);
  Matrix y = memory.output(300, s.F), z = memory.output(300, s.C);
  // Forward packs plain weights in bf16 only, the way back turned ones in both precisions.
  cpu.backend.panels(300, [&](Rows r) {
    cpu.backend.matmul({.y = y.view()[r], .x = x.view()[r], .w = gate.view(), .bias = {}, .add = {}});
    cpu.backend.matmul({.y = y.view()[r], .x = x.view()[r], .w = up.view(), .bias = {}, .add = {}});
    cpu.backend.matmul({.y = z.view()[r], .x = y.view()[r], .w = down.view(), .bias = {}, .add = {}});
  });
  cpu.backend.panels(300, [&](Rows r) {
    cpu.backend.matmul_dx({.dx = y.view()[r], .dy = x.view()[r], .w = down.view(), .add = {}});
    cpu.backend.matmul_dx({.dx = z.view()[r], .dy = y.view()[r], .w = gate.view(), .add = {}});
    cpu.backend.matmul_dx({.dx = z.view()[r], .dy = y.view()[r], .w = up.view(), .add = {}});
  });
  Matrix dw = memory.in_out(s.C, s.F, 5);
  cpu.backend.matmul_dw({.dw = dw.view(), .dbias = {}, .x = x.view(), .dy = y.view()});
  const std::int64_t gradients = precision == Precision::bf16 ? cpu::AccumulateBf16::most_bytes(s.C, s.F) : 0;
  CHECK(cpu.backend.kept_bytes() > 0);
  CHECK(cpu.backend.kept_bytes() <= CpuBackend::packed_weight_bytes(precision, s.C, s.F) + gradients);
}

}  // namespace elastiform
