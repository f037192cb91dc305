#include "experiments/elastiform/output.hpp"

#include <cmath>

#include "experiments/elastiform/training_log.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

TEST_CASE("numbers carry units and three digits", "[experiments][output]") {
  CHECK(bytes_text(0) == "0 bytes");
  CHECK(bytes_text(1023) == "1023 bytes");
  CHECK(bytes_text(1536) == "1.50 KiB");
  CHECK(bytes_text(12.34 * 1024 * 1024) == "12.3 MiB");
  CHECK(count_text(999) == "999");
  CHECK(count_text(1234567) == "1.23 M");
  CHECK(count_text(999999) == "1.00 M");
  CHECK(grouped(std::int64_t{1234567}) == "1,234,567");
  CHECK(grouped(std::int64_t{-123}) == "-123");
  CHECK(grouped("123456789012345678901234567890") == "123,456,789,012,345,678,901,234,567,890");
  CHECK(duration_text(0.25) == "0.2 s");
  CHECK(duration_text(59.7) == "1 min 0 s");
  CHECK(duration_text(7500) == "2 h 5 min");
  CHECK(duration_text(NAN) == "?");
}

TEST_CASE("JSON keeps order, escapes text and has no numbers that are none", "[experiments][output]") {
  JsonObject object;
  object.add("b", 0.1)
      .add("a", "x\"\n\xff")
      .add("n", NAN)
      .add("i", std::int64_t{1} << 60)
      .add("t", true)
      .add_json("l", json_list({"1", "2"}));
  CHECK(object.text() ==
        "{\"b\": 0.1, \"a\": \"x\\\"\\n\xEF\xBF\xBD\", \"n\": null, \"i\": 1152921504606846976, \"t\": true, \"l\": [1, 2]}");
  CHECK(json_list({}) == "[]");
}

TEST_CASE("tables align and end without blanks", "[experiments][output]") {
  Table table({"name", "x"});
  table.row({"a", "10"});
  table.row({"longer", ""});
  CHECK(table.text() == "name     x\na       10\nlonger\n");
}

TEST_CASE("a training log drops what came after the checkpoint and what was torn", "[experiments][log]") {
  const TemporaryFolder folder;
  const auto path = folder / "training.jsonl";
  const std::string first = R"({"step": 10, "loss": {"middle": 2.5}, "checkpoint": true, "seconds": 1.5})",
                    second = R"({"step": 20, "loss": {"middle": 2.0}, "checkpoint": false, "seconds": 3})", torn = R"({"step": 30, "lo)";
  {
    TrainingLog log(path, 0);
    CHECK(std::isinf(log.best_middle()));
    log.append(first);
    log.append(second);
  }
  CHECK(content_of(path) == first + "\n" + second + "\n");
  folder.write("training.jsonl", first + "\n" + second + "\n" + torn);
  {
    const TrainingLog log(path, 20);
    CHECK(log.best_middle() == 2.5);  // only checkpointed rows: another state has no file
    CHECK(log.seconds() == 3);
  }
  CHECK(content_of(path) == first + "\n" + second + "\n");
  { const TrainingLog log(path, 19); }
  CHECK(content_of(path) == first + "\n");
  // Damage before whole rows is no torn end: cutting there would lose them for good.
  for (const std::string damaged : {"not json", "{\"loss\": 1}", "{\"step\": \"ten\"}", "[10]", ""}) {
    const auto text = first + "\n" + damaged + "\n" + second + "\n";
    folder.write("training.jsonl", text);
    CHECK_THROWS_WITH(TrainingLog(path, 20), Catch::Contains(path + ": line 2: expected a row of a training"));
    CHECK(content_of(path) == text);
  }
}

}  // namespace
}  // namespace elastiform
