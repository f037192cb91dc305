#include <algorithm>
#include <stdexcept>

#include "search/stratum.hpp"
#include "search/sum_table.hpp"

namespace elastiform {
namespace {

using boost::multiprecision::cpp_int;

/// A cost at one embed width and depth: base + head · x + ffn · y + no_head · (blocks without attention) + no_ffn · (blocks without FFN),
/// for offsets x of all heads and y of all FFN widths.
struct LinearCost {
  std::int64_t base = 0, head = 0, ffn = 0, no_head = 0, no_ffn = 0;
  std::int64_t fixed(const GeneSum& heads, std::int64_t ffn_zeros) const {
    return base + head * heads.offset + no_head * heads.zeros + no_ffn * ffn_zeros;
  }
};

Range intersect(Range a, Range b) {
  const std::int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

std::int64_t floor_divide(std::int64_t a, std::int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

/// FFN offsets y in 0 … span with low ≤ fixed + slope · y ≤ high; an empty range begins where the costs would enter it.
Range ffn_range(std::int64_t fixed, std::int64_t slope, const Limit& limit, std::int64_t span) {
  // The limit's ends are compared with the possible costs first, so that INT64_MAX never takes part in arithmetic that could wrap.
  const std::int64_t most = fixed + slope * span;
  if (limit.low > most) return {span + 1, span + 1};
  if (limit.high < fixed) return {0, 0};
  if (slope == 0) return {0, span + 1};
  const std::int64_t begin = limit.low <= fixed ? 0 : -floor_divide(fixed - limit.low, slope);
  const std::int64_t end = limit.high >= most ? span + 1 : floor_divide(limit.high - fixed, slope) + 1;
  return {begin, std::max(begin, end)};
}

class CountedStratum final : public Stratum {
 public:
  CountedStratum(const CostModel& costs, std::span<const Limit> limits, int embed, const Choices& choices, std::int64_t max_bytes)
      : Stratum(embed, static_cast<int>(choices.heads.size())), queries_(costs.space().model().queries_per_group), heads_(choices.heads),
        ffn_(choices.ffn), head_ways_(heads_, SumTable::Form::ways, max_bytes), ffn_sums_(ffn_, SumTable::Form::summed, max_bytes) {
    for (const Cost cost : kCosts) find_cost(costs, cost);
    for (std::int64_t head_zeros = 0; head_zeros <= head_ways_.zeros(0); ++head_zeros)
      for (std::int64_t ffn_zeros = 0; ffn_zeros <= ffn_sums_.zeros(0); ++ffn_zeros)
        for (std::int64_t x = 0; x <= head_ways_.span(0); ++x) {
          Range range{0, ffn_sums_.span(0) + 1};
          for (const Limit& limit : limits) range = intersect(range, range_of(limit, {x, head_zeros}, ffn_zeros));
          ranges_.push_back(range);
        }
  }

  cpp_int completions(std::span<const BlockGenes> prefix) const override {
    const auto start = follow(prefix);
    if (!start) return 0;
    std::vector<std::uint64_t> count(words());
    count_from(prefix.size(), prefix.size(), *start, count);
    return number(count);
  }

  Subnet unrank(std::span<const BlockGenes> prefix, const cpp_int& index) const override {
    const auto start = follow(prefix);
    if (!start) throw std::logic_error("Stratum::unrank: the prefix has no completions");
    Sums sums = *start;
    std::vector<std::uint64_t> rest, count(words());
    export_bits(index, std::back_inserter(rest), 64, false);
    if (rest.size() > words()) throw std::logic_error("Stratum::unrank: index out of range");
    rest.resize(words(), 0);
    const auto choose = [&](const Gene& gene, GeneSum Sums::*sum, std::size_t block, std::size_t ffn_level) {
      const GeneSum before = sums.*sum;
      const std::size_t last = gene.values(block).size() - 1;
      std::size_t choice = 0;
      for (;; ++choice) {
        sums.*sum = before + gene.of(block, choice);
        if (choice == last) break;  // it is what remains, so it is never counted
        count_from(block + 1, ffn_level, sums, count);
        if (less(rest, count)) break;
        subtract(rest, count);
      }
      return gene.values(block)[choice];
    };
    Subnet subnet{.embed = embed(), .blocks = {prefix.begin(), prefix.end()}, .kept = {}};
    for (std::size_t i = prefix.size(); i < heads_.depth(); ++i) {
      const int heads = choose(heads_, &Sums::heads, i, i);
      const int width = choose(ffn_, &Sums::ffn, i, i + 1);
      subnet.blocks.push_back({heads, heads / queries_, width});
    }
    return subnet;
  }

  cpp_int rank(const Subnet& member) const override {
    Sums sums;
    std::vector<std::uint64_t> smaller(words(), 0), count(words());
    const auto pass = [&](const Gene& gene, int value, GeneSum Sums::*sum, std::size_t block, std::size_t ffn_level) {
      const GeneSum before = sums.*sum;
      const std::size_t chosen = gene.find(block, value).value();
      for (std::size_t choice = 0; choice < chosen; ++choice) {
        sums.*sum = before + gene.of(block, choice);
        count_from(block + 1, ffn_level, sums, count);
        add(smaller, count);
      }
      sums.*sum = before + gene.of(block, chosen);
    };
    for (std::size_t i = 0; i < member.blocks.size(); ++i) {
      pass(heads_, member.blocks[i].heads, &Sums::heads, i, i);
      pass(ffn_, member.blocks[i].ffn, &Sums::ffn, i, i + 1);
    }
    return number(smaller);
  }

  bool contains(std::span<const BlockGenes> blocks) const override {
    const auto sums = follow(blocks);
    if (!sums || blocks.size() != heads_.depth()) return false;
    const Range* allowed = range(sums->heads, sums->ffn.zeros);
    return sums->ffn.offset >= allowed->begin && sums->ffn.offset < allowed->end;
  }

  void see_nearest(std::span<const Limit> limits, std::size_t which, Nearest& nearest) const override {
    const LinearCost& cost = linear(limits[which].cost);
    Limit at_least = limits[which], at_most = limits[which];
    at_least.high = INT64_MAX;
    at_most.low = INT64_MIN;
    for (std::int64_t ffn_zeros = 0; ffn_zeros <= ffn_sums_.zeros(0); ++ffn_zeros) {
      const std::vector<std::int64_t> reached = reached_ffn(ffn_zeros);
      for (const GeneSum& heads : reached_heads()) {
        Range others{0, ffn_sums_.span(0) + 1};
        for (std::size_t i = 0; i < limits.size(); ++i)
          if (i != which) others = intersect(others, range_of(limits[i], heads, ffn_zeros));
        const auto see = [&](std::vector<std::int64_t>::const_iterator at) {
          if (at != reached.end() && *at >= others.begin && *at < others.end)
            nearest.see(limits[which], cost.fixed(heads, ffn_zeros) + cost.ffn * *at);
        };
        // Costs grow with the offset, so the nearest costs outside the limit are neighbours of its two ends.
        const std::int64_t low = range_of(at_least, heads, ffn_zeros).begin, high = range_of(at_most, heads, ffn_zeros).end;
        const auto below = std::ranges::lower_bound(reached, std::min(low, others.end));
        if (below != reached.begin()) see(below - 1);
        see(std::ranges::lower_bound(reached, std::max(high, others.begin)));
      }
    }
  }

 private:
  struct Sums {
    GeneSum heads, ffn;
  };

  static cpp_int number(const std::vector<std::uint64_t>& limbs) {
    cpp_int result;
    import_bits(result, limbs.begin(), limbs.end(), 64, false);
    return result;
  }

  const LinearCost& linear(Cost cost) const { return linear_[static_cast<std::size_t>(cost)]; }
  std::size_t words() const { return head_ways_.limbs() + ffn_sums_.limbs(); }
  Range range_of(const Limit& limit, const GeneSum& heads, std::int64_t ffn_zeros) const {
    return ffn_range(linear(limit.cost).fixed(heads, ffn_zeros), linear(limit.cost).ffn, limit, ffn_sums_.span(0));
  }
  const Range* range(const GeneSum& heads, std::int64_t ffn_zeros) const {
    const std::int64_t row = heads.zeros * (ffn_sums_.zeros(0) + 1) + ffn_zeros;
    return ranges_.data() + row * (head_ways_.span(0) + 1) + heads.offset;
  }

  std::vector<std::int64_t> reached_ffn(std::int64_t zeros) const {
    std::vector<std::int64_t> offsets;
    for (std::int64_t y = 0; y <= ffn_sums_.span(0); ++y)
      if (!std::ranges::equal(ffn_sums_.at(0, zeros, y), ffn_sums_.at(0, zeros, y + 1))) offsets.push_back(y);
    return offsets;
  }
  std::vector<GeneSum> reached_heads() const {
    std::vector<GeneSum> sums;
    for (std::int64_t zeros = 0; zeros <= head_ways_.zeros(0); ++zeros)
      for (std::int64_t x = 0; x <= head_ways_.span(0); ++x)
        if (std::ranges::any_of(head_ways_.at(0, zeros, x), [](std::uint64_t word) { return word != 0; })) sums.push_back({x, zeros});
    return sums;
  }

  std::optional<Sums> follow(std::span<const BlockGenes> prefix) const {
    if (prefix.size() > heads_.depth()) return std::nullopt;
    Sums sums;
    for (std::size_t i = 0; i < prefix.size(); ++i) {
      const auto heads = heads_.find(i, prefix[i].heads), width = ffn_.find(i, prefix[i].ffn);
      if (!heads || !width || prefix[i].groups != prefix[i].heads / queries_) return std::nullopt;
      sums.heads = sums.heads + heads_.of(i, *heads);
      sums.ffn = sums.ffn + ffn_.of(i, *width);
    }
    return sums;
  }

  /// Completions when the head genes of blocks < head_level and the FFN genes of blocks < ffn_level are chosen and add up to `sums`.
  /// Heads and FFN widths are chosen independently, so the ways to reach a pair of sums are a product: no two-dimensional table.
  void count_from(std::size_t head_level, std::size_t ffn_level, const Sums& sums, std::vector<std::uint64_t>& count) const {
    std::fill(count.begin(), count.end(), 0);
    const auto row = static_cast<std::size_t>(head_ways_.span(head_level) + 1);
    for (std::int64_t head_zeros = 0; head_zeros <= head_ways_.zeros(head_level); ++head_zeros)
      for (std::int64_t ffn_zeros = 0; ffn_zeros <= ffn_sums_.zeros(ffn_level); ++ffn_zeros) {
        const Range* allowed = range(sums.heads + GeneSum{0, head_zeros}, sums.ffn.zeros + ffn_zeros);
        const CountRow products{.ways = head_ways_.at(head_level, head_zeros, 0).data(),
                                .sums = ffn_sums_.at(ffn_level, ffn_zeros, 0).data(),
                                .ranges = {allowed, row},
                                .shift = sums.ffn.offset,
                                .whole = ffn_sums_.span(ffn_level) + 1};
        products.add_to(count, head_ways_.limbs(), ffn_sums_.limbs());
      }
  }

  /// The coefficients, from the cost model's values at a few genes, and the proof that they give its values at all the others: counting by
  /// sums is right only then.
  void find_cost(const CostModel& costs, Cost cost) {
    const auto at = [&](int heads, int width) { return value_of(costs.block(embed(), {heads, heads / queries_, width}), cost); };
    const std::int64_t corner = at(queries_, 1), per_group = at(2 * queries_, 1) - corner, per_column = at(queries_, 2) - corner;
    const std::int64_t constant = corner - per_group - per_column;
    LinearCost& result = linear_[static_cast<std::size_t>(cost)];
    result.head = per_group * (heads_.unit() / queries_);
    result.ffn = per_column * ffn_.unit();
    result.no_head = at(0, 1) - constant - per_column;
    result.no_ffn = at(queries_, 0) - constant - per_group;
    result.base =
        value_of(costs.frame(embed()), cost) + depth() * constant + per_group * (heads_.least() / queries_) + per_column * ffn_.least();
    for (std::size_t i = 0; i < heads_.depth(); ++i)
      for (const int heads : heads_.values(i))
        for (const int width : ffn_.values(i)) {
          const std::int64_t expected = constant + per_group * (heads / queries_) + per_column * width + (heads == 0 ? result.no_head : 0) +
                                        (width == 0 ? result.no_ffn : 0);
          if (at(heads, width) != expected || per_column < 0)
            throw std::logic_error("FeasibleSet: " + std::string(name_of(cost)) + " of a block is not linear in heads and FFN width");
        }
  }

  int queries_;
  Gene heads_, ffn_;
  SumTable head_ways_, ffn_sums_;
  std::array<LinearCost, kCosts.size()> linear_{};
  std::vector<Range> ranges_;  // of FFN offsets: [blocks without attention][blocks without FFN][sum of heads]
};

}  // namespace

Choices choices_of(const SearchSpace& space, int embed, int depth) {
  Choices choices;
  for (int i = 0; i < depth; ++i) {
    const SearchSpace::Block& block = space.blocks()[static_cast<std::size_t>(i)];
    choices.heads.push_back(block.heads);
    choices.ffn.push_back(block.ffn.at(embed));
  }
  return choices;
}

std::unique_ptr<Stratum> counted_stratum(const CostModel& costs, std::span<const Limit> limits, int embed, const Choices& choices,
                                         std::int64_t max_bytes) {
  return std::make_unique<CountedStratum>(costs, limits, embed, choices, max_bytes);
}

}  // namespace elastiform
