#include "experiments/bench/support/shape.hpp"

#include <fmt/format.h>

#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "supernet/cost_model.hpp"
#include "trainers/samplers/sampler.hpp"

namespace elastiform {
namespace {

constexpr int kHeadDim = 64;

ModelConfig model_of(int context, int vocabulary) {
  ModelConfig model = preset_model("gpt2");
  model.context = context;
  model.vocabulary = vocabulary;
  model.head_dim = kHeadDim;
  return model;
}

SearchSpace elastic_space(const ModelConfig& model, std::vector<int> embed, std::vector<int> depth, std::vector<int> heads) {
  const SearchSpace::Block block{.heads = std::move(heads), .ffn = {.widths = {}, .ratios = {2, 3, 4}}};
  const std::vector<SearchSpace::Block> blocks(static_cast<std::size_t>(depth.back()), block);
  return SearchSpace(model, std::move(embed), std::move(depth), blocks);
}

Shape shape_of(std::string name, int sequences, SearchSpace space, int listed) {
  Shape shape{.name = std::move(name), .sequences = sequences, .space = std::move(space), .list = {}};
  for (int i = 0; i < listed; ++i) shape.list.push_back(draw_balanced(shape.space, 0, static_cast<std::uint64_t>(i), 0));
  return shape;
}

}  // namespace

Shape find_shape(std::string_view name) {
  if (name == "large" || name == "gpt2") {
    const bool on_gpu = name == "gpt2";
    Shape shape = shape_of(std::string(name), on_gpu ? 64 : 2,
                           elastic_space(model_of(on_gpu ? 1024 : 512, 50257), {384, 512, 640, 768}, {6, 8, 10, 12}, {6, 8, 10, 12}), 4);
    shape.fixed_steps = on_gpu ? 8 : 2;
    shape.sandwich_steps = on_gpu ? 4 : 1;
    return shape;
  }
  if (name != "small" && name != "medium")
    throw InputError(
        {.where = "--shape", .expected = "small, medium, large or gpt2", .found = "'" + std::string(name) + "'", .remedy = ""});
  Shape shape = name == "small"
                    ? shape_of("small", 8, elastic_space(model_of(256, 256), {96, 128, 160, 192}, {2, 3, 4}, {1, 2, 3}), 16)
                    : shape_of("medium", 8, elastic_space(model_of(256, 256), {192, 256, 320, 384}, {3, 4, 5, 6}, {3, 4, 5, 6}), 16);
  shape.fixed_steps = 8;
  shape.sandwich_steps = 4;
  return shape;
}

SearchSpace uniform_space(int embed, int layers, int context, int vocabulary) {
  const SearchSpace::Block block{.heads = {embed / kHeadDim}, .ffn = {.widths = {4 * embed}, .ratios = {}}};
  return SearchSpace(model_of(context, vocabulary), {embed}, {layers},
                     std::vector<SearchSpace::Block>(static_cast<std::size_t>(layers), block));
}

Batch random_batch(int vocabulary, std::int64_t sequences, std::int64_t tokens) {
  Batch batch{.sequences = sequences, .tokens = tokens, .inputs = {}, .targets = {}};
  RandomStream random(0, Purpose::test);
  const auto token = [&] { return static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocabulary))); };
  for (std::int64_t i = 0; i < batch.rows(); ++i) {
    batch.inputs.push_back(token());
    batch.targets.push_back(token());
  }
  return batch;
}

std::string work_text(const Shape& shape) {
  std::string list;
  for (const Subnet& subnet : shape.list) list += (list.empty() ? "\"" : ", \"") + format(subnet) + "\"";
  const ModelConfig& model = shape.space.model();
  return fmt::format(
      "{{\"shape\": \"{}\", \"vocabulary\": {}, \"context\": {}, \"batch\": {}, \"head_dim\": {}, \"branch_scale\": {}, \"norm_eps\": {},\n"
      " \"fixed_steps\": {}, \"sandwich_steps\": {}, \"largest\": \"{}\", \"smallest\": \"{}\",\n \"subnets\": [{}]}}\n",
      shape.name, model.vocabulary, model.context, shape.sequences, model.head_dim, model.branch_scale, model.norm_eps, shape.fixed_steps,
      shape.sandwich_steps, format(shape.space.largest()), format(shape.space.smallest()), list);
}

double model_flops(const SearchSpace& space, const std::vector<Subnet>& subnets, double per_mac, std::int64_t tokens) {
  const CostModel costs(space, {}, 1, [](const WeightTable&) { return std::int64_t{0}; });
  double macs = 0;
  for (const Subnet& subnet : subnets) macs += static_cast<double>(costs.additive(subnet).macs);
  return per_mac * macs * static_cast<double>(tokens);
}

}  // namespace elastiform
