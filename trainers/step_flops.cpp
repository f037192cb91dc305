#include "trainers/step_flops.hpp"

#include "supernet/activation_plan.hpp"
#include "supernet/patch_decoder.hpp"
#include "trainers/frozen_teacher.hpp"

namespace elastiform {
namespace {

/// Multiply-adds a token of the batch, or an image.
struct Macs {
  double all = 0, attention = 0;
};

Macs macs_of(const CostModel& costs, const Subnet& subnet, std::int64_t context, std::int64_t kept) {
  Macs macs{static_cast<double>(costs.frame(subnet.embed).macs)};
  for (int i = 0; i < subnet.depth(); ++i) {
    const bool some = kept > 0 && keeps_some_tokens(i, subnet.depth());
    const std::int64_t tokens = some ? kept : context;
    const BlockGenes& genes = subnet.blocks[static_cast<std::size_t>(i)];
    const double share = static_cast<double>(tokens) / static_cast<double>(context);
    macs.all += share * static_cast<double>(costs.block(subnet.embed, genes, tokens).macs);
    macs.attention += share * static_cast<double>(costs.attention_macs(genes, tokens));
  }
  return macs;
}

/// The same of a pass that hides patches of images: blocks see the others, and a decoder stands in the head's place.
Macs masked_macs_of(const CostModel& costs, const Subnet& subnet, std::int64_t masked) {
  const ModelConfig& model = costs.space().model();
  const MaskedMacs around = masked_macs(model, subnet.embed, static_cast<int>(masked));
  Macs macs{static_cast<double>(around.all), static_cast<double>(around.attention)};
  for (const BlockGenes& genes : subnet.blocks) {
    macs.all += static_cast<double>(costs.block(subnet.embed, genes, model.context - masked).macs);
    macs.attention += static_cast<double>(costs.attention_macs(genes, model.context - masked));
  }
  return macs;
}

/// Tokens or images of a step.
double units_of_step(const CostModel& costs, const TrainOptions& options) {
  return static_cast<double>(sequences_of_step(options) * costs.units(costs.space().model().context));
}

}  // namespace

double pass_flops(const CostModel& costs, const TrainOptions& options, std::span<const Subnet> subnets, std::int64_t kept,
                  std::int64_t masked) {
  double flops = 0;
  for (const Subnet& subnet : subnets) {
    const Macs macs = masked > 0 ? masked_macs_of(costs, subnet, masked) : macs_of(costs, subnet, costs.space().model().context, kept);
    flops += costs.training_flops(macs.all, macs.attention) * units_of_step(costs, options);
  }
  return flops;
}

double forward_flops(const CostModel& costs, const TrainOptions& options, const Subnet& subnet, std::int64_t kept) {
  return 2 * macs_of(costs, subnet, costs.space().model().context, kept).all * units_of_step(costs, options);
}

double teacher_flops(const ModelConfig& model, const TrainOptions& options) {
  const CostModel costs(teacher_space(model, *options.teacher), {}, options.sequences, [](const WeightTable&) { return 0; });
  return forward_flops(costs, options, *options.teacher, 0);
}

}  // namespace elastiform
