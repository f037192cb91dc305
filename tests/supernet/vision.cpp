// The second family: images in, one class out. What tests of both families share runs over it in their own files.
#include <cmath>
#include <cstring>

#include "kernels/reference/reference_backend.hpp"
#include "supernet/cost_model.hpp"
#include "supernet/initialization.hpp"
#include "supernet/layers/pooling.hpp"
#include "supernet/network.hpp"
#include "tests/supernet/gradient_check.hpp"
#include "tests/supernet/training_pass.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/cpu.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/tolerances.hpp"

namespace elastiform {
namespace {

SearchSpace space_with(Readout readout, ResidualRule residual = ResidualRule::branch_scale) {
  const SearchSpace base = tiny_space("vit");
  ModelConfig model = base.model();
  model.readout = readout;
  model.context = model.tokens_of_image();
  model.residual = residual;
  if (residual != ResidualRule::branch_scale) {
    const ResidualConstants constants = residual_rule(residual).constants(base.max_depth());
    model.branch_scale = constants.branch_scale, model.skip_scale = constants.skip_scale;
  }
  return {model, base.embed(), base.depth(), base.blocks()};
}

std::vector<float> logits_of(const Network& network, Backend& backend, const Weights& weights, const Subnet& subnet, const Batch& batch) {
  const std::int64_t classes = network.space().model().vocabulary,
                     planned = network.plan_classify(backend.traits(), subnet, batch.sequences);
  Arena arena(planned);
  std::vector<float> logits(static_cast<std::size_t>(batch.sequences * classes));
  network.classify(backend, weights, subnet, batch, view_of(logits.data(), batch.sequences, classes, classes), arena);
  CHECK(arena.peak() == planned);
  return logits;
}

/// Logits of one image, written down from the paper (arXiv 2010.11929) with plain loops in double, for pre-norm blocks.
class PlainVit {
 public:
  PlainVit(const Weights& weights, const Subnet& subnet) : w_(weights), s_(subnet), model_(weights.table().space().model()) {}

  std::vector<double> logits(const Batch& batch, std::int64_t image) const {
    const std::int64_t patches = model_.image.patches(), values = model_.image.patch_values();
    const bool has_class = model_.readout == Readout::class_token;
    std::vector<Row> x;
    if (has_class) x.push_back(row("embedding.class", 0, s_.embed));
    for (std::int64_t p = 0; p < patches; ++p) {
      Row pixels;
      for (std::int64_t i = 0; i < values; ++i)
        pixels.push_back(static_cast<double>(batch.images.patches[static_cast<std::size_t>((image * patches + p) * values + i)]));
      x.push_back(linear("embedding.patch", pixels, s_.embed));
    }
    for (std::size_t t = 0; t < x.size(); ++t) x[t] = sum(x[t], row("embedding.position", static_cast<std::int64_t>(t), s_.embed), 1);
    for (int i = 0; i < s_.depth(); ++i) block(i, x);
    Row read(static_cast<std::size_t>(s_.embed), 0.0);
    if (has_class) read = x.front();
    else
      for (const Row& one : x) read = sum(read, one, 1 / static_cast<double>(x.size()));
    read = norm("final.norm", read);
    Row logits = row("head.bias", 0, model_.vocabulary);
    for (std::int64_t v = 0; v < model_.vocabulary; ++v) {
      const Row weights = row("head", v, s_.embed);
      for (std::size_t c = 0; c < read.size(); ++c) logits[static_cast<std::size_t>(v)] += weights[c] * read[c];
    }
    return logits;
  }

 private:
  using Row = std::vector<double>;
  double at(const std::string& name, std::int64_t row, std::int64_t column) const {
    return static_cast<double>(w_.view(name).row<float>(row)[column]);
  }
  Row row(const std::string& name, std::int64_t index, std::int64_t columns) const {
    Row values;
    for (std::int64_t c = 0; c < columns; ++c) values.push_back(at(name, index, c));
    return values;
  }
  static Row sum(const Row& a, const Row& b, double factor) {
    Row result(a);
    for (std::size_t i = 0; i < a.size(); ++i) result[i] += factor * b[i];
    return result;
  }
  Row linear(const std::string& name, const Row& x, std::int64_t out) const {
    Row y = row(name + ".bias", 0, out);
    for (std::int64_t o = 0; o < out; ++o)
      for (std::size_t i = 0; i < x.size(); ++i) y[static_cast<std::size_t>(o)] += x[i] * at(name, static_cast<std::int64_t>(i), o);
    return y;
  }
  Row norm(const std::string& name, const Row& x) const {
    double mean = 0, squares = 0;
    for (const double v : x) mean += v / static_cast<double>(x.size());
    for (const double v : x) squares += (v - mean) * (v - mean) / static_cast<double>(x.size());
    Row y;
    for (std::size_t c = 0; c < x.size(); ++c)
      y.push_back((x[c] - mean) / std::sqrt(squares + model_.norm_eps) * at(name + ".gain", 0, static_cast<std::int64_t>(c)) +
                  at(name + ".bias", 0, static_cast<std::int64_t>(c)));
    return y;
  }
  void block(int i, std::vector<Row>& x) const {
    const BlockGenes& genes = s_.blocks[static_cast<std::size_t>(i)];
    const std::string prefix = "block." + std::to_string(s_.block_index(i));
    const std::int64_t D = model_.head_dim, A = genes.heads * D;
    std::vector<Row> q, k, v;
    for (const Row& one : x) {
      const Row h = norm(prefix + ".attention.norm", one);
      q.push_back(linear(prefix + ".attention.query", h, A));
      k.push_back(linear(prefix + ".attention.key", h, A));
      v.push_back(linear(prefix + ".attention.value", h, A));
    }
    const std::vector<Row> before = x;
    for (std::size_t t = 0; t < x.size(); ++t) {
      Row mixed(static_cast<std::size_t>(A), 0.0);
      for (std::int64_t head = 0; head < genes.heads; ++head) {
        Row p;
        double total = 0;
        for (const Row& key : k) {  // every token, before and after
          double score = 0;
          for (std::int64_t d = head * D; d < (head + 1) * D; ++d)
            score += q[t][static_cast<std::size_t>(d)] * key[static_cast<std::size_t>(d)];
          p.push_back(std::exp(score / std::sqrt(static_cast<double>(D))));
          total += p.back();
        }
        for (std::size_t j = 0; j < v.size(); ++j)
          for (std::int64_t d = head * D; d < (head + 1) * D; ++d)
            mixed[static_cast<std::size_t>(d)] += p[j] / total * v[j][static_cast<std::size_t>(d)];
      }
      x[t] = sum(before[t], linear(prefix + ".attention.out", mixed, s_.embed), model_.branch_scale);
      Row hidden = linear(prefix + ".ffn.up", norm(prefix + ".ffn.norm", x[t]), genes.ffn);
      for (double& h : hidden) h = 0.5 * h * (1 + std::erf(h / std::sqrt(2.0)));
      x[t] = sum(x[t], linear(prefix + ".ffn.down", hidden, s_.embed), model_.branch_scale);
    }
  }

  const Weights& w_;
  const Subnet& s_;
  const ModelConfig& model_;
};

}  // namespace

TEST_CASE("a classifier computes what the paper says, for subnets of every size", "[supernet][vision]") {
  const SearchSpace space = space_with(GENERATE(Readout::class_token, Readout::mean));
  const Weights weights = random_weights(space, DType::float32, 5);
  const Batch batch = random_batch(space, 3, 0, 8);
  Cpu cpu(2);
  const Network network(space, DType::float32);
  for (std::uint64_t i = 0; i < 8; ++i) {
    const Subnet subnet = i == 0 ? space.largest() : i == 1 ? space.smallest() : random_subnet(space, i);
    CAPTURE(format(subnet));
    const std::vector<float> found = logits_of(network, cpu.backend, weights, subnet, batch);
    for (std::int64_t image = 0; image < 3; ++image) {
      const std::vector<double> expected = PlainVit(weights, subnet).logits(batch, image);
      for (std::size_t v = 0; v < expected.size(); ++v)
        CHECK(found[static_cast<std::size_t>(image) * expected.size() + v] == Approx(expected[v]).epsilon(2e-5).margin(2e-5));
    }
  }
}

TEST_CASE("gradients of classifiers agree with finite differences, with mixed and smoothed labels", "[supernet][vision]") {
  const Readout readout = GENERATE(Readout::class_token, Readout::mean);
  const ResidualRule rule = GENERATE(ResidualRule::branch_scale, ResidualRule::deepnorm);
  const SearchSpace space = space_with(readout, rule);
  ReferenceBackend backend;
  const Network network(space, DType::float64);
  Weights weights = random_weights(space, DType::float64, 5);
  Batch batch = random_batch(space, 3, 0, 3);
  batch.images.mixed_with = {4, 0, batch.targets[2]};
  batch.images.mixed_share = {0.25f, 0.0f, 0.5f};
  const LossOptions options{.label_weight = 0.75, .share = 0.5, .label_smoothing = 0.1};
  const Subnet subnet = GENERATE_COPY(space.largest(), random_subnet(space, 3));
  const Pass pass = training_pass(network, backend, weights, subnet, batch, {.options = options});
  const auto loss = [&] {
    return 0.5 * 0.75 * training_pass(network, backend, weights, subnet, batch, {.options = options}).report.label_loss;
  };
  check_differences(weights, pass.gradients, subnet, loss);
}

TEST_CASE("forward in pieces gives the training pass's loss, and where the logits point", "[supernet][vision]") {
  const SearchSpace space = space_with(GENERATE(Readout::class_token, Readout::mean));
  Cpu cpu(2);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 2);
  const Batch batch = random_batch(space, 7, 0, 1);
  const Subnet subnet = random_subnet(space, 6);
  const Pass pass = training_pass(network, cpu.backend, weights, subnet, batch);
  Arena arena(1 << 22);
  View x = arena.matrix(batch.rows(), subnet.embed, DType::float32), y = arena.matrix(batch.rows(), subnet.embed, DType::float32);
  network.embed(cpu.backend, weights, subnet.embed, batch, x, arena);
  for (int i = 0; i < subnet.depth(); ++i) {
    network.forward_block(cpu.backend, weights, subnet.embed, subnet.blocks[static_cast<std::size_t>(i)], i, subnet.depth(), batch.tokens,
                          x, y, arena);
    std::swap(x, y);
  }
  const View losses = arena.matrix(1, 7, DType::float32), correct = arena.matrix(1, 7, DType::float32);
  network.score(cpu.backend, weights, subnet.embed, x, batch, losses, correct, arena);
  const std::vector<float> logits = logits_of(network, cpu.backend, weights, subnet, batch);
  double mean = 0;
  for (std::int64_t i = 0; i < 7; ++i) {
    mean += static_cast<double>(losses.row<float>(0)[i]);
    const auto first = logits.begin() + i * space.model().vocabulary, best = std::max_element(first, first + space.model().vocabulary);
    CHECK((correct.row<float>(0)[i] == 1) == (best - first == batch.targets[static_cast<std::size_t>(i)]));
  }
  CHECK(mean / 7 == pass.report.label_loss);
}

TEST_CASE("a classifier sees all of an image from everywhere, and no other image", "[supernet][vision]") {
  const SearchSpace space = space_with(GENERATE(Readout::class_token, Readout::mean));
  const Weights weights = random_weights(space, DType::float32, 5);
  Cpu cpu(2);
  const Network network(space, DType::float32);
  Batch batch = random_batch(space, 2, 0, 8);
  const std::vector<float> before = logits_of(network, cpu.backend, weights, space.middle(), batch);
  batch.images.patches.back() += 1;  // of the second image
  const std::vector<float> after = logits_of(network, cpu.backend, weights, space.middle(), batch);
  const std::size_t classes = before.size() / 2;
  CHECK(std::equal(before.begin(), before.begin() + static_cast<std::ptrdiff_t>(classes), after.begin()));
  CHECK(before.back() != after.back());
}

TEST_CASE("a bias stays with its own columns whatever the width", "[supernet][vision][slicing]") {
  // AutoFormer samples the joint q, k and v by every third column of the whole head dimension but cuts its bias from the front, so at other
  // widths columns add biases of others. Here each bias belongs to its column: at every width a map has as many biases as columns, in the same bands.
  const SearchSpace space = tiny_space("vit");
  const WeightTable table(space);
  for (const Subnet& subnet : {space.smallest(), space.middle(), space.largest()})
    for (const char* map : {"query", "key", "value", "out"}) {
      const std::string name = std::string("block.0.attention.") + map;
      const Extent weight = table.extent(table.at(name), subnet), bias = table.extent(table.at(name + ".bias"), subnet);
      CHECK(bias.columns == weight.columns);
      CHECK(table.at(name).column_bands == table.at(name + ".bias").column_bands);
    }
}

TEST_CASE("costs of a classifier are counted per image, over all pairs of tokens, without a KV cache", "[supernet][vision][cost]") {
  const SearchSpace space = space_with(GENERATE(Readout::class_token, Readout::mean));
  const ModelConfig& model = space.model();
  const CostModel costs(space, {.batch = 2, .phase = "prefill"}, 4, [](const WeightTable&) { return 0; });
  for (std::uint64_t i = 0; i < 20; ++i) {
    const Subnet subnet = random_subnet(space, i);
    const Weights dense = extract(Weights(std::make_shared<const WeightTable>(space), DType::float32), subnet);
    std::int64_t scalars = 0, macs = 0;
    for (const TensorSpec& tensor : dense.table().tensors()) {
      scalars += tensor.rows * tensor.columns;
      if (tensor.name == "embedding.patch") macs += model.image.patches() * tensor.rows * tensor.columns;
      else if (tensor.name == "head") macs += tensor.rows * tensor.columns;
      else if (tensor.role == Role::matrix || tensor.role == Role::residual_out) macs += model.context * tensor.rows * tensor.columns;
    }
    for (const BlockGenes& genes : subnet.blocks)
      for (int query = 0; query < model.context; ++query)
        for (int key = 0; key < model.context; ++key) macs += 2 * genes.heads * model.head_dim;
    const Costs found = costs.of(subnet);
    CAPTURE(format(subnet));
    CHECK(found.parameters == scalars);
    CHECK(found.macs == macs);
    const Network network(dense.table().space(), DType::float32);
    const std::int64_t arena = network.plan_classify(traits_of(Precision::f32, 1), dense.table().space().largest(), 2);
    CHECK(found.inference_bytes == dense.table().elements() * 4 + arena + Arena::bytes_for(2, model.vocabulary, DType::float32));
    CHECK(network.plan_cache(dense.table().space().largest(), 0) == 0);
  }
}

TEST_CASE("DeiT-Tiny has its published parameters and multiply-adds", "[supernet][vision][cost]") {
  // arXiv 2012.12877, table 1: 5.7 M parameters, 1.3 G multiply-adds with the class token at 224 x 224.
  ModelConfig model = preset_model("vit");
  model.vocabulary = 1000;
  model.head_dim = 64;
  model.image = {.height = 224, .width = 224, .channels = 3, .patch = 16};
  model.context = model.tokens_of_image();
  CHECK(model.context == 197);
  const SearchSpace space(model, {192}, {12}, std::vector<SearchSpace::Block>(12, {{3}, {.widths = {768}, .ratios = {}}}));
  const Costs costs = CostModel(space, {}, 1, [](const WeightTable&) { return 0; }).of(space.largest());
  CHECK(costs.parameters == 5'717'416);
  CHECK(static_cast<double>(costs.macs) == Approx(1.26e9).epsilon(0.01));
}

TEST_CASE("AutoFormer-tiny's published subnet has its parameters", "[supernet][vision][cost]") {
  // arXiv 2107.00651, table 2: 5.7 M for the architecture that its authors publish, FFN ratios of 3 in three of its blocks.
  ModelConfig model = preset_model("vit");
  model.vocabulary = 1000;
  model.head_dim = 64;
  model.image = {.height = 224, .width = 224, .channels = 3, .patch = 16};
  model.context = model.tokens_of_image();
  const double ratios[] = {3.5, 3.5, 3, 3.5, 3, 3, 4, 4, 3.5, 4, 3.5, 4, 3.5};
  Subnet subnet{.embed = 192, .blocks = {}, .kept = {}};
  for (const double ratio : ratios) subnet.blocks.push_back({.heads = 3, .groups = 3, .ffn = static_cast<int>(192 * ratio)});
  subnet.blocks[11].heads = subnet.blocks[11].groups = 4;  // one of them has four heads; which one is no difference in parameters
  const SearchSpace space = SearchSpace::of(model, subnet);
  const Costs costs = CostModel(space, {}, 1, [](const WeightTable&) { return 0; }).of(subnet);
  CHECK(costs.parameters == 5'768'104);
  CHECK(costs.block_parameters == 5'389'056);
}

TEST_CASE("spaces of images survive their text and refuse what cannot work", "[supernet][vision]") {
  for (const Readout readout : {Readout::class_token, Readout::mean}) {
    const SearchSpace space = space_with(readout);
    CHECK(SearchSpace::parse(space.text(), "test") == space);
  }
  CHECK(tiny_space("gpt2").text().find("image") == std::string::npos);  // spaces of before keep their hash
  const SearchSpace base = tiny_space("vit");
  const auto refused = [&](auto change) {
    ModelConfig model = base.model();
    change(model);
    CHECK_THROWS_AS(SearchSpace(model, base.embed(), base.depth(), base.blocks()), InputError);
  };
  refused([](ModelConfig& m) { m.image.patch = 4; });  // no divisor of 6
  refused([](ModelConfig& m) { m.image.channels = 0; });
  refused([](ModelConfig& m) { m.context = 12; });
  refused([](ModelConfig& m) { m.positions = Positions::rope; });
  refused([](ModelConfig& m) { m.tied = true; });
  refused([](ModelConfig& m) { m.causal = true; });
  refused([](ModelConfig& m) { m.readout = Readout::every_token; });
  refused([](ModelConfig& m) { m.image = {}; });
  // 2^23 tokens that all see each other, at a width of 2^17: multiply-adds beyond 64 bits.
  ModelConfig vast = base.model();
  vast.image = {.height = 4096, .width = 2048, .channels = 1, .patch = 1};
  vast.context = vast.tokens_of_image();
  vast.head_dim = 1024;
  CHECK_THROWS_AS(SearchSpace(vast, {64}, {1}, {{{128}, {.widths = {64}, .ratios = {}}}}), InputError);
}

}  // namespace elastiform
