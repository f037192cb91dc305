#include "tests/search/algorithms/textbook.hpp"

#include <cmath>

namespace elastiform {

double TextbookEvaluator::loss(const Subnet& subnet) const {
  double loss = 4 - 0.1 * std::log2(subnet.embed);
  for (std::size_t i = 0; i < subnet.blocks.size(); ++i) {
    // Early blocks are worth heads, late ones FFN: no homogeneous subnet is the optimum.
    const double late = static_cast<double>(i) / 5, early = 1 - late;
    loss -=
        0.05 + 0.1 * early * early * std::log2(1 + subnet.blocks[i].heads) + 0.1 * late * late * std::log2(1 + subnet.blocks[i].ffn / 16.0);
  }
  return loss;
}

std::vector<Score> TextbookEvaluator::evaluate(std::span<const Subnet> subnets) {
  std::vector<Score> scores;
  for (const Subnet& subnet : subnets) {
    Score score;
    score.loss = loss(subnet);
    score.block_losses = {static_cast<float>(score.loss), static_cast<float>(score.loss + 0.5)};
    scores.push_back(score);
  }
  evaluated += subnets.size();
  return scores;
}

std::vector<Evaluation> tell_scores(SearchAlgorithm& algorithm, TextbookEvaluator& evaluator, const std::vector<Subnet>& asked) {
  const auto scores = evaluator.evaluate(asked);
  std::vector<Evaluation> told(asked.size());
  for (std::size_t i = 0; i < asked.size(); ++i) {
    told[i].subnet = asked[i];
    told[i].score = scores[i];
  }
  algorithm.tell(told);
  return told;
}

SearchSpace textbook_space() {
  ModelConfig model = preset_model("llama");
  model.head_dim = 8;
  model.context = 16;
  model.vocabulary = 32;
  SearchSpace::Block block;
  block.heads = {1, 2, 4};
  block.ffn.widths = {16, 48, 96};
  return {model, {16, 32}, {4, 5, 6}, std::vector<SearchSpace::Block>(6, block)};
}

SearchPlan TextbookSearch::plan() const {
  SearchPlan plan;
  plan.description.algorithm = algorithm;
  plan.description.budget = set.budget().text();
  plan.description.weights_hash = "textbook";
  plan.description.blocks = "all";
  plan.description.seed = seed;
  plan.evaluations = evaluations;
  return plan;
}

std::vector<Evaluation> TextbookSearch::run(const TemporaryFolder& folder, TextbookEvaluator& evaluator, std::size_t stop_after) const {
  ResultStore store(folder.path(), ResultStore::Mode::write, set.costs().space().hash(), "textbook = 1\n");
  const auto searcher =
      find_algorithm(algorithm).make(set, {.law = Law::balanced, .seed = seed, .population = 32, .tournament = 8, .founders = founders});
  std::size_t rounds = 0;
  return run_search(plan(), *searcher, evaluator, set.costs(), store,
                    [&](const std::vector<Evaluation>&) { return ++rounds != stop_after; });
}

}  // namespace elastiform
