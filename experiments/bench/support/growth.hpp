#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/precision.hpp"

namespace elastiform {

/// A training step of a dense network of 2,048 tokens, of which one size grows.
struct GrowthRow {
  std::string grows;  // tokens, layers or width
  int threads = 1, context = 0, layers = 0, embed = 0;
  double microseconds_a_token = 0;            // shortest step
  double attention_microseconds_a_token = 0;  // the two attention operations of that step by themselves
  double peak_mib = 0;
};

/// Embed 384, 6 layers, context 256, with context 128 … 1024, 2 … 16 layers or embed 192 … 768 instead, on 1 and `threads` threads.
std::vector<GrowthRow> measure_growth(Precision precision, int threads);

}  // namespace elastiform
