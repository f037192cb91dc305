#include <array>
#include <atomic>

#include "kernels/collectives/nccl_link.hpp"
#include "kernels/collectives/nccl_on_host.hpp"
#include "kernels/collectives/sum_tree.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/ranks.hpp"

namespace elastiform {
namespace {

using Catch::Matchers::Contains;
using nccl_on_host::NcclLink;

/// Streams are told apart by their addresses; the twin runs at once.
std::array<char, 4> streams;
void* stream(std::size_t i = 0) { return &streams[i]; }

}  // namespace

TEST_CASE("the sum tree over NCCL's messages has the bits of the tree in one process", "[kernels][collectives][nccl]") {
  constexpr std::int64_t kSummands = 12;
  const auto sum = [](int size) {
    std::atomic<float> result{0};
    run_ranks(size, [&](Communicator& ranks) {
      NcclLink link(ranks, stream());
      SumTree tree(kSummands, ranks.size(), ranks.rank());
      std::vector<float> slots(static_cast<std::size_t>(tree.slots()));
      const auto at = [&](int slot) -> float& { return slots.at(static_cast<std::size_t>(slot)); };
      const auto add = [&](int to, int from) { at(to) += at(from); };
      for (std::int64_t i = tree.first(); i < tree.first() + tree.count(); ++i) {
        at(tree.next_slot()) = 1.0f / static_cast<float>(3 * i + 1);
        tree.push(add);
      }
      const int slot = tree.finish(
          add, [&](int from, int rank) { link.send(rank, std::as_bytes(std::span(&at(from), 1))); },
          [&](int to, int rank) {
            float other = 0;
            link.receive(rank, std::as_writable_bytes(std::span(&other, 1)));
            at(to) += other;
          });
      float whole = ranks.leads() ? at(slot) : 0;
      broadcast(ranks, link, std::as_writable_bytes(std::span(&whole, 1)));
      link.check_queued();
      if (ranks.rank() == ranks.size() - 1) result = whole;
    });
    return result.load();
  };
  const float one = sum(1);
  CHECK(one > 1.4f);
  for (const int size : {2, 3, 4, 6, 12}) CHECK(sum(size) == one);
}

TEST_CASE("NCCL's twin refuses what the library leaves undefined", "[kernels][collectives][nccl]") {
  using namespace nccl_on_host;
  const auto failure = [](int size, const std::function<void(Communicator&, NcclLink&)>& body) {
    std::string said;
    try {
      run_ranks(size, [&](Communicator& ranks) {
        NcclLink link(ranks, stream());
        body(ranks, link);
      });
    } catch (const std::runtime_error& error) {
      said = error.what();
    }
    return said;
  };
  std::array<std::byte, 8> bytes{};
  const auto of = [](std::array<std::byte, 8>& all, std::size_t count) { return std::span(all).first(count); };
  const auto both = [&](std::size_t sent, std::size_t received) {
    return failure(2, [&](Communicator& ranks, NcclLink& link) {
      std::array<std::byte, 8> mine{};
      if (ranks.leads()) link.send(1, of(mine, sent));
      else link.receive(0, of(mine, received));
    });
  };
  CHECK(both(8, 8).empty());
  CHECK_THAT(both(8, 4), Contains("rank 0 sends 8 of type 1, received are 4 of type 1") || Contains("gone"));
  CHECK_THAT(failure(2, [&](Communicator& ranks, NcclLink& link) { link.send(ranks.rank(), bytes); }), Contains("invalid argument"));
  CHECK_THAT(failure(2, [&](Communicator&, NcclLink& link) { link.send(2, bytes); }), Contains("rank 2"));
  // Nobody receives: a deadlock of the device's queues.
  CHECK_THAT(failure(2,
                     [&](Communicator& ranks, NcclLink& link) {
                       std::array<std::byte, 8> mine{};
                       link.send(1 - ranks.rank(), mine);
                     }),
             Contains("wait for each other"));
}

TEST_CASE("NCCL's twin compares types and streams, and knows who has joined", "[kernels][collectives][nccl]") {
  using namespace nccl_on_host;
  ncclUniqueId id{};
  ncclComm_t comm = nullptr;
  CHECK(ncclCommInitRank(&comm, 1, id, 0) == ncclInvalidArgument);  // nobody has made that name
  REQUIRE(ncclGetUniqueId(&id) == ncclSuccess);
  CHECK(ncclCommInitRank(&comm, 2, id, 2) == ncclInvalidArgument);
  ncclUniqueId single{};
  REQUIRE(ncclGetUniqueId(&single) == ncclSuccess);
  REQUIRE(ncclCommInitRank(&comm, 1, single, 0) == ncclSuccess);
  ncclComm_t again = nullptr;
  CHECK(ncclCommInitRank(&again, 1, single, 0) == ncclInvalidArgument);
  CHECK_THAT(ncclGetLastError(nullptr), Contains("joins twice"));
  CHECK(ncclCommAbort(comm) == ncclSuccess);

  std::atomic<int> wrong_type{0}, wrong_stream{0}, no_stream{0}, later{0};
  run_ranks(2, [&](Communicator& ranks) {
    ncclComm_t mine = nullptr;
    if (ncclCommInitRank(&mine, 2, id, ranks.rank()) != ncclSuccess) throw std::runtime_error("could not join");
    const auto queue = [](std::size_t i) { return static_cast<cudaStream_t>(stream(i)); };
    float value = 3;
    const int peer = 1 - ranks.rank();
    if (ranks.leads()) ncclSend(&value, 1, ncclFloat32, peer, mine, queue(0));
    else ncclRecv(&value, 1, ncclFloat32, peer, mine, queue(1));
    wrong_stream += ncclSend(&value, 1, ncclFloat32, peer, mine, queue(3)) == ncclInvalidUsage ? 1 : 0;
    no_stream += ncclSend(&value, 1, ncclFloat32, peer, mine, nullptr) == ncclInvalidUsage ? 1 : 0;
    const ncclResult_t result =
        ranks.leads() ? ncclSend(&value, 4, ncclUint8, peer, mine, queue(0)) : ncclRecv(&value, 1, ncclFloat32, peer, mine, queue(1));
    if (!ranks.leads()) wrong_type += result == ncclInvalidUsage ? 1 : 0;
    ncclResult_t failed = ncclSuccess;
    later += ncclCommGetAsyncError(mine, &failed) == ncclSuccess && failed != ncclSuccess ? 1 : 0;
    ncclCommAbort(mine);
  });
  CHECK(wrong_type == 1);
  CHECK(wrong_stream == 2);
  CHECK(no_stream == 2);
  CHECK(later == 2);  // the sender missed its receiver
}

}  // namespace elastiform
