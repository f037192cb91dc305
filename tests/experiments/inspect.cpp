#include <unistd.h>

#include <filesystem>

#include "experiments/elastiform/inspected_file.hpp"
#include "experiments/elastiform/recipe.hpp"
#include "kernels/errors.hpp"
#include "search/result_store.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/killed_child.hpp"
#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

/// What two runs that should agree may differ in, and what they may not.
struct RunParts {
  std::string text = "text.txt", commit = "abc", isa = "AVX2";
  double seconds = 1.0, loss = 3.25, weight = 0.5;
  bool fold = true;
};

std::string recipe_text(const RunParts& parts) {
  return Recipe::parse("[data]\ntext = \"" + parts.text +
                           "\"\n[model]\nfamily = \"decoder\"\npreset = \"llama\"\ncontext = 32\nhead_dim = 16\n"
                           "[space]\nembed = [32, 64]\ndepth = [1, 2]\nheads = [1, 2]\nffn_ratio = [2, 4]\n[train]\nsteps = 10\n",
                       "test")
      .text();
}

void write_supernet(const std::string& path, const RunParts& parts) {
  Hdf5Writer file(path, "supernet");
  for (const auto& [name, value] : std::initializer_list<std::pair<const char*, std::string>>{{"version", "0.1.0-" + parts.commit},
                                                                                              {"commit", parts.commit},
                                                                                              {"isa", parts.isa},
                                                                                              {"compiler", parts.isa},
                                                                                              {"precision", "f32"},
                                                                                              {"weights_hash", "00112233445566778899"},
                                                                                              {"recipe", recipe_text(parts)}})
    file.attribute("/", name, value);
  file.attribute("/", "step", std::int64_t{10});
  const float weights[] = {1, 2, static_cast<float>(parts.weight)};
  file.dataset("/weights/embedding.token", std::span<const float>(weights));
  file.close();
}

/// A run folder with every file of one; made without training.
void make_run(const TemporaryFolder& folder, const RunParts& parts) {
  folder.write("recipe.toml", recipe_text(parts));
  folder.write("training.jsonl", "{\"step\":5,\"loss\":{\"middle\":3.5},\"train_loss\":" + std::to_string(parts.loss) +
                                     ",\"seconds\":" + std::to_string(parts.seconds) +
                                     ",\"tokens_per_second\":" + std::to_string(parts.seconds) + "}\n{\"step\":9,\"to");
  write_supernet(folder / "supernet.h5", parts);
  std::filesystem::create_directories(folder / "checkpoints");
  write_supernet(folder / "checkpoints/step-000010.h5", parts);
  const auto fill = [&] {
    ResultStore store(folder.path(), ResultStore::Mode::write, "space", recipe_text(parts));
    for (int r = 0; r < 4; ++r) {
      std::vector<Evaluation> round(
          r == 3 ? 1 : 40);  // the last rounds are below a quarter of the file: they stay in the journal of a store that is not closed
      for (std::size_t i = 0; i < round.size(); ++i) {
        round[i].subnet = parse_subnet("e" + std::to_string(32 + 100 * r + static_cast<int>(i)) + ":h2f64");
        round[i].split = "search";
        round[i].score.loss = parts.loss;
        round[i].score.block_losses = {1, 2, 3};
        round[i].score.seconds = parts.seconds;
        round[i].latency_ms = parts.seconds;
      }
      SearchDescription search;
      search.algorithm = "random";
      store.append(search, round);
    }
    if (!parts.fold) ::_exit(0);
  };
  if (parts.fold) fill();
  else run_killed_at(0, [&](const auto&) { fill(); });
}

std::string run_digest(const RunParts& parts) {
  const TemporaryFolder folder;
  make_run(folder, parts);
  return digest_of_path(folder.path());
}

std::string summary(const std::string& path) {
  std::string text;
  for (const auto& line : summary_of_path(path)) text += line + "\n";
  return text;
}

}  // namespace

TEST_CASE("the digest of a run ignores timings, build, place of the data and folding, and nothing else", "[experiments][inspect]") {
  const std::string digest = run_digest({});
  CHECK(digest.size() == 64);
  CHECK(digest == run_digest({}));
  RunParts slow;
  slow.seconds = 77;
  CHECK(digest == run_digest(slow));
  RunParts other_build;
  other_build.commit = "def";
  other_build.isa = "AVX-512";
  CHECK(digest == run_digest(other_build));
  RunParts moved;
  moved.text = "../elsewhere/text.txt";
  CHECK(digest == run_digest(moved));
  RunParts in_journal;
  in_journal.fold = false;
  CHECK(digest == run_digest(in_journal));
  RunParts worse;
  worse.loss += 1e-3;
  CHECK(digest != run_digest(worse));
  RunParts trained_otherwise;
  trained_otherwise.weight += 1e-6;
  CHECK(digest != run_digest(trained_otherwise));
}

TEST_CASE("single files have digests too", "[experiments][inspect]") {
  const TemporaryFolder fast, slow, other;
  make_run(fast, {});
  RunParts parts;
  parts.seconds = 5;
  make_run(slow, parts);
  parts.loss = 9;
  parts.weight = 9;
  make_run(other, parts);
  for (const char* file : {"supernet.h5", "results.h5", "training.jsonl", "checkpoints/step-000010.h5"}) {
    CAPTURE(file);
    CHECK(digest_of_path(fast / file) == digest_of_path(slow / file));
    CHECK(digest_of_path(fast / file) != digest_of_path(other / file));
  }
}

TEST_CASE("inspect says what a run and each of its files contains", "[experiments][inspect]") {
  const TemporaryFolder folder;
  RunParts parts;
  parts.fold = false;
  make_run(folder, parts);
  CHECK_THAT(summary(folder.path()), Catch::Contains("supernet.h5") && Catch::Contains("after 10 steps") &&
                                         Catch::Contains("121 evaluations") && Catch::Contains("4 rounds") &&
                                         Catch::Contains("checkpoint: step-000010.h5") && Catch::Contains("1 row,"));
  CHECK_THAT(summary(folder / "results.h5"), Catch::Contains("results file") && Catch::Contains("80 evaluations, 80 on the search split") &&
                                                 Catch::Contains("/block_losses float32 [80, 3]"));
  CHECK_THAT(summary(folder / "results.journal"), Catch::Contains("2 rounds with 41 new evaluations "));
  CHECK_THAT(summary(folder / "supernet.h5"), Catch::Contains("supernet file") && Catch::Contains("/weights/embedding.token float32 [3]"));
  CHECK_THAT(summary(folder / "training.jsonl"), Catch::Contains("1 row, the last of step 5, middle 3.5000 nats/token"));
}

TEST_CASE("inspect refuses what it does not know in one line", "[experiments][inspect][hostile]") {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "empty");
  for (const std::string& path :
       {folder.write("text.txt", "hello"), folder.write("bad.h5", "\x89HDF\r\n\x1a\n and more"), folder.write("empty.h5", ""),
        folder.write("bad.journal", "x"), folder.write("bad.jsonl", "no JSON\n"), folder.write("bad.safetensors", "1234567"),
        folder.write("hf/config.json", "[1"), folder / "empty", folder / "none", std::string("/dev/null")}) {
    CAPTURE(path);
    CHECK_THROWS_AS(summary_of_path(path), InputError);
    if (path.find("hf/") == std::string::npos && path.find("safetensors") == std::string::npos)
      CHECK_THROWS_AS(digest_of_path(path), InputError);
  }
  CHECK_THROWS_AS(summary_of_path(folder / "hf"), InputError);
}

}  // namespace elastiform
