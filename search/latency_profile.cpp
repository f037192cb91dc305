#include "search/latency_profile.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <span>
#include <stdexcept>
#include <tuple>
#include <utility>

#include "search/feasible_set.hpp"

namespace elastiform {
namespace {

using Samples = std::vector<double>;

/// What the passes of some rounds took, by shape.
struct Collected {
  std::map<int, Samples> embedding, head;            // by embed
  std::map<std::pair<int, int>, Samples> attention;  // embed, heads
  std::map<std::pair<int, int>, Samples> feed_forward;
  std::map<std::size_t, Samples> whole;  // by place among what is visited after the carriers

  void add(const Subnet& subnet, const PassTimes& pass) {
    embedding[subnet.embed].push_back(pass.embedding);
    head[subnet.embed].push_back(pass.head);
    for (std::size_t i = 0; i < subnet.blocks.size(); ++i) {
      const BlockGenes& genes = subnet.blocks[i];
      if (genes.heads > 0) attention[{subnet.embed, genes.heads}].push_back(pass.attention.at(i));
      if (genes.ffn > 0) feed_forward[{subnet.embed, genes.ffn}].push_back(pass.feed_forward.at(i));
    }
  }
};

template <class Key>
void append(std::map<Key, Samples>& to, const std::map<Key, Samples>& from) {
  for (const auto& [key, samples] : from) to[key].insert(to[key].end(), samples.begin(), samples.end());
}

Collected joined(const std::array<Collected, 2>& halves) {
  Collected all = halves[0];
  append(all.embedding, halves[1].embedding);
  append(all.head, halves[1].head);
  append(all.attention, halves[1].attention);
  append(all.feed_forward, halves[1].feed_forward);
  append(all.whole, halves[1].whole);
  return all;
}

/// Of carriers, then `calibration` subnets that sums are calibrated by, then random ones.
struct Visits {
  std::vector<Subnet> subnets;
  std::size_t carriers = 0, calibration = 0;
  std::span<const Subnet> whole() const { return std::span(subnets).subspan(carriers); }
  std::span<const Subnet> networks() const { return whole().subspan(calibration); }
};

LatencyTable table_of(const Collected& collected, const SearchSpace& space, const Visits& visits) {
  LatencyTable table;
  const int queries = space.model().queries_per_group;
  std::size_t least = SIZE_MAX;
  const auto time = [&](const Samples& samples) {
    least = std::min(least, samples.size());
    return quantiles_of(samples);
  };
  for (const auto& [embed, samples] : collected.embedding) table.frames.push_back({embed, time(samples), time(collected.head.at(embed))});
  for (const auto& [key, samples] : collected.attention)
    table.attentions.push_back({key.first, key.second, key.second / queries, time(samples)});
  for (const auto& [key, samples] : collected.feed_forward) table.feed_forwards.push_back({key.first, key.second, time(samples)});
  for (const auto& [i, samples] : collected.whole)
    (i < visits.calibration ? table.calibration : table.networks).push_back({visits.whole()[i], time(samples)});
  table.samples = static_cast<int>(least);
  return table;
}

/// None of `known`: what is fitted to a network is not judged by it.
std::vector<Subnet> networks_of(const CostModel& costs, const ProfilePlan& plan, std::span<const Subnet> known) {
  const FeasibleSet all(costs, Budget{});
  std::vector<Subnet> networks;
  const auto wanted = static_cast<std::size_t>(plan.networks);
  if (all.count() <= 2 * plan.networks + known.size()) {  // draws would mostly repeat
    std::vector<Subnet> others;
    for (BigInt i = 0; i < all.count(); ++i)
      if (Subnet subnet = all.unrank(i); std::ranges::find(known, subnet) == known.end()) others.push_back(std::move(subnet));
    const std::size_t count = std::min(others.size(), wanted);
    for (std::size_t i = 0; i < count; ++i) networks.push_back(others[i * others.size() / count]);
    return networks;
  }
  std::set<Subnet> seen(known.begin(), known.end());
  // Draws by a law that favours few subnets may repeat; what is missing after these is left out.
  for (int i = 0; i < 100 * plan.networks && networks.size() < wanted; ++i) {
    RandomStream random(plan.seed, Purpose::sample, static_cast<std::uint64_t>(i));
    if (Subnet subnet = all.draw(Law::balanced, random); seen.insert(subnet).second) networks.push_back(std::move(subnet));
  }
  return networks;
}

Visits visits_of(const CostModel& costs, const ProfilePlan& plan) {
  Visits visits;
  for (const int embed : costs.space().embed())
    for (Subnet& subnet : carriers_of(costs.space(), embed)) visits.subnets.push_back(std::move(subnet));
  visits.carriers = visits.subnets.size();
  const std::vector<Subnet> calibration = calibration_of(costs.space());
  visits.calibration = calibration.size();
  visits.subnets.insert(visits.subnets.end(), calibration.begin(), calibration.end());
  for (Subnet& subnet : networks_of(costs, plan, calibration)) visits.subnets.push_back(std::move(subnet));
  return visits;
}

BlockGenes block_of(const SearchSpace& space, const SearchSpace::Block& block, int embed, std::size_t heads_at, std::size_t ffn_at) {
  const int heads = block.heads[heads_at];
  return {heads, heads / space.model().queries_per_group, block.ffn.at(embed)[ffn_at]};
}

Subnet carrier(const SearchSpace& space, int embed, int depth, std::size_t number) {
  Subnet subnet{.embed = embed, .blocks = {}, .kept = {}};
  for (int i = 0; i < depth; ++i) {
    const SearchSpace::Block& block = space.blocks()[static_cast<std::size_t>(i)];
    const std::size_t widths = block.ffn.at(embed).size(), place = number + static_cast<std::size_t>(i);
    // Wide FFNs beside few heads, so that carriers are of about one size.
    subnet.blocks.push_back(block_of(space, block, embed, place % block.heads.size(), widths - 1 - place % widths));
  }
  return subnet;
}

}  // namespace

std::vector<Subnet> carriers_of(const SearchSpace& space, int embed) {
  std::size_t most = 1;
  for (const SearchSpace::Block& block : space.blocks()) most = std::max({most, block.heads.size(), block.ffn.at(embed).size()});
  std::set<int> heads_left, ffn_left;  // of all blocks: pins and combinations that are not allowed may hide one from the cycle
  for (const SearchSpace::Block& block : space.blocks()) {
    heads_left.insert(block.heads.begin(), block.heads.end());
    const std::vector<int> ffn = block.ffn.at(embed);
    ffn_left.insert(ffn.begin(), ffn.end());
  }
  std::vector<Subnet> carriers;
  for (std::size_t number = 0; number < most; ++number)
    for (const int depth : std::set<int>{space.depth().front(), space.depth().back()})
      carriers.push_back(carrier(space, embed, depth, number));
  for (const Subnet& subnet : carriers)
    for (const BlockGenes& genes : subnet.blocks) heads_left.erase(genes.heads), ffn_left.erase(genes.ffn);
  heads_left.erase(0), ffn_left.erase(0);
  if (!heads_left.empty() || !ffn_left.empty()) throw std::logic_error("carriers_of: a shape of the space is in no carrier");
  return carriers;
}

std::vector<Subnet> calibration_of(const SearchSpace& space) {
  const std::vector<int>& all = space.embed();
  const std::size_t count = std::min(all.size(), kCalibrationWidths);
  std::vector<Subnet> subnets;
  for (std::size_t i = 0; i < count; ++i) {
    const int embed = all[count == 1 ? 0 : i * (all.size() - 1) / (count - 1)];
    for (const int depth : std::set<int>{space.depth().front(), space.depth().back()})
      for (const std::size_t half : {0U, 1U, 2U}) {
        Subnet subnet{.embed = embed, .blocks = {}, .kept = {}};
        for (const SearchSpace::Block& block : std::span(space.blocks()).first(static_cast<std::size_t>(depth)))
          subnet.blocks.push_back(
              block_of(space, block, embed, (block.heads.size() - 1) * half / 2, (block.ffn.at(embed).size() - 1) * half / 2));
        if (std::ranges::find(subnets, subnet) == subnets.end()) subnets.push_back(std::move(subnet));
      }
  }
  return subnets;
}

std::optional<LatencyTable> measure_table(const CostModel& costs, InferenceClock& clock, const ProfilePlan& plan,
                                          const std::function<bool(std::int64_t, std::int64_t)>& progress) {
  const SearchSpace& space = costs.space();
  const Visits visits = visits_of(costs, plan);
  const std::vector<Subnet>& visited = visits.subnets;
  std::array<Collected, 2> halves;
  std::int64_t done = 0;
  for (int round = 0; round < plan.rounds; ++round)
    for (std::size_t i = 0; i < visited.size(); ++i) {
      Collected& half = halves[2 * round < plan.rounds ? 0 : 1];
      for (const PassTimes& pass : clock.time(visited[i], plan.passes, i < visits.carriers ? Timed::parts : Timed::whole))
        if (i < visits.carriers) half.add(visited[i], pass);
        else half.whole[i - visits.carriers].push_back(pass.whole);
      if (!progress(++done, static_cast<std::int64_t>(visited.size()) * plan.rounds)) return std::nullopt;
    }
  LatencyTable table = table_of(joined(halves), space, visits);
  const LatencyTable first = table_of(halves[0], space, visits), second = table_of(halves[1], space, visits);
  const PredictionError noise = error_of(first.predictions(visits.networks()), second.predictions(visits.networks()));
  table.noise_mean = noise.mean, table.noise_worst = noise.worst;
  return table;
}

}  // namespace elastiform
