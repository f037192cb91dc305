// consumer_exports FOLDER [SEED]: random subnets whose blocks differ, and edge cases, each with random weights and in every format that can
// express it. FOLDER/NAME holds one export a format, case.json (tokens, what greedy generation adds to a prompt, and by what margin) and
// logits.bin (float32 [tokens, V] of the subnet inside its supernet). Classifiers have pixels.bin (float32 [images, channels, height, width]) and
// logits of images instead.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "supernet/data/image_data.hpp"
#include "supernet/formats/format.hpp"
#include "supernet/formats/json.hpp"
#include "supernet/network.hpp"

namespace {

using namespace elastiform;
namespace fs = std::filesystem;

constexpr int kImages = 5, kRandomClassifiers = 8;
constexpr int kContext = 64, kTokens = 40, kPrompt = 8, kGreedy = 40, kRandomCases = 30;

struct Case {
  std::string name;
  ModelConfig model;
  Subnet subnet;
  std::uint64_t seed = 0;
};

ModelConfig model_of(const char* preset, int head_dim, int queries, bool tied, bool biases) {
  ModelConfig model = preset_model(preset);
  model.context = kContext;
  model.head_dim = head_dim;
  model.queries_per_group = queries;
  model.tied = tied;
  model.biases = biases;
  model.branch_scale = 0.5;
  return model;
}

/// Deviations at which every path of a network shows in its logits and few logits are nearly equal.
Weights weights_of(const SearchSpace& space, std::uint64_t seed) {
  Weights weights(std::make_shared<const WeightTable>(space), DType::float32);
  std::uint32_t index = 0;
  for (const TensorSpec& tensor : weights.table().tensors()) {
    RandomStream random(seed, Purpose::test, 1, ++index);
    const bool vector = tensor.role == Role::gain || tensor.role == Role::bias;
    const double spread = vector ? 0.2 : tensor.role == Role::embedding ? 0.6 : 1.2 / std::sqrt(static_cast<double>(tensor.rows));
    const View view = weights.view(tensor);
    for (std::int64_t row = 0; row < view.rows; ++row)
      for (std::int64_t column = 0; column < view.columns; ++column)
        view.row<float>(row)[column] = static_cast<float>((tensor.role == Role::gain ? 1 : 0) + spread * random.normal());
  }
  return weights;
}

/// The smallest supernet around a subnet, with the blocks that it leaves out.
SearchSpace space_around(const Case& c) {
  std::vector<SearchSpace::Block> blocks;
  for (int i = 0; i < c.subnet.depth(); ++i) {
    const BlockGenes& genes = c.subnet.blocks[static_cast<std::size_t>(i)];
    while (static_cast<int>(blocks.size()) <= c.subnet.block_index(i))
      blocks.push_back(
          {.heads = {genes.heads, genes.heads + c.model.queries_per_group}, .ffn = {.widths = {genes.ffn, genes.ffn + 5}, .ratios = {}}});
  }
  const int most = static_cast<int>(blocks.size());
  std::vector<int> depths{c.subnet.depth()};
  if (most != c.subnet.depth()) depths.push_back(most);
  return {c.model, {c.subnet.embed, c.subnet.embed + 7}, depths, blocks};
}

std::vector<Case> cases_of(std::uint64_t seed) {
  const auto llama = [](int head_dim, int queries, bool tied, bool biases = false) {
    return model_of("llama", head_dim, queries, tied, biases);
  };
  const auto gpt2 = [](int head_dim, int queries, bool tied) { return model_of("gpt2", head_dim, queries, tied, true); };
  std::vector<Case> cases{{"one-head", llama(16, 1, true), parse_subnet("e32:h1f48,h3f32")},
                          {"one-group", llama(16, 4, false), parse_subnet("e64:h8k2f96,h4k1f64,h12k3f32")},
                          {"ffn-one", llama(16, 1, true), parse_subnet("e48:h2f1,h3f96")},
                          {"depth-one", llama(32, 1, false), parse_subnet("e64:h3f160")},
                          {"odd", llama(6, 1, true), parse_subnet("e33:h5f7,h3f33,h8f31")},
                          {"tied", llama(16, 2, true), parse_subnet("e64:h4k2f96,h6k3f160,h2k1f64")},
                          {"untied", llama(16, 2, false), parse_subnet("e64:h4k2f96,h6k3f160,h2k1f64")},
                          {"biases", llama(16, 2, true, true), parse_subnet("e64:h4k2f96,h6k3f160,h2k1f64")},
                          {"no-attention", llama(16, 1, true), parse_subnet("e64:h4f64,h0f96,h2f128")},
                          {"no-attention-last", llama(16, 1, true), parse_subnet("e64:h4f64,h2f128,h0f96")},
                          {"no-attention-first", llama(16, 1, true), parse_subnet("e64:h0f64,h2f96")},
                          {"no-attention-at-all", llama(16, 1, true), parse_subnet("e64:h0f64,h0f96")},
                          {"no-ffn", llama(16, 1, false), parse_subnet("e64:h4f64,h2f0,h3f96")},
                          {"kept", llama(16, 1, true), parse_subnet("e64:h4f64,h2f96@0,2")},
                          {"blocks-of-32", llama(32, 1, false), parse_subnet("e96:h2f160,h4f256,h1f32")},
                          {"gpt2", gpt2(16, 1, true), parse_subnet("e64:h4f96,h2f160,h3f64")},
                          {"gpt2-untied-groups", gpt2(16, 2, false), parse_subnet("e64:h4k2f96,h2k1f33")},
                          {"gpt2-wide-heads", gpt2(16, 1, true), parse_subnet("e32:h5f48,h0f64,h1f0")}};
  cases[15].model.ffn = FeedForwardKind::gelu_erf;
  cases.push_back({"rope-linear", llama(16, 1, true), parse_subnet("e64:2xh4f96")});
  cases.back().model.rope_scaling = {.kind = RopeStretch::linear, .factor = 4};
  cases.push_back({"rope-llama3", llama(32, 1, true), parse_subnet("e64:2xh2f96")});
  cases.back().model.rope_scaling = {.kind = RopeStretch::llama3, .factor = 8, .low_factor = 1, .high_factor = 4, .original_context = 32};
  RandomStream random(seed, Purpose::test, 2);
  const auto pick = [&](std::vector<int> list) { return list[random.below(list.size())]; };
  for (int i = 0; i < kRandomCases; ++i) {
    const bool style = i % 5 != 4;
    const int queries = pick({1, 1, 2, 3});
    const bool tied = random.below(2) == 0;
    Case one{"random-" + std::to_string(i),
             style ? llama(pick({8, 16, 32}), queries, tied, i % 5 == 3) : gpt2(pick({8, 16}), queries, tied),
             {}};
    one.subnet.embed = pick({32, 40, 64, 96});
    for (int block = pick({1, 2, 3, 4, 5}); block > 0; --block) {
      const int groups = pick({0, 1, 1, 2, 3});
      one.subnet.blocks.push_back(
          {groups * queries, groups, pick(groups == 0 ? std::vector<int>{32, 96} : std::vector<int>{0, 1, 24, 32, 64, 96, 160})});
    }
    cases.push_back(std::move(one));
  }
  for (std::size_t i = 0; i < cases.size(); ++i) cases[i].seed = seed + i;
  return cases;
}

/// Logits of `tokens`, and what greedy generation adds to the first kPrompt of them.
struct Expected {
  std::vector<float> logits;
  std::vector<std::int32_t> greedy;
  std::vector<double> margins;  // of the likeliest token over the next, in parts of the largest |logit|
};

Expected expected_of(const SearchSpace& space, const Weights& weights, const Subnet& subnet, const std::vector<std::int32_t>& tokens) {
  const ThreadPool pool(1);
  CpuBackend backend(pool);
  const Network network(space, DType::float32);
  const std::int64_t vocabulary = space.model().vocabulary;
  const auto decode = [&](std::span<const std::int32_t> ids) {
    const auto count = static_cast<std::int64_t>(ids.size());
    Arena arena(network.plan_cache(subnet, count) + network.plan_decode(backend.traits(), subnet, count, count) +
                Arena::bytes_for(count, vocabulary, DType::float32));
    KeyValueCache cache = network.make_cache(subnet, count, arena);
    const View logits = arena.matrix(count, vocabulary, DType::float32);
    network.decode(backend, weights, subnet, ids, cache, logits, arena);
    std::vector<float> values;
    for (std::int64_t row = 0; row < count; ++row) values.insert(values.end(), logits.row<float>(row), logits.row<float>(row) + vocabulary);
    return values;
  };
  Expected expected{.logits = decode(tokens), .greedy = {}, .margins = {}};
  std::vector<std::int32_t> ids(tokens.begin(), tokens.begin() + kPrompt);
  for (int step = 0; step < kGreedy; ++step) {
    std::vector<float> last = decode(ids);
    last.erase(last.begin(), last.end() - vocabulary);
    double largest = 0;
    for (const float value : last) largest = std::max(largest, std::abs(static_cast<double>(value)));
    const auto best = std::max_element(last.begin(), last.end()) - last.begin();
    std::vector<float> sorted = last;
    std::nth_element(sorted.begin(), sorted.begin() + 1, sorted.end(), std::greater<>());
    expected.margins.push_back((static_cast<double>(last[static_cast<std::size_t>(best)]) - static_cast<double>(sorted[1])) / largest);
    expected.greedy.push_back(static_cast<std::int32_t>(best));
    ids.push_back(expected.greedy.back());
  }
  return expected;
}

ModelConfig vit(ImageShape image, int head_dim, int queries, Readout readout = Readout::class_token, bool distillation = false) {
  ModelConfig model = preset_model("vit");
  model.image = image;
  model.vocabulary = 10;
  model.readout = readout;
  model.distillation_token = distillation;
  model.context = model.tokens_of_image();
  model.head_dim = head_dim;
  model.queries_per_group = queries;
  model.branch_scale = 0.5;
  return model;
}

std::vector<Case> classifiers_of(std::uint64_t seed) {
  const ImageShape gray{28, 28, 1, 4}, color{16, 24, 3, 8};
  std::vector<Case> cases{{"vit-uniform", vit(gray, 16, 1), parse_subnet("e64:3xh4f128")},
                          {"vit-differing", vit(gray, 16, 1), parse_subnet("e48:h2f96,h3f1,h0f64,h1f0")},
                          {"vit-odd", vit(color, 6, 1), parse_subnet("e33:h5f7,h3f33")},
                          {"vit-groups", vit(color, 8, 2), parse_subnet("e64:h4k2f96,h8k4f33")},
                          {"vit-mean", vit(gray, 16, 1, Readout::mean), parse_subnet("e48:h2f96,h3f64")},
                          {"vit-kept", vit(gray, 16, 1), parse_subnet("e64:2xh4f64@0,2")},
                          {"deit", vit(color, 16, 1, Readout::class_token, true), parse_subnet("e64:2xh4f96")},
                          {"vit-tanh", vit(gray, 16, 1), parse_subnet("e32:2xh2f64")}};
  cases.back().model.ffn = FeedForwardKind::gelu_tanh;
  RandomStream random(seed, Purpose::test, 3);
  const auto pick = [&](std::vector<int> list) { return list[random.below(list.size())]; };
  for (int i = 0; i < kRandomClassifiers; ++i) {
    Case one{"vit-random-" + std::to_string(i), vit(i % 2 == 0 ? gray : color, pick({8, 16}), pick({1, 1, 2})), {}};
    one.subnet.embed = pick({32, 40, 64});
    for (int block = pick({1, 2, 3, 4}); block > 0; --block) {
      const int groups = pick({1, 2, 3});
      one.subnet.blocks.push_back({groups * one.model.queries_per_group, groups, pick({1, 24, 64, 96})});
    }
    cases.push_back(std::move(one));
  }
  for (std::size_t i = 0; i < cases.size(); ++i) cases[i].seed = seed + 1000 + i;
  return cases;
}

/// The subnet in every format that can express it, as it is and padded: names of the files.
nlohmann::json export_all(const Case& c, const Weights& weights, const Sample& sample, const std::string& folder) {
  nlohmann::json exports = nlohmann::json::object();
  ModelCard card;
  card.subnet = format(c.subnet);
  for (const Format& one : export_formats())
    for (const bool pad : {false, true}) {
      if (pad && one.padded == nullptr) continue;
      const std::string path = std::string(one.name) + (pad ? "-pad" : "") + std::string(one.suffix);
      try {
        check_export(one, weights.table().space(), c.subnet, folder + "/" + path, pad);
      } catch (const InputError&) {
        continue;
      }
      export_model(one, weights, c.subnet, card, sample, folder + "/" + path, {.pad = pad, .threads = 1, .check = {}});
      exports[std::string(one.name) + (pad ? "-pad" : "")] = path;
    }
  return exports;
}

void write_floats(const std::string& path, const std::vector<float>& values) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
}

void export_classifier(const Case& c, const std::string& folder) {
  fs::create_directories(folder);
  const SearchSpace space = space_around(c);
  const Weights weights = weights_of(space, c.seed);
  const ImageShape& shape = c.model.image;
  ImageSet set{.count = kImages, .bytes = {}, .floats = {}, .labels = std::vector<std::int32_t>(kImages, 0), .white = 1};
  RandomStream random(c.seed, Purpose::test, 4);
  for (int i = 0; i < kImages * shape.values(); ++i) set.floats.push_back(static_cast<float>(random.normal()));
  ImageOptions as_they_are;
  as_they_are.mean = {0}, as_they_are.deviation = {1};
  const Sample sample(batch_of(set, as_they_are, c.model), shape);
  write_floats(folder + "/logits.bin", sample_logits(weights, c.subnet, sample));
  write_floats(folder + "/pixels.bin", pixels_of(sample.images, shape));
  const nlohmann::json document{{"subnet", format(c.subnet)},
                                {"exports", export_all(c, weights, sample, folder)},
                                {"pixels", {kImages, shape.channels, shape.height, shape.width}}};
  std::ofstream(folder + "/case.json") << document.dump(1) << "\n";
}

void export_case(const Case& c, const std::string& folder) {
  fs::create_directories(folder);
  const SearchSpace space = space_around(c);
  const Weights weights = weights_of(space, c.seed);
  std::vector<std::int32_t> tokens;
  for (const char letter : std::string("Hello, elastic world! 0123 \n\t The end of it.").substr(0, kTokens)) tokens.push_back(letter);
  const Expected expected = expected_of(space, weights, c.subnet, tokens);
  write_floats(folder + "/logits.bin", expected.logits);

  const nlohmann::json document{{"subnet", format(c.subnet)}, {"context", kContext}, {"exports", export_all(c, weights, tokens, folder)},
                                {"tokens", tokens},           {"prompt", kPrompt},   {"greedy", expected.greedy},
                                {"margins", expected.margins}};
  std::ofstream(folder + "/case.json") << document.dump(1) << "\n";
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 2 || argc > 3) throw std::runtime_error("usage: consumer_exports FOLDER [SEED]");
  const std::string folder = argv[1];
  const std::uint64_t seed = argc == 3 ? std::stoull(argv[2]) : 1;
  for (const Case& c : cases_of(seed)) export_case(c, folder + "/" + c.name);
  for (const Case& c : classifiers_of(seed)) export_classifier(c, folder + "/" + c.name);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "consumer_exports: %s\n", error.what());
  return 1;
}
