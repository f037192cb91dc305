#include <cmath>
#include <set>
#include <utility>

#include "kernels/random.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/finite_difference.hpp"
#include "tests/support/near.hpp"

namespace elastiform {
namespace {

struct Shape {
  std::int64_t N, C;
};
const std::vector<Shape> kShapes = {{1, 1}, {1, 33}, {3, 7}, {17, 160}, {256, 33}, {300, 96}};

/// The mask as the operation's comment says it, from Philox alone.
bool is_kept(const Dropout& op, std::int64_t row, std::int64_t column) {
  const std::uint64_t n = static_cast<std::uint64_t>(op.rows_before + row);
  const auto word = philox4x32({static_cast<std::uint32_t>(n), static_cast<std::uint32_t>(op.step),
                                static_cast<std::uint32_t>(op.step >> 32) << 24 | static_cast<std::uint32_t>(column / 4),
                                static_cast<std::uint32_t>(n >> 32) << 24 | op.place << 8 | 20},
                               {static_cast<std::uint32_t>(op.seed), static_cast<std::uint32_t>(op.seed >> 32)});
  return static_cast<double>(word[static_cast<std::size_t>(column % 4)]) >= op.rate * 0x1p32;
}

/// The mask that a backend draws, as a text of 0 and 1.
std::string mask_of(Backend& k, Dropout op, const Shape& s) {
  const Matrix ones(s.N, s.C, s.C + 3, DType::float32, 1, kInputMark);
  Matrix y = canary(s.N, s.C, s.C + 5, DType::float32);
  op.y = y.view(), op.x = ones.view();
  k.dropout(op);
  std::string mask;
  for (std::int64_t n = 0; n < s.N; ++n)
    for (std::int64_t c = 0; c < s.C; ++c) mask += y.at(n, c) != 0 ? '1' : '0';
  return mask;
}

/// An operation without operands yet.
Dropout named(double rate, std::uint64_t seed, std::uint64_t step = 0, std::uint32_t place = 0, std::int64_t rows_before = 0) {
  Dropout op;
  op.rate = rate, op.seed = seed, op.step = step, op.place = place, op.rows_before = rows_before;
  return op;
}
Dropout named(const Dropout& like, View y, ConstView x, ConstView add = {}) {
  Dropout op = like;
  op.y = y, op.x = x, op.add = add;
  return op;
}

constexpr std::uint64_t kHigh = std::uint64_t{1} << 32;
const Dropout kFar = named(0.3, 0x1234567890abcdef, 3 * kHigh + 7, 301, 5 * static_cast<std::int64_t>(kHigh) - 2);

}  // namespace

TEST_CASE("dropout agrees with float64 and a slice with its dense copy", "[kernels][conformance]") {
  const Shape s = GENERATE(from_range(kShapes));
  const bool adds = GENERATE(false, true), in_place = GENERATE(false, true);
  CAPTURE(s.N, s.C, adds, in_place);
  check_conformance("dropout", [&](Backend& k, const Memory& memory) {
    Matrix x = memory.in_out(s.N, s.C, 1), y = memory.output(s.N, s.C);
    const Matrix stream = memory.input(s.N, s.C, 2);
    const View to = in_place ? x.view() : y.view();
    k.panels(s.N, [&](Rows r) {
      Dropout op = kFar;
      op.y = to[r], op.x = x.view()[r], op.rows_before += r.first;
      if (adds) op.add = stream.view()[r];
      k.dropout(op);
    });
    return written(std::move(x), std::move(y));
  });
}

TEST_CASE("dropout's masks are Philox's words, the same in every width and piece", "[kernels][dropout]") {
  const TestedBackend tested;
  ReferenceBackend reference;
  const Shape s = GENERATE(from_range(kShapes));
  Dropout op = GENERATE(named(0.5, 1), kFar, named(0.9, 7, 3, 1, 11));
  const std::string mask = mask_of(*tested, op, s);
  std::string expected, narrow;
  const std::int64_t half = (s.C + 1) / 2;
  for (std::int64_t n = 0; n < s.N; ++n)
    for (std::int64_t c = 0; c < s.C; ++c) {
      expected += is_kept(op, n, c) ? '1' : '0';
      if (c < half) narrow += expected.back();
    }
  CHECK((mask == expected));
  CHECK((mask_of(*tested, op, {s.N, half}) == narrow));
  const std::int64_t later = s.N / 2;
  op.rows_before += later;
  CHECK((mask_of(*tested, op, {s.N - later, s.C}) == expected.substr(static_cast<std::size_t>(later * s.C))));
}

TEST_CASE("dropout drops the share that it is told, and other names give other masks", "[kernels][dropout]") {
  const TestedBackend tested;
  const Shape s{200, 160};
  const double rate = GENERATE(0.0, 0.1, 0.5, 0.99);
  const std::string mask = mask_of(*tested, named(rate, 3, 5, 2), s);
  const double count = static_cast<double>(mask.size());
  const double dropped = static_cast<double>(std::count(mask.begin(), mask.end(), '0'));
  CHECK(std::abs(dropped - rate * count) <= 4 * std::sqrt(rate * (1 - rate) * count));
  if (rate != 0.5) return;
  std::set<std::string> masks{mask};
  for (const Dropout& other : {named(rate, 4, 5, 2), named(rate, 3 + kHigh, 5, 2), named(rate, 3, 6, 2), named(rate, 3, 5 + kHigh, 2),
                               named(rate, 3, 5, 3), named(rate, 3, 5, 2, 200), named(rate, 3, 5, 2, static_cast<std::int64_t>(kHigh))})
    masks.insert(mask_of(*tested, other, s));
  CHECK(masks.size() == 8);
}

TEST_CASE("what dropout drops is 0 whatever it was, and rate 0 drops nothing", "[kernels][dropout]") {
  const TestedBackend tested;
  const Memory memory{DType::float32, 5};
  const Matrix nan(4, 64, 64, DType::float32, kInputMark, kInputMark), x = memory.input(4, 64, 1), stream = memory.input(4, 64, 2);
  Matrix y = memory.output(4, 64);
  Dropout op = named(named(0.5, 1), y.view(), nan.view(), stream.view());
  tested->dropout(op);
  for (std::int64_t n = 0; n < 4; ++n)
    for (std::int64_t c = 0; c < 64; ++c) CHECK((is_kept(op, n, c) ? std::isnan(y.at(n, c)) : y.at(n, c) == stream.at(n, c)));
  op.x = x.view(), op.rate = 0, op.add = {};
  tested->dropout(op);
  CHECK(y.same_bits(x));
}

TEST_CASE("dropout is its own derivative's integral", "[kernels][gradient]") {
  const Memory memory;
  ReferenceBackend k;
  Matrix x = memory.input(3, 7, 1), y = memory.output(3, 7), dx = memory.output(3, 7);
  const Matrix dy = memory.input(3, 7, 3);
  const Dropout op = named(named(0.4, 9), y.view(), std::as_const(x).view());
  const auto loss = [&] {
    k.dropout(op);
    return dot(y, dy);
  };
  k.dropout(named(op, dx.view(), dy.view()));
  CHECK_THAT(dx, near(finite_difference(x, loss), tolerance("finite_difference", DType::float64)));
}

TEST_CASE("dropout refuses rates and counts that it cannot have", "[kernels][dropout]") {
  const TestedBackend tested;
  const Memory memory{DType::float32};
  const Matrix x = memory.input(2, 8, 1), narrow = memory.input(2, 7, 1);
  Matrix y = memory.output(2, 8);
  const Dropout op = named(named(0.5, 0), y.view(), x.view());
  const auto refused = [&](const auto& change) {
    Dropout changed = op;
    change(changed);
    CHECK_THROWS_AS(tested->dropout(changed), ShapeError);
  };
  refused([](Dropout& d) { d.rate = 1; });
  refused([](Dropout& d) { d.rate = -0.1; });
  refused([](Dropout& d) { d.rate = NAN; });
  refused([](Dropout& d) { d.step = std::uint64_t{1} << 40; });
  refused([](Dropout& d) { d.place = 1 << 16; });
  refused([](Dropout& d) { d.rows_before = -1; });
  refused([&](Dropout& d) { d.x = narrow.view(); });
}

}  // namespace elastiform
