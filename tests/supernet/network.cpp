#include "supernet/network.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/random.hpp"
#include "kernels/reference/reference_backend.hpp"
#include "supernet/layers/head.hpp"
#include "tests/supernet/gradient_check.hpp"
#include "tests/supernet/training_pass.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/conformance.hpp"
#include "tests/support/finite_difference.hpp"
#include "tests/support/spaces.hpp"
#include "tests/support/tolerances.hpp"

namespace elastiform {
namespace {

constexpr double kMark = -98304.5;

void check_gradients(const SearchSpace& space, const Subnet& subnet, const LossOptions& options, const Teacher& teacher) {
  ReferenceBackend backend;
  const Network network(space, DType::float64);
  Weights weights = random_weights(space, DType::float64, 5);
  const Batch batch = random_batch(space, 2, 7, 3);
  const Pass pass = training_pass(network, backend, weights, subnet, batch, {.options = options, .teacher = teacher});
  const auto loss = [&] {
    const LossReport report = training_pass(network, backend, weights, subnet, batch, {.options = options, .teacher = teacher}).report;
    return options.share * (options.label_weight * report.label_loss + options.teacher_weight * report.teacher_loss);
  };
  check_differences(weights, pass.gradients, subnet, loss, {.elements = 4});
}

}  // namespace

TEST_CASE("gradients of whole networks agree with finite differences in float64", "[supernet][network]") {
  const std::string preset = GENERATE("llama", "gpt2", "vit");
  const SearchSpace space = tiny_space(preset);
  const int which = GENERATE(0, 1, 2);
  const Subnet subnet = which == 0 ? space.largest() : which == 1 ? space.smallest() : random_subnet(space, 3);
  check_gradients(space, subnet, {}, {});
}

TEST_CASE("gradients agree for blocks without attention or feed-forward and for kept blocks", "[supernet][network]") {
  const SearchSpace space = tiny_space("llama");
  Subnet subnet{.embed = 16, .blocks = {{0, 0, 16}, {4, 2, 0}}, .kept = {0, 2}};
  check_gradients(space, subnet, {}, {});
}

TEST_CASE("gradients agree for biased swiglu, erf gelu and an untied head", "[supernet][network]") {
  SearchSpace base = tiny_space("llama");
  ModelConfig model = base.model();
  model.biases = true;
  model.tied = false;
  model.norm = Norm::layer;
  check_gradients(SearchSpace(model, base.embed(), base.depth(), base.blocks()), base.middle(), {}, {});
  model.ffn = FeedForwardKind::gelu_erf;
  check_gradients(SearchSpace(model, base.embed(), base.depth(), base.blocks()), base.middle(), {}, {});
}

TEST_CASE("distillation gradients agree and leave the teacher alone", "[supernet][network]") {
  const SearchSpace space = tiny_space("gpt2");
  ReferenceBackend backend;
  std::vector<double> hidden(14 * 24);
  RandomStream random(4, Purpose::test);
  for (double& h : hidden) h = random.normal();
  // An untied head would be enough; with a tied one the student's update moves the teacher's logits through the shared table, so the
  // finite difference is taken on a space whose head is its own and whose teacher is the constant below.
  ModelConfig model = space.model();
  model.tied = false;
  model.vocabulary = GENERATE(19, 1500);  // of the larger one workers share tokens instead of panels
  CHECK(Head::shares_vocabulary(model) == (model.vocabulary == 1500));
  const SearchSpace untied(model, space.embed(), space.depth(), space.blocks());
  const Network network(untied, DType::float64);
  Weights weights = random_weights(untied, DType::float64, 5);
  const Batch batch = random_batch(untied, 2, 7, 3);
  const Teacher teacher{.hidden = view_of(hidden.data(), 14, 24, 24), .embed = 24};
  const double hidden_weight = GENERATE(0.0, 3.0);
  const LossOptions options{.label_weight = 0.25, .teacher_weight = 0.75, .hidden_weight = hidden_weight, .temperature = 2, .share = 0.5};
  const Subnet subnet = untied.middle();
  REQUIRE(subnet.embed < 24);  // it follows the teacher's first channels
  const Pass pass = training_pass(network, backend, weights, subnet, batch, {.options = options, .teacher = teacher});
  const auto loss = [&] {
    const LossReport r = training_pass(network, backend, weights, subnet, batch, {.options = options, .teacher = teacher}).report;
    return 0.5 * (0.25 * r.label_loss + 0.75 * r.teacher_loss + hidden_weight * r.hidden_loss);
  };
  for (const char* name : {"block.0.attention.query", "block.1.ffn.down", "embedding.token", "final.norm.gain"}) {
    const TensorSpec& tensor = weights.table().at(name);
    const double gradient = pass.gradients.view(tensor).row<double>(0)[1];
    double& w = weights.view(tensor).row<double>(0)[1];
    CAPTURE(name);
    CHECK(gradient == Approx(central_difference(w, loss)).epsilon(2e-6).margin(2e-9));
  }
}

TEST_CASE("a vocabulary that workers share has the same bits on every number of threads, near float64", "[supernet][network]") {
  ModelConfig model = tiny_space("gpt2").model();
  model.vocabulary = 1500;
  const SearchSpace space(model, {24}, {3}, tiny_space("gpt2").blocks());
  const Batch batch = random_batch(space, 25, 24, 3);  // 600 tokens: a chunk of 512 and a part
  REQUIRE(Head::chunk_rows(model, batch.sequences * batch.tokens, {}) == 512);
  std::vector<double> exact_hidden(600 * 24);
  std::vector<float> hidden(exact_hidden.size());
  RandomStream random(4, Purpose::test);
  for (std::size_t i = 0; i < hidden.size(); ++i) exact_hidden[i] = hidden[i] = static_cast<float>(random.normal());
  const LossOptions options{.label_weight = 0.25, .teacher_weight = 0.75, .hidden_weight = 0.5, .temperature = 2};
  const auto pass = [&](Backend& backend, ConstView taught) {
    return training_pass(Network(space, backend.dtype()), backend, random_weights(space, backend.dtype(), 5), space.largest(), batch,
                         {.options = options, .teacher = {.hidden = taught, .embed = 24}});
  };
  ReferenceBackend reference;
  const Pass exact = pass(reference, view_of(exact_hidden.data(), 600, 24, 24));
  const ConstView taught = view_of(hidden.data(), 600, 24, 24);
  for (const Precision precision : precisions_here()) {
    CAPTURE(name_of(precision));
    Cpu serial(1, precision);
    const Pass expected = pass(serial.backend, taught);
    const Tolerance allowed = tolerance(precision == Precision::f32 ? "network loss" : "network loss bf16", DType::float32);
    CHECK(expected.report.label_loss == Approx(exact.report.label_loss).epsilon(allowed.relative));
    CHECK(expected.report.teacher_loss == Approx(exact.report.teacher_loss).epsilon(allowed.relative));
    CHECK(expected.report.hidden_loss == Approx(exact.report.hidden_loss).epsilon(allowed.relative));
    for (const int threads : {2, 5}) {
      Cpu cpu(threads, precision);
      const Pass found = pass(cpu.backend, taught);
      CHECK(found.report.label_loss == expected.report.label_loss);
      CHECK(found.report.teacher_loss == expected.report.teacher_loss);
      CHECK(found.report.hidden_loss == expected.report.hidden_loss);
      for (const TensorSpec& tensor : expected.gradients.table().tensors())
        CHECK(same_bits(found.gradients.view(tensor), expected.gradients.view(tensor)));
    }
  }
}

TEST_CASE("loss and gradients of 200 subnets are those of the copied-out dense network, bit for bit", "[supernet][slicing]") {
  const std::string preset = GENERATE("llama", "gpt2", "vit");
  const SearchSpace space = tiny_space(preset);
  const ThreadPool pool(2);
  const Precision precision = GENERATE(from_range(precisions_here()));
  CpuBackend backend(pool, precision);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 11);
  const Batch batch = random_batch(space, 14, 23, 8);  // 322 rows: a whole panel and a short one
  for (std::uint64_t i = 0; i < (precision == Precision::f32 ? 100 : 40); ++i) {
    const Subnet subnet = random_subnet(space, i);
    Weights masked = extract(weights, space.largest());  // same shapes as the supernet
    fill_outside(masked, subnet, std::numeric_limits<double>::quiet_NaN());
    const Pass sliced = training_pass(network, backend, masked, subnet, batch);

    const Weights dense_weights = extract(weights, subnet);
    const SearchSpace& dense_space = dense_weights.table().space();
    const Network dense_network(dense_space, DType::float32);
    const Pass dense = training_pass(dense_network, backend, dense_weights, dense_space.largest(), batch);
    CAPTURE(preset, name_of(precision), format(subnet));
    REQUIRE(std::isfinite(sliced.report.label_loss));
    CHECK(std::memcmp(&sliced.report.label_loss, &dense.report.label_loss, sizeof(double)) == 0);
    const Weights cut = extract(sliced.gradients, subnet);
    for (const TensorSpec& tensor : cut.table().tensors()) {
      CAPTURE(tensor.name);
      REQUIRE(same_bits(cut.view(tensor), dense.gradients.view(tensor)));
    }
  }
}

TEST_CASE("a pass writes nothing outside the subnet's slices of the gradients", "[supernet][slicing]") {
  const std::string preset = GENERATE("llama", "gpt2", "vit");
  const SearchSpace space = tiny_space(preset);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 11);
  const Batch batch = random_batch(space, 3, 24, 8);
  for (std::uint64_t i = 0; i < 20; ++i) {
    const Subnet subnet = random_subnet(space, i);
    Weights gradients(weights.shared_table(), DType::float32);
    fill_outside(gradients, subnet, kMark);
    Weights before(weights.shared_table(), DType::float32);
    fill_outside(before, subnet, kMark);
    const ActivationPlan plan = network.plan_training(backend.traits(), subnet, {batch.sequences, batch.tokens});
    Arena arena(plan.arena_bytes);
    network.forward_backward(backend, weights, gradients, subnet, batch, {}, {}, {}, plan, arena);
    const Weights zeros(weights.shared_table(), DType::float32);
    bool wrote_inside = false;
    for (const TensorSpec& tensor : weights.table().tensors()) {
      const Extent extent = weights.table().extent(tensor, subnet);
      const View view = gradients.view(tensor);
      for (std::int64_t row = 0; row < view.rows; ++row)
        for (std::int64_t column = 0; column < (view.rows > 1 ? view.ld : view.columns); ++column) {
          const float value = view.row<float>(row)[column];
          if (row >= extent.rows || column >= extent.columns) REQUIRE(value == static_cast<float>(kMark));
          else wrote_inside = wrote_inside || value != 0;
        }
    }
    CHECK(wrote_inside);
  }
}

TEST_CASE("a pass that does not accumulate writes every gradient but those of lookups, and the others add to it", "[supernet][network]") {
  const std::string preset = GENERATE("llama", "gpt2", "vit", "deit");
  const bool tied = GENERATE(false, true), classifies = preset == "vit" || preset == "deit", distilled = preset == "deit";
  const Precision precision = GENERATE(from_range(precisions_here()));
  CAPTURE(preset, tied, name_of(precision));
  if (tied && classifies) return;  // it has no token embedding
  const SearchSpace usual = tiny_space(distilled ? "vit" : preset);
  ModelConfig model = usual.model();
  model.tied = tied;
  if (distilled) model.readout = Readout::class_token, model.distillation_token = true, model.context = model.image.patches() + 2;
  const SearchSpace space(model, usual.embed(), usual.depth(), usual.blocks());
  const ThreadPool pool(2);
  CpuBackend backend(pool, precision);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 5);
  const Batch batch = random_batch(space, 60, 24, 3);  // several panels and chunks of logits
  const Subnet subnet = space.middle();
  const Pass expected = training_pass(network, backend, weights, subnet, batch);
  Weights gradients(weights.shared_table(), DType::float32);
  int written = 0;
  for (const TensorSpec& tensor : gradients.table().tensors()) {
    written += network.writes_gradient(tensor) ? 1 : 0;
    for (std::int64_t row = 0; network.writes_gradient(tensor) && row < tensor.rows; ++row)
      std::fill_n(gradients.view(tensor).row<float>(row), tensor.columns, static_cast<float>(kMark));
  }
  const int lookups = (preset == "llama" ? 0 : 1) + (tied ? 0 : 1) + (distilled ? 1 : 0);  // token or class, position, distillation
  CHECK(written + lookups == static_cast<int>(gradients.table().tensors().size()));
  const ActivationPlan plan = network.plan_training(backend.traits(), subnet, {batch.sequences, batch.tokens});
  Arena arena(plan.arena_bytes);
  network.forward_backward(backend, weights, gradients, subnet, batch, {.accumulate = false}, {}, {}, plan, arena);
  for (const TensorSpec& tensor : gradients.table().tensors()) {
    const Extent extent = gradients.table().extent(tensor, subnet);
    CAPTURE(tensor.name);
    bool equal = true;
    for (std::int64_t row = 0; row < extent.rows; ++row)
      for (std::int64_t column = 0; column < extent.columns; ++column)
        equal = equal && gradients.view(tensor).row<float>(row)[column] == expected.gradients.view(tensor).row<float>(row)[column];
    CHECK(equal);
  }
}

TEST_CASE("forward in pieces gives the training pass's losses, and decoding with a cache its logits", "[supernet][network]") {
  const std::string preset = GENERATE("llama", "gpt2");
  const SearchSpace space = tiny_space(preset);
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 2);
  const Batch batch = random_batch(space, 2, 20, 1);
  const Subnet subnet = random_subnet(space, 6);
  const Pass pass = training_pass(network, backend, weights, subnet, batch);

  Arena arena(1 << 22);
  View x = arena.matrix(40, subnet.embed, DType::float32), y = arena.matrix(40, subnet.embed, DType::float32);
  network.embed(backend, weights, subnet.embed, batch, x, arena);
  for (int i = 0; i < subnet.depth(); ++i) {
    network.forward_block(backend, weights, subnet.embed, subnet.blocks[static_cast<std::size_t>(i)], i, subnet.depth(), 20, x, y, arena);
    std::swap(x, y);
  }
  const View losses = arena.matrix(1, 40, DType::float32);
  network.score(backend, weights, subnet.embed, x, batch, losses, {}, arena);
  double mean = 0;
  for (int i = 0; i < 40; ++i) mean += static_cast<double>(losses.row<float>(0)[i]);
  CHECK(mean / 40 == pass.report.label_loss);

  // Token by token, and in two gulps: the same logits within rounding (design: very small M may differ in the last bits).
  const View whole = arena.matrix(20, space.model().vocabulary, DType::float32),
             parts = arena.matrix(20, space.model().vocabulary, DType::float32);
  const std::span<const std::int32_t> tokens(batch.inputs.data(), 20);
  KeyValueCache cache = network.make_cache(subnet, 24, arena);
  network.decode(backend, weights, subnet, tokens, cache, whole, arena);
  KeyValueCache second = network.make_cache(subnet, 24, arena);
  for (int t = 0; t < 20; ++t)
    network.decode(backend, weights, subnet, tokens.subspan(static_cast<std::size_t>(t), 1), second, parts.row_range(t, 1), arena);
  CHECK(cache.tokens == 20);
  CHECK(second.tokens == 20);
  for (int t = 0; t < 20; ++t) {
    double largest = 0, denominator = 0;
    for (int v = 0; v < space.model().vocabulary; ++v) {
      const double a = static_cast<double>(whole.row<float>(t)[v]);
      largest = std::max(largest, std::abs(a - static_cast<double>(parts.row<float>(t)[v])));
      denominator += std::exp(a);
    }
    CAPTURE(t);
    CHECK(largest < 1e-4);
    const double loss = std::log(denominator) - static_cast<double>(whole.row<float>(t)[batch.targets[static_cast<std::size_t>(t)]]);
    CHECK(loss == Approx(static_cast<double>(losses.row<float>(0)[t])).epsilon(1e-4).margin(1e-5));
  }
}

TEST_CASE("a pass says when it has been through a block, and changes the block's gradients no more", "[supernet][network]") {
  const SearchSpace space = tiny_space(GENERATE("llama", "gpt2", "vit"));
  const ThreadPool pool(2);
  CpuBackend backend(pool);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 11);
  const Batch batch = random_batch(space, 3, 24, 8);
  const BlockGenes genes = space.largest().blocks.front();
  const bool least_memory = GENERATE(false, true);
  for (const Subnet& subnet :
       {space.largest(), space.smallest(), Subnet{.embed = 16, .blocks = {genes, {0, 0, genes.ffn}}, .kept = {0, 2}}}) {
    CAPTURE(format(subnet), least_memory);
    Weights gradients(weights.shared_table(), DType::float32);
    const ActivationPlan plan =
        network.plan_training(backend.traits(), subnet, {batch.sequences, batch.tokens}, least_memory ? 0 : kNoLimit);
    Arena arena(plan.arena_bytes);
    std::vector<int> blocks;
    std::vector<Weights> then;
    network.forward_backward(backend, weights, gradients, subnet, batch, {}, {}, {}, plan, arena, [&](int block) {
      blocks.push_back(block);
      then.emplace_back(weights.shared_table(), DType::float32).assign(gradients);
    });
    REQUIRE(blocks.size() == subnet.blocks.size());
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      CHECK(blocks[i] == subnet.block_index(subnet.depth() - 1 - static_cast<int>(i)));
      for (const TensorSpec& tensor : gradients.table().tensors())
        if (tensor.block == blocks[i]) CHECK(same_bits(then[i].view(tensor), gradients.view(tensor)));
    }
  }
}

}  // namespace elastiform
