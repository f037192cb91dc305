#include "supernet/formats/padding.hpp"

#include "tests/support/catch.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/temporary_folder.hpp"

using namespace elastiform;

namespace {

SearchSpace space_of(const char* preset, int queries_per_group, bool biases) {
  ModelConfig model = preset_model(preset);
  model.context = 24;
  model.head_dim = 8;
  model.queries_per_group = queries_per_group;
  model.biases = biases;
  model.branch_scale = 0.4;
  const int q = queries_per_group;
  const SearchSpace::Block block{.heads = {0, q, 2 * q, 3 * q}, .ffn = {.widths = {1, 24, 33}, .ratios = {}}},
      last{.heads = {q, 2 * q}, .ffn = {.widths = {0, 24}, .ratios = {}}};
  return {model, {32, 48}, {1, 2, 3}, {block, block, last}};
}

const std::vector<std::int32_t> kTokens{73, 110, 32, 116, 104, 101, 32, 98, 101, 103, 105, 110, 110, 105, 110, 103};

}  // namespace

TEST_CASE("a padded export computes what the subnet computes", "[formats][padding]") {
  struct Row {
    const char *format, *preset;
    int queries;
    bool biases;
    const char *subnet, *padded;
  };
  const auto row = GENERATE(values<Row>({{"hf-llama", "llama", 1, false, "e48:h1f24,h3f1,h2f0", "e48:3xh3f24"},
                                         {"hf-llama", "llama", 2, false, "e32:h4k2f33,h0f1,h2k1f24", "e32:3xh4k2f33"},
                                         {"hf-llama", "llama", 2, false, "e32:h6k3f33,h2k1f1", "e32:2xh6k3f33"},  // mistral
                                         {"hf-llama", "llama", 1, true, "e32:h3f24,h1f33", "e32:2xh4f33"},  // 3 heads do not divide 32
                                         {"hf-llama", "llama", 1, false, "e32:h0f24", "e32:h1f24"},
                                         {"hf-llama", "llama", 1, false, "e48:h1f24,h2f24@0,2", "e48:2xh2f24"},
                                         {"hf-gpt2", "gpt2", 1, true, "e32:h1f24,h3f33", "e32:2xh4f33"},
                                         {"hf-gpt2", "gpt2", 2, true, "e48:h4k2f33,h0f1,h2k1f0", "e48:3xh6f33"}}));
  CAPTURE(row.format, row.subnet);
  const SearchSpace space = space_of(row.preset, row.queries, row.biases);
  const Subnet subnet = parse_subnet(row.subnet);
  const TemporaryFolder folder;
  const Format& format = find_format(row.format);
  CHECK_FALSE(format.why_not(space.model(), subnet).empty());
  ModelCard described;
  described.costs.parameters = size_of(space.model(), subnet).parameters;
  CHECK(export_model(format, random_weights(space, DType::float32, 3), subnet, described, kTokens, folder / "model", {.pad = true}) <
        kExportTolerance);
  CHECK(load_model(folder / "model").subnet == parse_subnet(row.padded));
  CHECK(content_of(folder / "model/README.md").find("padded with zeros to `" + std::string(row.padded)) != std::string::npos);
}

TEST_CASE("what padding costs is counted from the shapes", "[formats][padding]") {
  const SearchSpace space = space_of("llama", 1, false);
  const Subnet subnet = parse_subnet("e48:h1f24,h2f1");
  const NetworkSize exact = size_of(space.model(), subnet);
  // Embedding and three norms' gains of 48 and two blocks: 4 · 48 · 8 a head, 3 · 48 a column.
  CHECK(exact.parameters == 256 * 48 + 5 * 48 + 3 * 4 * 48 * 8 + 25 * 3 * 48);
  CHECK(exact.cache_bytes == 2 * 3 * 8 * 24 * 4);
  const Padded padded = padded_llama(space.model(), subnet);
  CHECK(size_of(padded.model, padded.subnet).parameters == 256 * 48 + 5 * 48 + 4 * 4 * 48 * 8 + 48 * 3 * 48);
  CHECK(size_of(padded.model, padded.subnet).cache_bytes == 2 * 4 * 8 * 24 * 4);
}

TEST_CASE("what no padding makes alike is refused", "[formats][padding]") {
  const TemporaryFolder folder;
  const auto refusal = [&](const char* format, const SearchSpace& space, const char* subnet) {
    return input_error([&] {
      export_model(find_format(format), random_weights(space, DType::float32, 3), parse_subnet(subnet), ModelCard{}, kTokens,
                   folder / "model", {.pad = true});
    });
  };
  CHECK_THAT(refusal("hf-gpt2", space_of("llama", 1, false), "e48:h1f24,h2f1"), Catch::Contains("RMSNorm"));
  CHECK_THAT(refusal("gguf", space_of("llama", 1, false), "e48:h1f24,h2f1"), Catch::Contains("--pad"));
  ModelConfig wide = space_of("gpt2", 1, true).model();
  wide.head_dim = 32;
  const SearchSpace::Block block{.heads = {1, 2}, .ffn = {.widths = {24}, .ratios = {}}};
  CHECK_THAT(refusal("hf-gpt2", SearchSpace(wide, {32}, {2}, {block, block}), "e32:h1f24,h2f24"),
             Catch::Contains("2 heads of 32 are not embed 32"));
}
