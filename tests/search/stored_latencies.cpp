// Latencies that are measured after their rows were written.
#include <cmath>
#include <stdexcept>

#include "search/result_store.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

using Mode = ResultStore::Mode;

ResultStore open_store(const TemporaryFolder& folder, Mode mode) { return {folder.path(), mode, "space", "recipe = 1\n"}; }

SearchDescription search_under(const std::string& deploy) {
  SearchDescription search;
  search.algorithm = "random";
  search.deploy = deploy;
  return search;
}

std::vector<Evaluation> round_of(int first, int count) {
  std::vector<Evaluation> round;
  for (int i = first; i < first + count; ++i) {
    Evaluation& evaluation = round.emplace_back();
    evaluation.subnet = parse_subnet("e" + std::to_string(64 + i) + ":h2f128");
    evaluation.weights_hash = "w";
    evaluation.split = "search";
    evaluation.score.block_losses = {1};
  }
  return round;
}

}  // namespace

TEST_CASE("medians that are measured afterwards join their rows, of today's [deploy] alone, and can be forgotten", "[search][store]") {
  const TemporaryFolder folder;
  const SearchDescription then = search_under("f32,batch=8"), now = search_under("f32,batch=1");
  {
    ResultStore store = open_store(folder, Mode::write);
    auto old = round_of(0, 2), fresh = round_of(2, 2);
    store.append(then, old);
    store.set_latencies({{1, 8.5}});  // while batch=8 was today's
    store.append(now, fresh);
    store.show_costs(now.deploy, [](const Subnet&) { return Costs{}; });
    CHECK(std::isnan(store.find(1)->latency_ms));
    store.set_latencies({{2, 1.25}, {4, 1.5}});
    CHECK(store.find(2)->latency_ms == 1.25);                  // shown here, and kept nowhere
    const ResultStore other = open_store(folder, Mode::read);  // on disk already
    CHECK(other.find(4)->latency_ms == 1.5);
    CHECK(std::isnan(other.find(3)->latency_ms));
    CHECK(other.find(1)->latency_ms == 8.5);
    CHECK(std::isnan(other.find(2)->latency_ms));
    CHECK_THROWS_AS(store.set_latencies({{5, 1.0}}), std::logic_error);
  }
  ResultStore store = open_store(folder, Mode::write);
  store.show_costs(now.deploy, [](const Subnet&) { return Costs{}; });
  store.forget_latencies();
  const ResultStore other = open_store(folder, Mode::read);
  for (int id = 1; id <= 4; ++id) CHECK(std::isnan(other.find(id)->latency_ms));
}

}  // namespace elastiform
