#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "supernet/search_space.hpp"
#include "trainers/options.hpp"

namespace elastiform {

/// Which subnets a step trains. const and a pure function of (seed, step): every rank and every resumed run draws the same.
struct SubnetSampler {
  virtual ~SubnetSampler() = default;
  /// `step` is the run's; `stage_step` counts from the start of the stage. The largest comes first when it is among them.
  virtual std::vector<Subnet> sample(std::uint64_t step, std::uint64_t stage_step) const = 0;
  virtual bool always_has_largest() const = 0;  // what a teacher needs
};

struct SamplerEntry {
  std::string_view name, help;
  std::unique_ptr<SubnetSampler> (*make)(const SearchSpace&, const Stage&, std::uint64_t seed);
};
/// largest, balanced, sandwich; the simplest first.
std::span<const SamplerEntry> subnet_samplers();
std::unique_ptr<SubnetSampler> make_sampler(const SearchSpace& space, const Stage& stage, std::uint64_t seed);  // throws InputError

/// The same subnets with ranks of Tuning::ranks, each drawn uniformly; teaches: the first one is a teacher, of the largest rank. The sampler
/// itself where there is nothing to draw.
std::unique_ptr<SubnetSampler> with_ranks(std::unique_ptr<SubnetSampler> sampler, const SearchSpace& space, std::uint64_t seed,
                                          bool teaches);

/// Embed width uniform, then depth uniform, then every block's heads and FFN width uniform: the law `balanced` without a budget.
Subnet draw_balanced(const SearchSpace& space, std::uint64_t seed, std::uint64_t step, std::uint32_t index);

}  // namespace elastiform
