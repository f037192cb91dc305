#include "trainers/samplers/sampler.hpp"

#include <array>
#include <cmath>
#include <optional>

#include "kernels/errors.hpp"
#include "kernels/random.hpp"

namespace elastiform {
namespace {

template <class T>
const T& pick(const std::vector<T>& choices, RandomStream& random) {
  return choices[static_cast<std::size_t>(random.below(choices.size()))];
}

/// The largest subnet every step: ordinary training.
class LargestSampler final : public SubnetSampler {
 public:
  explicit LargestSampler(const SearchSpace& space) : largest_(space.largest()) {}
  // A list of one by its count: braces would copy the subnet twice.
  std::vector<Subnet> sample(std::uint64_t, std::uint64_t) const override { return std::vector<Subnet>(1, largest_); }
  bool always_has_largest() const override { return true; }

 private:
  Subnet largest_;
};

/// One subnet a step (single path, arXiv 1904.00420) under the balanced law; fixed shares of the steps take an endpoint instead, because
/// the largest and the smallest are rarely drawn and everybody asks for them.
class BalancedSampler final : public SubnetSampler {
 public:
  BalancedSampler(const SearchSpace& space, const Stage& stage, std::uint64_t seed)
      : space_(space), largest_(space.largest()), smallest_(space.smallest()), seed_(seed), largest_share_(stage.largest),
        endpoint_share_(stage.largest + stage.smallest) {}

  std::vector<Subnet> sample(std::uint64_t step, std::uint64_t stage_step) const override {
    // Evenly spaced, so the shares hold in any stretch of steps and nothing is left to chance.
    if (const auto endpoint = event(stage_step, endpoint_share_)) {
      const bool largest = endpoint_share_ > 0 && event(*endpoint, largest_share_ / endpoint_share_).has_value();
      return std::vector<Subnet>(1, largest ? largest_ : smallest_);
    }
    std::vector<Subnet> subnets;
    subnets.push_back(draw_balanced(space_, seed_, step, 0));
    return subnets;
  }
  bool always_has_largest() const override { return false; }

 private:
  /// The number of the event that step t is, when events take `share` of the steps; nullopt when it is none.
  static std::optional<std::uint64_t> event(std::uint64_t t, double share) {
    const double before = std::floor(static_cast<double>(t) * share), after = std::floor(static_cast<double>(t + 1) * share);
    if (after <= before) return std::nullopt;
    return static_cast<std::uint64_t>(before);
  }

  const SearchSpace space_;
  const Subnet largest_, smallest_;
  std::uint64_t seed_;
  double largest_share_, endpoint_share_;
};

/// Largest, smallest and n draws in every step (arXiv 1903.05134).
class SandwichSampler final : public SubnetSampler {
 public:
  SandwichSampler(const SearchSpace& space, const Stage& stage, std::uint64_t seed)
      : space_(space), largest_(space.largest()), smallest_(space.smallest()), seed_(seed), random_(stage.random) {}

  std::vector<Subnet> sample(std::uint64_t step, std::uint64_t) const override {
    std::vector<Subnet> subnets;
    subnets.reserve(2 + static_cast<std::size_t>(random_));
    subnets.push_back(largest_);
    subnets.push_back(smallest_);
    for (int i = 0; i < random_; ++i) subnets.push_back(draw_balanced(space_, seed_, step, static_cast<std::uint32_t>(i)));
    return subnets;
  }
  bool always_has_largest() const override { return true; }

 private:
  const SearchSpace space_;
  const Subnet largest_, smallest_;
  std::uint64_t seed_;
  int random_;
};

/// Index of the streams that ranks are drawn from; a step's subnets are numbered from 0.
constexpr std::uint32_t kFirstOfRanks = 1 << 20;

class RankSampler final : public SubnetSampler {
 public:
  RankSampler(std::unique_ptr<SubnetSampler> sampler, std::vector<int> ranks, std::uint64_t seed, bool teaches)
      : sampler_(std::move(sampler)), ranks_(std::move(ranks)), seed_(seed), first_(teaches ? 1 : 0) {}
  std::vector<Subnet> sample(std::uint64_t step, std::uint64_t stage_step) const override {
    std::vector<Subnet> subnets = sampler_->sample(step, stage_step);
    for (std::size_t i = first_; i < subnets.size(); ++i) {
      RandomStream random(seed_, Purpose::subnet, step, kFirstOfRanks + static_cast<std::uint32_t>(i));
      const int rank = pick(ranks_, random);
      subnets[i].rank = rank == ranks_.back() ? 0 : rank;
    }
    return subnets;
  }
  bool always_has_largest() const override { return sampler_->always_has_largest(); }

 private:
  std::unique_ptr<SubnetSampler> sampler_;
  std::vector<int> ranks_;
  std::uint64_t seed_;
  std::size_t first_;
};

constexpr std::array<SamplerEntry, 3> kSamplers{{
    {"largest", "the largest subnet every step",
     [](const SearchSpace& space, const Stage&, std::uint64_t) -> std::unique_ptr<SubnetSampler> {
       return std::make_unique<LargestSampler>(space);
     }},
    {"balanced", "one subnet a step, widths and depths evenly; shares `largest` and `smallest` of the steps take an endpoint",
     [](const SearchSpace& space, const Stage& stage, std::uint64_t seed) -> std::unique_ptr<SubnetSampler> {
       return std::make_unique<BalancedSampler>(space, stage, seed);
     }},
    {"sandwich", "largest, smallest and `random` draws in every step",
     [](const SearchSpace& space, const Stage& stage, std::uint64_t seed) -> std::unique_ptr<SubnetSampler> {
       return std::make_unique<SandwichSampler>(space, stage, seed);
     }},
}};

}  // namespace

std::span<const SamplerEntry> subnet_samplers() { return kSamplers; }

std::unique_ptr<SubnetSampler> make_sampler(const SearchSpace& space, const Stage& stage, std::uint64_t seed) {
  for (const SamplerEntry& entry : kSamplers)
    if (entry.name == stage.sampler) return entry.make(space, stage, seed);
  throw InputError({"recipe: stage.sampler", "one of largest, balanced, sandwich", '"' + stage.sampler + '"', ""});
}

std::unique_ptr<SubnetSampler> with_ranks(std::unique_ptr<SubnetSampler> sampler, const SearchSpace& space, std::uint64_t seed,
                                          bool teaches) {
  const std::vector<int>& ranks = space.model().tuning.ranks;
  if (ranks.empty()) return sampler;
  return std::make_unique<RankSampler>(std::move(sampler), ranks, seed, teaches);
}

Subnet draw_balanced(const SearchSpace& space, std::uint64_t seed, std::uint64_t step, std::uint32_t index) {
  RandomStream random(seed, Purpose::subnet, step, index);
  Subnet subnet;
  subnet.embed = pick(space.embed(), random);
  const int depth = pick(space.depth(), random);
  subnet.blocks.reserve(static_cast<std::size_t>(depth));
  std::vector<int> widths;
  for (int block = 0; block < depth; ++block) {
    const SearchSpace::Block& choices = space.blocks()[static_cast<std::size_t>(block)];
    BlockGenes genes;
    genes.heads = pick(choices.heads, random);
    genes.groups = genes.heads / space.model().queries_per_group;
    choices.ffn.at(subnet.embed, widths);
    genes.ffn = pick(widths, random);
    subnet.blocks.push_back(genes);
  }
  return subnet;
}

}  // namespace elastiform
