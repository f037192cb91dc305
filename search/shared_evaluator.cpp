#include "search/shared_evaluator.hpp"

#include <sstream>

namespace elastiform {

SharedEvaluator::SharedEvaluator(PrefixEvaluator& own, Communicator& ranks) : own_(own), ranks_(ranks) { own.share_batches(ranks); }

std::vector<Score> SharedEvaluator::evaluate(std::span<const Subnet> subnets) {
  if (subnets.empty()) return {};
  std::string lines;
  for (const Subnet& subnet : subnets) lines += format(subnet) + "\n";
  broadcast(ranks_, lines);
  return own_.evaluate(subnets);
}

void SharedEvaluator::follow() {
  for (;;) {
    std::istringstream lines(broadcast(ranks_, ""));
    std::vector<Subnet> subnets;
    for (std::string line; std::getline(lines, line);) subnets.push_back(parse_subnet(line));
    if (subnets.empty()) return;
    own_.evaluate(subnets);
  }
}

void SharedEvaluator::finish() { broadcast(ranks_, ""); }

}  // namespace elastiform
