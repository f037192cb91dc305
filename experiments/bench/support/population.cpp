#include "experiments/bench/support/population.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <span>
#include <stdexcept>

#include "experiments/bench/support/machine.hpp"
#include "experiments/bench/support/steps.hpp"
#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "search/prefix_evaluator.hpp"
#include "supernet/data/text_data.hpp"
#include "trainers/samplers/sampler.hpp"

namespace elastiform {
namespace {

constexpr int kParents = 4, kChildren = 5;

std::vector<Subnet> random_population(const SearchSpace& space) {
  std::vector<Subnet> population;
  for (std::uint64_t i = 0; i < kParents * (1 + kChildren); ++i) population.push_back(draw_balanced(space, 1, i, 0));
  return population;
}

/// Each parent with children in which one block, drawn uniformly, has other genes.
std::vector<Subnet> children_population(const SearchSpace& space) {
  RandomStream random(1, Purpose::test);
  std::vector<Subnet> population;
  for (std::uint64_t parent = 0; parent < kParents; ++parent) {
    population.push_back(draw_balanced(space, 2, parent, 0));
    const Subnet from = population.back();
    for (int child = 0; child < kChildren; ++child) {
      Subnet changed = from;
      const auto at = static_cast<std::size_t>(random.below(changed.blocks.size()));
      const SearchSpace::Block& choices = space.blocks()[at];
      const std::vector<int> widths = choices.ffn.at(changed.embed);
      const int heads = choices.heads[static_cast<std::size_t>(random.below(choices.heads.size()))];
      changed.blocks[at] = {.heads = heads,
                            .groups = heads / space.model().queries_per_group,
                            .ffn = widths[static_cast<std::size_t>(random.below(widths.size()))]};
      if (std::find(population.begin(), population.end(), changed) == population.end()) population.push_back(changed);
      else --child;  // the parent or a sibling once more
    }
  }
  return population;
}

/// A file of random bytes that lives as long as this.
class RandomText {
 public:
  RandomText()
      : path_(std::filesystem::temp_directory_path() /
              ("elastiform-bench-" + std::to_string(std::filesystem::hash_value(std::filesystem::current_path())))) {
    RandomStream random(0, Purpose::test);
    std::ofstream out(path_, std::ios::binary);
    for (int i = 0; i < 256 * 1024; ++i) out.put(static_cast<char>(random.below(256)));
    if (!out.flush())
      throw InputError({.where = path_.string(), .expected = "a file that can be written", .found = "an error", .remedy = ""});
  }
  ~RandomText() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }
  RandomText(const RandomText&) = delete;
  RandomText& operator=(const RandomText&) = delete;
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

PopulationRow measure(PrefixEvaluator& evaluator, std::string name, const std::vector<Subnet>& population, int repeats) {
  PopulationRow row{.population = std::move(name), .subnets = static_cast<std::int64_t>(population.size())};
  std::vector<Score> together = evaluator.evaluate(population), alone;  // not timed: it touches the memory first
  row.blocks_together = evaluator.last_work().blocks_run;
  row.blocks_one_by_one = evaluator.last_work().blocks_one_by_one;
  for (int repeat = 0; repeat < repeats; ++repeat) {
    const double single = 1e3 * seconds_of([&] {
                            alone.clear();
                            for (const Subnet& subnet : population) alone.push_back(evaluator.evaluate(std::span(&subnet, 1))[0]);
                          });
    const double shared = 1e3 * seconds_of([&] { together = evaluator.evaluate(population); });
    row.together_ms = repeat == 0 ? shared : std::min(row.together_ms, shared);
    row.one_by_one_ms = repeat == 0 ? single : std::min(row.one_by_one_ms, single);
  }
  for (std::size_t i = 0; i < population.size(); ++i)
    if (together[i].loss != alone[i].loss)
      throw std::logic_error("the prefix evaluator disagrees with one by one on " + format(population[i]));
  return row;
}

}  // namespace

std::vector<PopulationRow> measure_population(const Shape& shape, Precision precision, const ThreadPool& pool, int repeats) {
  const RandomText text;
  const DataOptions options{.text = text.path(), .split_block = 4096};
  const TextData data(text.path(), options, shape.context());
  const Network network(shape.space, DType::float32);
  const Weights weights = initial_weights(shape.space);
  PrefixEvaluator evaluator(network, weights, data, {.split = Split::search, .stride = shape.context(), .segments = 1}, pool, precision);
  return {measure(evaluator, "random", random_population(shape.space), repeats),
          measure(evaluator, "children of 4 in one block", children_population(shape.space), repeats)};
}

}  // namespace elastiform
