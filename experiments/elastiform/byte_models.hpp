#pragma once

#include <string>
#include <vector>

#include "experiments/elastiform/recipe.hpp"

namespace elastiform {

/// What simple byte models reach on the report split: what a network has to beat.
struct ByteModels {
  struct Model {
    int order = 0;
    double bits_per_byte = 0;
  };
  std::vector<Model> models;  // Kneser-Ney of orders 3-7; empty: not measured
  std::string why_not;        // then the reason
};

/// Runs the program `kneser_ney` that lies beside this one, on the recipe's text and splits.
ByteModels measure_byte_models(const Recipe& recipe);

}  // namespace elastiform
