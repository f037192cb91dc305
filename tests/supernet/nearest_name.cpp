#include "supernet/nearest_name.hpp"

#include "tests/support/catch.hpp"

namespace elastiform {

TEST_CASE("the nearest name is the one that a typo meant", "[supernet]") {
  const std::vector<std::string_view> known = {"rate", "steps", "seed", "sequences", "schedule", "clip"};
  const auto [typo, meant] = GENERATE(table<std::string, std::string>({{"rate", "rate"},
                                                                       {"rtae", "rate"},
                                                                       {"RATE", "rate"},
                                                                       {"step", "steps"},
                                                                       {"sed", "seed"},
                                                                       {"sequence", "sequences"},
                                                                       {"shedule", "schedule"},
                                                                       {"", "rate"}}));
  CHECK(nearest_name(typo, known) == meant);
}

TEST_CASE("nothing is near in an empty list, and a huge name costs no more than a long one", "[supernet]") {
  CHECK(nearest_name("rate", {}).empty());
  CHECK(nearest_name(std::string(1 << 20, 's'), {"rate", "sss"}) == "sss");
}

TEST_CASE("an unknown name is answered with all names and the nearest", "[supernet]") {
  CHECK(std::string(unknown_name("split", "serch", {"train", "search", "report"}).what()) ==
        "split: expected one of train, search, report, found 'serch'; nearest search");
  CHECK(std::string(unknown_name("x", "a\nb", {"ab"}).what()) == "x: expected one of ab, found 'a b'; nearest ab");
}

TEST_CASE("long lists are cut and say how long they are", "[supernet]") {
  CHECK(list_of(std::vector<int>{2, 4, 6}) == "2, 4, 6");
  CHECK(list_of(std::vector<int>{1, 2, 3, 4}, 2) == "1, 2, … (4 in all)");
  CHECK(list_of(std::vector<int>{}).empty());
}

}  // namespace elastiform
