#pragma once

#include <cmath>
#include <cstdint>
#include <exception>
#include <span>
#include <string>
#include <vector>

#include "supernet/cost_model.hpp"
#include "supernet/subnet.hpp"

namespace elastiform {

/// Quality of one subnet on a fixed list of data blocks.
struct Score {
  double loss = 0;                  // nats per token over all blocks
  double loss_se = 0;               // standard error of loss over blocks of data
  double accuracy = 0;              // share of next tokens that the largest logit names
  std::vector<float> block_losses;  // nats per token of each block (1 KiB of text); of images the loss of each
  std::vector<float> block_hits;    // of images, fresh from an evaluator: 1 where the class is right; not stored
  double seconds = 0;
};

/// What an evaluator throws when it was told to stop: nothing was scored.
struct Interrupted : std::exception {
  const char* what() const noexcept override { return "interrupted"; }
};

/// Scores of many subnets at once; the order of the subnets is kept. Results do not depend on threads or on what else is in the list.
struct Evaluator {
  virtual ~Evaluator() = default;
  virtual std::vector<Score> evaluate(std::span<const Subnet> subnets) = 0;
};

/// One row of the result store.
struct Evaluation {
  std::int64_t id = 0;
  Subnet subnet;
  std::string weights_hash;       // of the supernet it was scored with
  std::string split;              // "search" or "report"
  std::string blocks;             // which blocks of the split, e.g. "stride=64,segments=all"
  std::string precision = "f32";  // of the products that scored it
  Score score;
  Costs costs;
  double latency_ms = NAN;  // not measured here
  std::string search;       // name of the search, or "evaluate"
  std::int64_t round = 0;
};

}  // namespace elastiform
