#pragma once

#include <cmath>
#include <numbers>
#include <string_view>

#include "supernet/search_space.hpp"

namespace elastiform {

/// In which words and units the quality and the costs of a family are shown. Search and stored numbers are in nats everywhere.
struct Metric {
  std::string_view loss;    // unit of the loss
  std::string_view input;   // of which one loss and one count of multiply-adds are: a token, an image
  std::string_view inputs;  // their plural
  std::string_view blocks;  // what intervals are over
  double of_a_nat = 1;      // units in a nat; of text, where a token is a byte
  bool classifies = false;  // then accuracy comes first
  double shown(double nats, double bytes_per_token = 1) const { return nats * of_a_nat / bytes_per_token; }
};

constexpr Metric kTextMetric{"bits/byte", "token", "tokens", "blocks of data", 1 / std::numbers::ln2, false};
constexpr Metric kImageMetric{"nats/image", "image", "images", "images", 1, true};

inline const Metric& metric_of(const ModelConfig& model) { return model.classifies() ? kImageMetric : kTextMetric; }

}  // namespace elastiform
