#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "search/evaluator.hpp"
#include "search/law.hpp"

namespace elastiform {

class FeasibleSet;

/// Proposes subnets and learns from their scores. Sees neither weights nor data, so textbook problems test it. All state comes from
/// tell(), so resume is a replay of the store.
struct SearchAlgorithm {
  virtual ~SearchAlgorithm() = default;
  /// At most n canonical members of the feasible set, none told before and none twice; empty when exhausted. Random only by (seed, round).
  virtual std::vector<Subnet> ask(std::size_t n, std::uint64_t round) const = 0;
  virtual void tell(std::span<const Evaluation> round) = 0;
};

struct AlgorithmOptions {
  Law law = Law::balanced;
  std::uint64_t seed = 0;
  std::size_t population = 32;  // evolution: the last so many are parents; predictor: the best so many
  std::size_t tournament = 8;   // of those two: a parent is the best of this many
  std::size_t founders = 0;     // of those two: of the first population, homogeneous members, evenly spaced in their list
  std::size_t members = 0;      // homogeneous: at most this many, evenly spaced in the list; 0: all
};

struct AlgorithmEntry {
  std::string_view name, help;
  bool has_population;  // and founders, and tournaments
  std::unique_ptr<SearchAlgorithm> (*make)(const FeasibleSet&, const AlgorithmOptions&);
};
/// random, evolution, predictor, homogeneous.
std::span<const AlgorithmEntry> search_algorithms();
const AlgorithmEntry& find_algorithm(std::string_view name);  // throws InputError naming the nearest

}  // namespace elastiform
