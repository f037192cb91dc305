#include "trainers/gradient_sum.hpp"

#include <cstring>
#include <mutex>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/random.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/watched_ranks.hpp"
#include "tests/trainers/fixture.hpp"

namespace elastiform {
namespace {

constexpr int kMicroBatches = 4;

/// The gradients of a micro-batch: any numbers, whose sums depend on their order.
void form(Weights& gradients, std::int64_t micro_batch) {
  RandomStream random(static_cast<std::uint64_t>(micro_batch), Purpose::test);
  float* const values = reinterpret_cast<float*>(gradients.data());
  for (std::int64_t i = 0; i < gradients.table().elements(); ++i) values[i] = static_cast<float>(random.normal());
}

/// What a rank does and sends, in its order.
using Log = std::vector<std::string>;

void pass(GradientSum& sum, const Subnet& subnet, Log& log) {
  for (int i = subnet.depth(); i-- > 0;) {
    log.push_back("block " + std::to_string(subnet.block_index(i)));
    sum.block_done(subnet.block_index(i));
  }
}

struct Summed {
  std::string bits;  // of the active rectangles
  Log log;
  std::int64_t reduced = 0, packed = 0;
};

/// A step of `subnets`, all ranks together; in the order of ranks.
std::vector<Summed> sum_on(int size, const SearchSpace& space, const std::vector<Subnet>& subnets) {
  std::vector<Summed> all(static_cast<std::size_t>(size));
  const auto table = std::make_shared<const WeightTable>(space);
  run_ranks(size, [&](Communicator& inner) {
    Summed& mine = all[static_cast<std::size_t>(inner.rank())];
    WatchedRanks ranks(inner, [&](const WatchedRanks::Message& message) {
      if (message.sends) mine.log.push_back("send " + std::to_string(message.tag));
    });
    const ThreadPool pool(1);
    CpuBackend backend(pool);
    GradientSum sum(table, backend, kMicroBatches, ranks);
    const ActiveBands active(*table, subnets);
    for (int step = 0; step < 2; ++step) {  // a sum serves again
      mine.log.clear();
      sum.begin(active, subnets);
      for (std::int64_t i = sum.first(); i < sum.first() + sum.count(); ++i) {
        form(sum.next(), i);
        for (const Subnet& subnet : subnets) pass(sum, subnet, mine.log);
        mine.log.push_back("add");
        sum.add();
      }
      const Weights& whole = sum.finish();
      std::vector<BandRectangle> rectangles;
      band_rectangles(
          *table, [&](std::int64_t band) { return active[band] ? 0 : -1; }, rectangles);
      mine.bits.clear();
      for (const BandRectangle& one : rectangles)
        for (std::int64_t row = 0; row < one.rows; ++row)
          mine.bits.append(reinterpret_cast<const char*>(one.of(whole).row<float>(row)), static_cast<std::size_t>(one.columns) * 4);
      mine.reduced = sum.reduced_bytes(), mine.packed = sum.packed_bytes();
    }
  });
  return all;
}

}  // namespace

TEST_CASE("gradients of a block set out after the last backward pass through it, before those of the blocks below",
          "[trainers][gradient_sum][data_parallel]") {
  const SearchSpace space = byte_space();
  const Subnet largest = space.largest(), smallest = space.smallest();
  REQUIRE(largest.depth() == 3);
  REQUIRE(smallest.depth() == 1);
  // Rank 1 of 2 sends each part once: tag 1 is the deepest block's, tag 4 what is outside of blocks.
  const std::string one_pass = "block 2,block 1,block 0,block 0,add,";
  const auto log_of = [&](const std::vector<Subnet>& subnets) {
    std::string text;
    const std::vector<Summed> all = sum_on(2, space, subnets);
    for (const std::string& line : all[1].log) text += line + ",";
    return text;
  };
  CHECK(log_of({largest, smallest}) == one_pass + "block 2,send 1,block 1,send 2,block 0,block 0,send 3,add,send 4,");
  CHECK(log_of({smallest, largest}) ==
        "block 0,block 2,block 1,block 0,add,block 0,block 2,send 1,block 1,send 2,block 0,send 3,add,send 4,");
  // Parts that nobody touches are no messages.
  CHECK(log_of({smallest}) == "block 0,add,block 0,send 3,add,send 4,");
  const Subnet last_alone{.embed = largest.embed, .blocks = {largest.blocks.back()}, .kept = {2}};
  CHECK(log_of({last_alone}) == "block 2,add,block 2,send 1,add,send 4,");
}

TEST_CASE("gradients that set out early have the bits of those that one process adds", "[trainers][gradient_sum][data_parallel][bits]") {
  const SearchSpace space = byte_space();
  const std::vector<Subnet> subnets = GENERATE_COPY(std::vector<Subnet>{space.largest(), space.smallest()},
                                                    std::vector<Subnet>{space.smallest()}, std::vector<Subnet>{space.middle()});
  const Summed expected = sum_on(1, space, subnets).front();
  CHECK(expected.reduced == 0);
  for (const int size : {2, 4}) {
    const std::vector<Summed> all = sum_on(size, space, subnets);
    std::int64_t reduced = 0;
    for (const Summed& one : all) {
      CHECK((one.bits == expected.bits));
      CHECK(one.packed == expected.packed);
      CHECK(one.packed == static_cast<std::int64_t>(one.bits.size()));
      reduced += one.reduced;
    }
    CHECK(reduced == (size - 1) * expected.packed);
  }
}

TEST_CASE("gradients that are formed after they have set out are a bug that is named", "[trainers][gradient_sum][data_parallel]") {
  const SearchSpace space = byte_space();
  const auto table = std::make_shared<const WeightTable>(space);
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  GradientSum sum(table, backend, 1, alone());
  const std::vector<Subnet> subnets{space.smallest()};
  sum.begin(ActiveBands(*table, subnets), subnets);
  sum.block_done(0);
  CHECK_THROWS_WITH(sum.block_done(0), Catch::Matchers::Contains("block 0 are formed after they were complete"));
  CHECK_THROWS_AS(sum.finish(), std::logic_error);
}

}  // namespace elastiform
