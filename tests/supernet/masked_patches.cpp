// Masked autoencoding: what a batch hides, what the decoder makes of the rest, and what both cost.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/reference/reference_backend.hpp"
#include "supernet/cost_model.hpp"
#include "supernet/data/masking.hpp"
#include "supernet/layers/masked_ends.hpp"
#include "supernet/network.hpp"
#include "supernet/patch_decoder.hpp"
#include "tests/supernet/gradient_check.hpp"
#include "tests/supernet/training_pass.hpp"
#include "tests/support/catch.hpp"
#include "tests/support/cpu.hpp"
#include "tests/support/input_error.hpp"
#include "tests/support/spaces.hpp"

namespace elastiform {
namespace {

constexpr int kHidden = 9;  // of 12

SearchSpace space_with(Readout readout, Norm norm = Norm::layer, ResidualRule residual = ResidualRule::branch_scale) {
  const SearchSpace base = tiny_space("vit");
  ModelConfig model = base.model();
  model.readout = readout;
  model.distillation_token = readout == Readout::class_token;
  model.context = model.tokens_of_image();
  model.norm = norm;
  model.residual = residual;
  if (residual != ResidualRule::branch_scale) model.branch_scale = 1;
  model.decoder = {.embed = 12, .depth = 2, .heads = 3};
  return {model, base.embed(), base.depth(), base.blocks()};
}

Batch masked_batch(const SearchSpace& space, std::int64_t images, const Masking& masking = {kHidden, true}, std::uint64_t step = 3) {
  Batch batch = random_batch(space, images, 0, 8);
  mask_patches(batch, space.model(), masking, 1, step, 0);
  return batch;
}

std::span<const float> patch_of(const std::vector<float>& patches, std::int64_t index, std::int64_t values) {
  return std::span(patches).subspan(static_cast<std::size_t>(index * values), static_cast<std::size_t>(values));
}

}  // namespace

TEST_CASE("what a batch shows and what it hides are its patches, each once", "[supernet][masked]") {
  const SearchSpace space = space_with(GENERATE(Readout::class_token, Readout::mean));
  const ModelConfig& model = space.model();
  const std::int64_t images = 40, patches = model.image.patches(), values = model.image.patch_values();
  const std::int64_t learned = model.tokens_before_patches(), T = model.context, seen = T - kHidden;
  const Batch whole = random_batch(space, images, 0, 8), batch = masked_batch(space, images, {kHidden, false});
  const MaskedPatches& masked = batch.images.masked;
  REQUIRE(batch.tokens == seen);
  REQUIRE(batch.inputs.size() == static_cast<std::size_t>(images * seen));
  REQUIRE(masked.rows.size() == static_cast<std::size_t>(images * kHidden));
  std::vector<int> hidden_times(static_cast<std::size_t>(patches), 0);
  for (std::int64_t b = 0; b < images; ++b) {
    std::vector<int> found(static_cast<std::size_t>(T), 0);
    for (std::int64_t t = 0; t < seen; ++t) {
      const auto row = static_cast<std::size_t>(b * seen + t);
      const std::int64_t position = masked.positions[row];
      ++found[static_cast<std::size_t>(position)];
      CHECK(masked.lookup[static_cast<std::size_t>(b * T + position)] == static_cast<std::int32_t>(1 + row));
      if (t > 0) CHECK(position > masked.positions[row - 1]);
      if (position < learned) {
        CHECK(batch.inputs[row] == position);
        continue;
      }
      const auto shown = patch_of(batch.images.patches, batch.inputs[row] - learned, values);
      CHECK(std::ranges::equal(shown, patch_of(whole.images.patches, b * patches + position - learned, values)));
    }
    for (std::int64_t i = b * kHidden; i < (b + 1) * kHidden; ++i) {
      const std::int64_t position = masked.rows[static_cast<std::size_t>(i)] - b * T;
      REQUIRE((position >= learned && position < T));
      ++found[static_cast<std::size_t>(position)];
      ++hidden_times[static_cast<std::size_t>(position - learned)];
      CHECK(masked.lookup[static_cast<std::size_t>(b * T + position)] == 0);
      CHECK(
          std::ranges::equal(patch_of(masked.values, i, values), patch_of(whole.images.patches, b * patches + position - learned, values)));
    }
    CHECK(std::ranges::all_of(found, [](int times) { return times == 1; }));
  }
  const double p = kHidden / 12.0, sigma = std::sqrt(images * p * (1 - p));
  for (const int times : hidden_times) CHECK(std::abs(times - images * p) < 4 * sigma);
}

TEST_CASE("a ratio hides as many patches as it says", "[supernet][masked]") {
  ModelConfig model = preset_model("vit");
  const auto seen = [&](int side, double ratio) {
    model.image = {side, side, 1, 1};
    return side * side - masked_patches(model, ratio);
  };
  CHECK(seen(14, 0.75) == 49);
  CHECK(seen(7, 0.75) == 12);                                // ⌊12.25⌋
  for (const double tenths : {1, 2, 3, 4, 5, 6, 7, 8, 9}) {  // whatever 1 - ratio is rounded to
    CHECK(seen(10, tenths / 10) == 100 - 10 * static_cast<int>(tenths));
    CHECK(seen(5, tenths / 10) == static_cast<int>(25 * (10 - tenths)) / 10);
  }
}

TEST_CASE("an image's mask depends on the step and its number in it, not on who shares its batch", "[supernet][masked][bits]") {
  const SearchSpace space = space_with(Readout::class_token);
  const Batch whole = masked_batch(space, 6);
  Batch part = random_batch(space, 6, 0, 8);
  const std::vector<int> last = {4, 5};
  keep_sequences(part, last);
  mask_patches(part, space.model(), {kHidden, true}, 1, 3, 4);
  const MaskedPatches &all = whole.images.masked, &some = part.images.masked;
  CHECK(std::equal(some.values.begin(), some.values.end(), all.values.end() - static_cast<std::ptrdiff_t>(some.values.size())));
  CHECK(std::equal(some.positions.begin(), some.positions.end(), all.positions.end() - static_cast<std::ptrdiff_t>(some.positions.size())));
  CHECK(masked_batch(space, 6, {kHidden, true}, 4).images.masked.positions != all.positions);
}

TEST_CASE("hidden patches are normalised each by itself", "[supernet][masked]") {
  const SearchSpace space = space_with(Readout::class_token);
  const Batch batch = masked_batch(space, 3), plain = masked_batch(space, 3, {kHidden, false});
  const std::int64_t values = space.model().image.patch_values();
  for (std::int64_t i = 0; i < 3 * kHidden; ++i) {
    const auto patch = patch_of(batch.images.masked.values, i, values), before = patch_of(plain.images.masked.values, i, values);
    double sum = 0, squares = 0, mean = 0;
    for (std::size_t v = 0; v < patch.size(); ++v) {
      sum += static_cast<double>(patch[v]);
      squares += static_cast<double>(patch[v]) * static_cast<double>(patch[v]);
      mean += static_cast<double>(before[v]) / static_cast<double>(values);
    }
    CHECK(sum == Approx(0).margin(1e-5));
    CHECK(squares == Approx(static_cast<double>(values) - 1).epsilon(1e-4));
    CHECK((patch[0] > 0) == (static_cast<double>(before[0]) > mean));
  }
}

TEST_CASE("gradients of guessing hidden patches agree with finite differences", "[supernet][masked]") {
  const auto [readout, norm, residual] = GENERATE(table<Readout, Norm, ResidualRule>({
      {Readout::class_token, Norm::layer, ResidualRule::branch_scale},
      {Readout::mean, Norm::rms, ResidualRule::branch_scale},
      {Readout::mean, Norm::layer, ResidualRule::fixup},
  }));
  const SearchSpace space = space_with(readout, norm, residual);
  ReferenceBackend backend;
  const Network network(space, DType::float64);
  Weights weights = random_weights(space, DType::float64, 5);
  const Batch batch = masked_batch(space, 3);
  const Subnet subnet = GENERATE_COPY(space.largest(), random_subnet(space, 3));
  const PassSettings settings{.options = {.share = 0.5}};
  const Pass pass = training_pass(network, backend, weights, subnet, batch, settings);
  CHECK(pass.report.tokens == 3 * kHidden);
  const auto loss = [&] { return 0.5 * training_pass(network, backend, weights, subnet, batch, settings).report.label_loss; };
  check_differences(weights, pass.gradients, subnet, loss);
  for (const TensorSpec& tensor : weights.table().tensors()) {  // and none is dead, but the head's
    double most = 0;
    const ConstView gradient = pass.gradients.view(tensor);
    const Extent extent = weights.table().extent(tensor, subnet);
    for (std::int64_t row = 0; row < extent.rows; ++row)
      for (std::int64_t column = 0; column < extent.columns; ++column) most = std::max(most, std::abs(gradient.row<double>(row)[column]));
    CAPTURE(tensor.name);
    if (extent.rows > 0) CHECK((most > 0) == (tensor.name != "head" && tensor.name != "head.bias"));
  }
}

TEST_CASE("the loss is of hidden patches alone", "[supernet][masked]") {
  const SearchSpace space = space_with(Readout::class_token), own = decoder_space(space.model());
  const Batch batch = masked_batch(space, 3);
  const std::int64_t T = space.model().context, E = own.max_embed(), values = space.model().image.patch_values();
  ReferenceBackend backend;
  const auto table = std::make_shared<const WeightTable>(space);
  const Weights weights = random_weights(space, DType::float64, 5);
  Weights gradients(table, DType::float64);
  const auto slices = [](auto& of) {
    using V = decltype(of.view("head"));
    return BasicMaskedSlices<V>{{of.view("final.norm.gain"), of.view("final.norm.bias")},
                                {of.view("decoder.hidden"), of.view("decoder.hidden.bias")},
                                of.view("decoder.mask"),
                                of.view("decoder.embedding.position"),
                                {of.view("decoder.final.norm.gain"), of.view("decoder.final.norm.bias")},
                                {of.view("decoder.head"), of.view("decoder.head.bias")}};
  };
  const MaskedShape shape{.seen = batch.rows(), .masked = 3 * kHidden, .embed = space.max_embed(), .width = E, .values = values};
  Arena arena(1 << 20);
  const View x = arena.matrix(3 * T, E, DType::float64), d = arena.matrix(3 * T, E, DType::float64);
  for (std::int64_t row = 0; row < x.rows; ++row)
    for (std::int64_t column = 0; column < E; ++column) x.row<double>(row)[column] = std::sin(static_cast<double>(7 * row + column));
  const MaskedEnds ends(space.model(), own.model());
  const std::int64_t before = arena.used();
  arena.reset_peak();
  const LossReport report = ends.loss(backend, slices(weights), slices(gradients), x, d, batch, {}, arena);
  CHECK(arena.peak() - before == MaskedEnds::loss_bytes(shape, backend.traits()));
  for (std::int64_t row = 0; row < d.rows; ++row) {
    const bool hidden = batch.images.masked.lookup[static_cast<std::size_t>(row)] == 0;
    CHECK(std::any_of(d.row<double>(row), d.row<double>(row) + E, [](double v) { return v != 0; }) == hidden);
    if (hidden) continue;
    for (std::int64_t column = 0; column < E; ++column) x.row<double>(row)[column] = 1e6;  // nobody reads it
  }
  CHECK(ends.loss(backend, slices(weights), slices(gradients), x, d, batch, {}, arena).label_loss == report.label_loss);
}

TEST_CASE("a subnet sees the same of an image whatever the decoder would guess", "[supernet][masked]") {
  // The encoder of visible tokens alone: what is hidden changes the loss and reaches no gradient of the encoder but through it.
  const SearchSpace space = space_with(Readout::mean);
  Cpu cpu(2);
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 5);
  Batch batch = masked_batch(space, 3);
  const Pass pass = training_pass(network, cpu.backend, weights, space.middle(), batch);
  for (float& value : batch.images.masked.values) value += 1;
  const Pass other = training_pass(network, cpu.backend, weights, space.middle(), batch);
  CHECK(other.report.label_loss != pass.report.label_loss);
  // Squared errors: E(w + 1) - E(w) = 1 + 2 · mean(w - guess), so that the guesses are those of before.
  for (float& value : batch.images.masked.values) value -= 2;
  const Pass third = training_pass(network, cpu.backend, weights, space.middle(), batch);
  CHECK(other.report.label_loss + third.report.label_loss == Approx(2 * pass.report.label_loss + 2).epsilon(1e-5));
}

TEST_CASE("masked passes give the same bits on any number of threads and under any limit, in the bytes of their plan",
          "[supernet][masked][bits]") {
  const SearchSpace space = space_with(GENERATE(Readout::class_token, Readout::mean));
  const Network network(space, DType::float32);
  const Weights weights = random_weights(space, DType::float32, 5);
  const Batch batch = masked_batch(space, 150);  // more rows than a panel has
  const Subnet subnet = GENERATE_COPY(space.largest(), random_subnet(space, 3), space.smallest());
  CAPTURE(format(subnet));
  Cpu one(1), three(3);
  const Pass pass = training_pass(network, one.backend, weights, subnet, batch);
  const PassShape shape{.batch = 150, .tokens = batch.tokens, .masked = kHidden};
  const std::int64_t least = network.plan_training(three.backend.traits(), subnet, shape, 0).arena_bytes;
  for (const std::int64_t limit : {kNoLimit, least}) {
    const Pass again = training_pass(network, three.backend, weights, subnet, batch, {.limit = limit});
    CHECK(again.report.label_loss == pass.report.label_loss);
    CHECK(same_bits(again.gradients, pass.gradients));
  }
  Weights untouched(weights.shared_table(), DType::float32);
  const ActivationPlan plan = network.plan_training(one.backend.traits(), subnet, shape);
  Arena arena(plan.arena_bytes);
  const LossReport forward =
      network.forward_backward(one.backend, weights, untouched, subnet, batch, {.forward_only = true}, {}, {}, plan, arena);
  CHECK(forward.label_loss == pass.report.label_loss);
  CHECK(same_bits(untouched, Weights(weights.shared_table(), DType::float32)));
}

TEST_CASE("multiply-adds of a masked pass are those of what the encoder sees and of the decoder", "[supernet][masked][cost]") {
  const SearchSpace space = space_with(GENERATE(Readout::class_token, Readout::mean)), own = decoder_space(space.model());
  const ModelConfig& model = space.model();
  const auto none = [](const WeightTable&) { return 0; };
  const CostModel decoder(own, {}, 1, none);
  const std::int64_t E = own.max_embed(), values = model.image.patch_values();
  for (const int hidden : {3, 6, 9}) {
    const MaskedMacs macs = masked_macs(model, 16, hidden);
    const Subnet subnet = own.largest();
    const AdditiveCosts all = decoder.additive(subnet), frame = decoder.frame(static_cast<int>(E));
    std::int64_t attention = 0;
    for (const BlockGenes& genes : subnet.blocks) attention += decoder.attention_macs(genes, model.context);
    CHECK(macs.attention == attention);
    CHECK(macs.all == all.macs - frame.macs + (12 - hidden) * values * 16 + (model.context - hidden) * 16 * E + hidden * E * values);
  }
  // Of the encoder's blocks: products follow the tokens, attention their square.
  const CostModel costs(space, {}, 1, none);
  const BlockGenes genes{.heads = 2, .groups = 2, .ffn = 32};
  const auto products = [&](std::int64_t tokens) { return costs.block(16, genes, tokens).macs - costs.attention_macs(genes, tokens); };
  CHECK(products(4) * 3 == products(12));
  CHECK(costs.attention_macs(genes, 4) * 9 == costs.attention_macs(genes, 12));
}

TEST_CASE("a decoder is part of the space's text and of its weights, and of no subnet that is used", "[supernet][masked]") {
  const SearchSpace space = space_with(Readout::class_token), plain = without_decoder(space);
  CHECK(SearchSpace::parse(space.text(), "test") == space);
  CHECK(plain.text().find("decoder") == std::string::npos);
  const WeightTable with(space), without(plain);
  CHECK(with.elements() > without.elements());
  for (const TensorSpec& tensor : without.tensors()) {  // which lie where they lie without it
    CHECK(with.at(tensor.name).offset == tensor.offset);
    CHECK(with.at(tensor.name).first_band == tensor.first_band);
  }
  CHECK(SearchSpace::of(space.model(), space.largest()).model().decoder == PatchDecoder{});
  const auto none = [](const WeightTable&) { return 0; };
  CHECK(CostModel(space, {}, 4, none).of(space.middle()) == CostModel(plain, {}, 4, none).of(space.middle()));
}

TEST_CASE("decoders that cannot be are refused", "[supernet][masked]") {
  const SearchSpace base = tiny_space("vit"), text = tiny_space("gpt2");
  const auto refused = [](const SearchSpace& space, const char* says, auto change) {
    ModelConfig model = space.model();
    model.decoder = {.embed = 12, .depth = 2, .heads = 3};
    change(model);
    check_input_error([&] { SearchSpace(model, space.embed(), space.depth(), space.blocks()); }, says);
  };
  refused(text, "none, without images", [](ModelConfig&) {});
  refused(base, "a divisor of decoder_embed, 12", [](ModelConfig& m) { m.decoder.heads = 5; });
  refused(base, "decoder_depth", [](ModelConfig& m) { m.decoder.depth = 0; });
  refused(base, "decoder_embed", [](ModelConfig& m) { m.decoder.embed = 1 << 20; });
  refused(base, "patches of at least 2 values", [](ModelConfig& m) { m.image = {6, 8, 1, 1}, m.context = 49; });
}

}  // namespace elastiform
