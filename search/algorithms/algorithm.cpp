#include "search/algorithms/algorithm.hpp"

#include <algorithm>
#include <array>

#include "search/algorithms/factories.hpp"
#include "supernet/nearest_name.hpp"

namespace elastiform {

std::span<const AlgorithmEntry> search_algorithms() {
  static constexpr std::array<AlgorithmEntry, 4> kAlgorithms = {{
      {"random", "draws under the law, without repetition", false, make_random_search},
      {"evolution", "regularised evolution: late blocks mutate more, prefixes are kept", true, make_evolution},
      {"predictor", "a model of losses learns from few evaluations what each block misses, and proposes", true, make_predictor},
      {"homogeneous", "every subnet whose blocks are all equal", false, make_homogeneous_search},
  }};
  return kAlgorithms;
}

const AlgorithmEntry& find_algorithm(std::string_view name) {
  std::vector<std::string_view> names;
  for (const AlgorithmEntry& entry : search_algorithms()) {
    if (entry.name == name) return entry;
    names.push_back(entry.name);
  }
  throw unknown_name("search algorithm", name, names);
}

}  // namespace elastiform
