#include "trainers/step_flops.hpp"

#include "supernet/activation_plan.hpp"

namespace elastiform {
namespace {

/// FLOPs a token of the batch, or an image.
double flops_of(const CostModel& costs, const Subnet& subnet, std::int64_t context, std::int64_t kept) {
  double macs = static_cast<double>(costs.frame(subnet.embed).macs), attention = 0;
  for (int i = 0; i < subnet.depth(); ++i) {
    const bool some = kept > 0 && keeps_some_tokens(i, subnet.depth());
    const std::int64_t tokens = some ? kept : context;
    const BlockGenes& genes = subnet.blocks[static_cast<std::size_t>(i)];
    const double share = static_cast<double>(tokens) / static_cast<double>(context);
    macs += share * static_cast<double>(costs.block(subnet.embed, genes, tokens).macs);
    attention += share * static_cast<double>(costs.attention_macs(genes, tokens));
  }
  return costs.training_flops(macs, attention);
}

}  // namespace

double pass_flops(const CostModel& costs, const TrainOptions& options, std::span<const Subnet> subnets, std::int64_t kept) {
  const std::int64_t context = costs.space().model().context;
  double flops = 0;
  for (const Subnet& subnet : subnets)
    flops += flops_of(costs, subnet, context, kept) * static_cast<double>(sequences_of_step(options) * costs.units(context));
  return flops;
}

double teacher_flops(const CostModel& costs, const TrainOptions& options) {
  const std::int64_t context = costs.space().model().context;
  std::int64_t macs = costs.frame(options.teacher->embed).macs;
  for (const BlockGenes& genes : options.teacher->blocks) macs += costs.block(options.teacher->embed, genes, context).macs;
  return 2.0 * static_cast<double>(macs) * static_cast<double>(sequences_of_step(options) * costs.units(context));
}

}  // namespace elastiform
