#include "trainers/step_flops.hpp"

#include "supernet/activation_plan.hpp"

namespace elastiform {
namespace {

/// Multiply-adds a token of the batch, forward.
double macs_of(const CostModel& costs, const Subnet& subnet, std::int64_t context, std::int64_t kept) {
  double macs = static_cast<double>(costs.frame(subnet.embed).macs);
  for (int i = 0; i < subnet.depth(); ++i) {
    const bool some = kept > 0 && keeps_some_tokens(i, subnet.depth());
    const std::int64_t tokens = some ? kept : context;
    const double block = static_cast<double>(costs.block(subnet.embed, subnet.blocks[static_cast<std::size_t>(i)], tokens).macs);
    macs += block * static_cast<double>(tokens) / static_cast<double>(context);
  }
  return macs;
}

}  // namespace

double pass_flops(const CostModel& costs, const TrainOptions& options, std::span<const Subnet> subnets, std::int64_t kept) {
  const std::int64_t context = costs.space().model().context;
  double flops = 0;
  for (const Subnet& subnet : subnets)
    flops += 6 * macs_of(costs, subnet, context, kept) * static_cast<double>(sequences_of_step(options) * context);
  return flops;
}

}  // namespace elastiform
