#include "search/result_store.hpp"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>

#include "kernels/errors.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/killed_child.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

namespace fs = std::filesystem;
using Mode = ResultStore::Mode;

constexpr const char* kSpace = "0123456789abcdef0123456789abcdef";

ResultStore open_store(const TemporaryFolder& folder, Mode mode) { return {folder.path(), mode, kSpace, "recipe = 1\n"}; }

SearchDescription search_of(const std::string& algorithm, std::uint64_t seed = 0) {
  SearchDescription search;
  search.algorithm = algorithm;
  search.budget = "parameters=..2M";
  search.weights_hash = "w1";
  search.seed = seed;
  return search;
}

/// The i-th of a list of evaluations that all differ; the number of blocks differs too.
Evaluation evaluation_of(int i) {
  Evaluation e;
  e.subnet = parse_subnet("e" + std::to_string(64 + i) + ":2xh2f128,h4f" + std::to_string(256 + i));
  e.weights_hash = "w1";
  e.split = "search";
  e.blocks = "stride=64,segments=all";
  e.score.loss = 3.0 + 0.125 * i;
  e.score.loss_se = 0.01;
  e.score.accuracy = 0.5;
  for (int b = 0; b < 3 + i % 5; ++b) e.score.block_losses.push_back(static_cast<float>(b) + static_cast<float>(i) / 8);
  e.score.seconds = 0.25;
  e.costs = {1000 + i, 900 + i, 5000 + i, 70000 + i, 800000 + i};
  return e;
}

std::vector<Evaluation> round_of(int first, int count) {
  std::vector<Evaluation> round;
  for (int i = 0; i < count; ++i) round.push_back(evaluation_of(first + i));
  return round;
}

void check_same(const Evaluation& found, const Evaluation& wanted) {
  CHECK(key_of(found) == key_of(wanted));
  CHECK(found.score.loss == wanted.score.loss);
  CHECK(found.score.loss_se == wanted.score.loss_se);
  CHECK(found.score.accuracy == wanted.score.accuracy);
  CHECK(found.score.block_losses == wanted.score.block_losses);
  CHECK(found.score.seconds == wanted.score.seconds);
  CHECK(found.costs == wanted.costs);
  CHECK(std::isnan(found.latency_ms) == std::isnan(wanted.latency_ms));
}

std::string digest_of(const TemporaryFolder& folder) { return Hdf5Reader(folder / "results.h5", "results").digest({}); }

constexpr int kRounds = 4, kRoundSize = 4;

/// Adds the rounds that the store lacks of kRounds rounds.
void finish(const TemporaryFolder& folder, const std::function<void()>& acknowledge) {
  ResultStore store = open_store(folder, Mode::write);
  const SearchDescription search = search_of("random");
  for (int r = static_cast<int>(store.rounds(search.name()).size()); r < kRounds; ++r) {
    auto round = round_of(r * kRoundSize, kRoundSize);
    store.append(search, round);
    acknowledge();
  }
  store.fold();
}

}  // namespace

TEST_CASE("evaluations costed under another [deploy] are shown with today's costs and kept with their own", "[results]") {
  const TemporaryFolder folder;
  auto then = search_of("random"), now = search_of("random");
  then.deploy = "f32,batch=1", now.deploy = "f32,batch=8";
  const auto eightfold = [](const Subnet& subnet) {
    Costs costs;
    costs.inference_bytes = subnet.embed;
    return costs;
  };
  auto old = round_of(0, 2), fresh = round_of(2, 1);
  {
    ResultStore store = open_store(folder, Mode::write);
    store.append(then, old);
    store.show_costs(now.deploy, eightfold);
    CHECK(store.evaluations()[1].costs.inference_bytes == 65);
    CHECK(store.find(1)->costs.inference_bytes == 64);
    CHECK(store.find(key_of(old[1]))->costs.inference_bytes == 65);
    CHECK(store.rounds(then.name())[0][1].costs.inference_bytes == 65);
    store.append(now, fresh);  // costed under today's
    CHECK(store.find(3)->costs == evaluation_of(2).costs);
    store.fold();
    CHECK(store.evaluations()[1].costs.inference_bytes == 65);
  }
  ResultStore store = open_store(folder, Mode::read);
  for (int i = 0; i < 3; ++i) CHECK(store.find(i + 1)->costs == evaluation_of(i).costs);
  store.show_costs(then.deploy, eightfold);
  CHECK(store.find(1)->costs == evaluation_of(0).costs);
  CHECK(store.find(3)->costs.inference_bytes == 66);
}

TEST_CASE("a store gives back every evaluation, round and search after reopening", "[search][store]") {
  const TemporaryFolder folder;
  const SearchDescription random = search_of("random"), evolution = search_of("evolution", std::uint64_t{1} << 63);
  {
    ResultStore store = open_store(folder, Mode::write);
    auto first = round_of(0, 5), second = round_of(5, 3), third = round_of(8, 2);
    third[1].latency_ms = 1.5;
    third[1].search = "evaluate";
    store.append(random, first);
    store.append(random, second);
    store.append(evolution, third);
    CHECK(first[4].id == 5);
    CHECK(second[0].id == 6);
    CHECK(second[0].round == 1);
    CHECK(second[0].search == random.name());
    CHECK(third[1].search == "evaluate");
  }
  for (const Mode mode : {Mode::read, Mode::write}) {
    const ResultStore store = open_store(folder, mode);
    REQUIRE(store.evaluations().size() == 10);
    for (int i = 0; i < 9; ++i) check_same(store.evaluations()[static_cast<std::size_t>(i)], evaluation_of(i));
    CHECK(store.find(10)->latency_ms == 1.5);
    CHECK(store.find(7)->id == 7);
    CHECK_FALSE(store.find(11).has_value());
    CHECK_FALSE(store.find(0).has_value());
    CHECK(store.find(key_of(evaluation_of(6)))->id == 7);
    CHECK_FALSE(store.find(key_of(evaluation_of(99))).has_value());
    REQUIRE(store.searches().size() == 2);
    CHECK(store.searches()[1].name() == evolution.name());
    CHECK(store.searches()[1].seed == std::uint64_t{1} << 63);
    REQUIRE(store.rounds(random.name()).size() == 2);
    CHECK(store.rounds(random.name())[1].size() == 3);
    CHECK(store.rounds("nothing").empty());
  }
}

TEST_CASE("equal keys are one evaluation, whoever asks again", "[search][store]") {
  const TemporaryFolder folder;
  {
    ResultStore store = open_store(folder, Mode::write);
    auto first = round_of(0, 3);
    store.append(search_of("random"), first);
    auto again = round_of(1, 3);        // 1 and 2 are known by key
    again.push_back(first[0]);          // known by id
    again.push_back(evaluation_of(3));  // twice in this round
    again[0].score.loss = 99;           // a memo keeps what was measured first
    store.append(search_of("evolution"), again);
    REQUIRE(again.size() == 5);
    CHECK(again[0].id == 2);
    CHECK(again[0].score.loss == evaluation_of(1).score.loss);
    CHECK(again[2].id == 4);
    CHECK(again[3].id == 1);
    CHECK(again[4].id == 4);
    CHECK(store.evaluations().size() == 4);
    std::vector<Evaluation> unknown{evaluation_of(50)};
    unknown[0].id = 17;
    CHECK_THROWS_AS(store.append(search_of("evolution"), unknown), std::logic_error);
    std::vector<Evaluation> none;
    store.append(search_of("nobody"), none);
    CHECK(store.searches().size() == 2);
  }
  const ResultStore store = open_store(folder, Mode::read);
  const auto rounds = store.rounds(search_of("evolution").name());
  REQUIRE(rounds.size() == 1);
  std::vector<std::int64_t> ids;
  for (const Evaluation& e : rounds[0]) ids.push_back(e.id);
  CHECK(ids == std::vector<std::int64_t>{2, 3, 4, 1, 4});

  Evaluation other = evaluation_of(0);
  for (std::string* field : {&other.weights_hash, &other.split, &other.blocks, &other.precision}) {
    const std::string before = *field;
    *field = "another";
    CHECK_FALSE(store.find(key_of(other)).has_value());
    *field = before;
  }
  CHECK(store.find(key_of(other)).has_value());
}

TEST_CASE("a search's name is the hash of everything that decides its course", "[search][store]") {
  const std::string name = search_of("random").name();
  CHECK(name.size() == 16);
  CHECK(name == search_of("random").name());
  std::vector<std::string> names{name};
  SearchDescription changed = search_of("random");
  for (std::string* field : {&changed.algorithm, &changed.options, &changed.budget, &changed.law, &changed.deployable, &changed.deploy,
                             &changed.weights_hash, &changed.blocks}) {
    *field += "x";
    names.push_back(changed.name());
  }
  names.push_back(search_of("random", 1).name());
  std::sort(names.begin(), names.end());
  CHECK(std::unique(names.begin(), names.end()) == names.end());
  SearchDescription a, b;
  a.options = "xy";
  b.options = "x";
  b.budget = "y";
  CHECK(a.name() != b.name());
}

TEST_CASE("results.h5 has the documented objects and columns", "[search][store]") {
  const TemporaryFolder folder;
  finish(folder, [] {});
  const Hdf5Reader file(folder / "results.h5", "results");
  CHECK(file.text_attribute("/", "format") == "elastiform-results");
  CHECK(file.text_attribute("/", "space_hash") == kSpace);
  CHECK(file.text_attribute("/", "recipe") == "recipe = 1\n");
  CHECK(file.has_attribute("/", "code_version"));
  const ColumnTable evaluations = file.table("/evaluations");
  std::string names;
  for (const auto& column : evaluations.columns) names += column.name + " ";
  CHECK(names ==
        "id subnet weights_hash split blocks precision loss loss_se accuracy parameters block_parameters macs inference_bytes "
        "training_bytes latency_ms search round seconds block_count ");
  CHECK(evaluations.texts("subnet")[1] == "e65:2xh2f128,h4f257");
  CHECK(file.shape("/block_losses") == std::vector<std::uint64_t>{kRounds * kRoundSize, 7});
  CHECK(file.table("/rounds").integers("first_id")[1] == kRoundSize + 1);
  CHECK(file.table("/rounds").integers("count")[1] == kRoundSize);
  CHECK(file.table("/searches").texts("name")[0] == search_of("random").name());
}

TEST_CASE("opening to read writes nothing, and sees what only the journal has", "[search][store]") {
  const TemporaryFolder folder;
  CHECK(open_store(folder, Mode::read).evaluations().empty());
  CHECK(fs::is_empty(folder.path()));
  run_killed_at(0, [&](const auto&) {
    ResultStore store = open_store(folder, Mode::write);
    for (int r = 0; r < 2; ++r) {
      auto round = round_of(r * 40, 40);
      store.append(search_of("random"), round);
    }
    auto last = round_of(80, 1);  // one row of 81: far below a quarter, so it stays in the journal
    store.append(search_of("random"), last);
    ::_exit(0);
  });
  const std::string file = content_of(folder / "results.h5"), journal = content_of(folder / "results.journal");
  CHECK(Hdf5Reader(folder / "results.h5", "results").table("/evaluations").rows() == 80);
  CHECK(open_store(folder, Mode::read).evaluations().size() == 81);
  ResultStore reader = open_store(folder, Mode::read);
  auto round = round_of(100, 1);
  CHECK_THROWS_AS(reader.append(search_of("random"), round), std::logic_error);
  CHECK_THROWS_AS(reader.fold(), std::logic_error);
  CHECK(content_of(folder / "results.h5") == file);
  CHECK(content_of(folder / "results.journal") == journal);
  { const ResultStore writer = open_store(folder, Mode::write); }
  CHECK(Hdf5Reader(folder / "results.h5", "results").table("/evaluations").rows() == 81);
}

TEST_CASE("a fold that is repeated changes nothing", "[search][store]") {
  const TemporaryFolder folder;
  std::string journal;
  {
    ResultStore store = open_store(folder, Mode::write);
    for (int r = 0; r < 3; ++r) {
      auto round = round_of(r * 30, 30);
      store.append(search_of("random"), round);
      auto repeat = round_of(r * 30, 2);
      store.append(search_of("evolution"), repeat);
      journal = content_of(folder / "results.journal");
    }
  }
  const std::string folded = content_of(folder / "results.h5");
  REQUIRE(journal.size() > 100);  // rounds of both searches that results.h5 has too
  folder.write("results.journal", journal);
  CHECK(open_store(folder, Mode::read).evaluations().size() == 90);
  { const ResultStore store = open_store(folder, Mode::write); }
  CHECK(content_of(folder / "results.h5") == folded);
  fs::remove(folder / "results.h5");  // now the journal hangs in the air
  folder.write("results.journal", journal);
  CHECK_THROWS_AS(open_store(folder, Mode::read), InputError);
}

TEST_CASE("a store killed at every point loses nothing that was appended, and ends like one that was not", "[search][store][kill]") {
  const TemporaryFolder whole;
  finish(whole, [] {});
  const std::string wanted = digest_of(whole);
  TemporaryFolder folder;
  int points = 0, resumed = 0;
  points = kill_at_every_point(
      [&] {
        for (const auto& entry : fs::directory_iterator(folder.path())) fs::remove(entry);
      },
      [&](const auto& acknowledge) { finish(folder, acknowledge); },
      [&](int n, const ChildEnd& end) {
        CAPTURE(n, end.acknowledged);
        const std::size_t rounds = open_store(folder, Mode::read).rounds(search_of("random").name()).size();
        CHECK(rounds >= static_cast<std::size_t>(end.acknowledged));
        CHECK(rounds <= static_cast<std::size_t>(end.acknowledged) + 1);
        CHECK(open_store(folder, Mode::read).evaluations().size() == kRoundSize * rounds);
        finish(folder, [] {});
        CHECK(digest_of(folder) == wanted);
        resumed += rounds > 0 && rounds < kRounds ? 1 : 0;
      });
  CHECK(points >= 30);
  CHECK(resumed >= 15);
}

TEST_CASE("readers see whole rounds and never fewer than before while a writer works", "[search][store]") {
  const TemporaryFolder folder;
  const pid_t writer = ::fork();
  REQUIRE(writer >= 0);
  if (writer == 0) {
    try {
      ResultStore store = open_store(folder, Mode::write);
      for (int r = 0; r < 60; ++r) {
        auto round = round_of(r * kRoundSize, kRoundSize);
        store.append(search_of("random"), round);
      }
      store.fold();
    } catch (const std::exception&) {
      ::_exit(1);
    }
    ::_exit(0);
  }
  std::size_t seen = 0;
  int status = 0, looks = 0;
  bool ended = false;
  while (!ended) {
    ended = ::waitpid(writer, &status, WNOHANG) == writer;
    const ResultStore store = open_store(folder, Mode::read);
    const std::size_t now = store.evaluations().size();
    if (now < seen || now % kRoundSize != 0) FAIL("saw " << now << " after " << seen);
    seen = now;
    ++looks;
  }
  CHECK(status == 0);
  CHECK(seen == 60 * kRoundSize);
  CHECK(looks > 1);
}

TEST_CASE("foreign folders, spaces and files are refused in one line", "[search][store][hostile]") {
  const TemporaryFolder folder;
  finish(folder, [] {});
  CHECK_THROWS_WITH(ResultStore(folder.path(), Mode::read, "fedcba9876543210", ""), Catch::Contains("of the space fedcba9876543210"));
  CHECK_THROWS_AS(ResultStore(folder.path(), Mode::write, "fedcba9876543210", ""), InputError);
  CHECK_NOTHROW(ResultStore(folder.path(), Mode::read, "", ""));
  CHECK_THROWS_AS(ResultStore(folder / "none", Mode::read, kSpace, ""), InputError);

  const std::string file = content_of(folder / "results.h5");
  folder.write("results.h5", file.substr(0, file.size() - 100));
  CHECK_THROWS_WITH(open_store(folder, Mode::read), Catch::Contains("results.h5") && Catch::Contains("truncated"));
  CHECK_THROWS_AS(open_store(folder, Mode::write), InputError);
  folder.write("results.h5", file);
  {
    Hdf5Writer other(folder / "results.h5", "results");
    other.attribute("/", "version", std::int64_t{2});
    other.close();
  }
  CHECK_THROWS_WITH(open_store(folder, Mode::read), Catch::Contains("newer elastiform"));
  {
    Hdf5Writer other(folder / "results.h5", "results");
    other.attribute("/", "version", std::int64_t{1});
    other.attribute("/", "space_hash", kSpace);
    other.attribute("/", "recipe", "");
    other.close();
  }
  CHECK_THROWS_WITH(open_store(folder, Mode::read), Catch::Contains("/evaluations"));
  folder.write("results.h5", file);
  folder.write("results.journal", "not a journal at all, but long enough");
  CHECK_THROWS_WITH(open_store(folder, Mode::read), Catch::Contains("results.journal"));
}

}  // namespace elastiform
