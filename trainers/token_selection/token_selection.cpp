#include "trainers/token_selection/token_selection.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/errors.hpp"
#include "supernet/nearest_name.hpp"
#include "trainers/token_selection/importance.hpp"
#include "trainers/token_selection/random_ltd.hpp"

namespace elastiform {
namespace {

class AllTokens final : public TokenSelection {
 public:
  std::int64_t kept(std::int64_t) const override { return 0; }
  std::int64_t most_kept() const override { return 0; }
  bool keeps_all_at_times() const override { return true; }
  void select(std::int64_t, std::int64_t, Batch&) override {}
};

template <class Selection>
std::unique_ptr<TokenSelection> make(const TrainOptions& options, const SearchSpace& space) {
  return std::make_unique<Selection>(options, space);
}

constexpr std::array<TokenSelectionEntry, 3> kSelections{{
    {"all", "every block processes every token",
     [](const TrainOptions&, const SearchSpace&) -> std::unique_ptr<TokenSelection> { return std::make_unique<AllTokens>(); }},
    {"random_ltd", "middle blocks process a random part that grows to all (arXiv 2211.11586)", make<RandomLtd>},
    {"importance", "middle blocks process the tokens whose ids have been hardest to predict (arXiv 2203.13240)", make<ImportantTokens>},
}};

}  // namespace

std::span<const TokenSelectionEntry> token_selections() { return kSelections; }

std::unique_ptr<TokenSelection> make_token_selection(const TrainOptions& options, const SearchSpace& space) {
  std::vector<std::string_view> known;
  for (const TokenSelectionEntry& entry : kSelections) {
    known.push_back(entry.name);
    if (entry.name != options.tokens) continue;
    if (options.tokens != "all" && space.model().classifies())
      throw InputError({"recipe: train.tokens = \"" + options.tokens + '"',
                        "a language model: an image's class is read from all its tokens", "a classifier of images",
                        "use tokens = \"all\""});
    if (options.tokens != "all" && space.model().front_rows() > 0)
      throw InputError({"recipe: train.tokens = \"" + options.tokens + '"',
                        "a tuning without a prompt or prefix, whose rows are no tokens of the batch, among which this chooses",
                        "tune.method = prompt or prefix", "use tokens = \"all\""});
    std::unique_ptr<TokenSelection> selection = entry.make(options, space);
    if (selection->most_kept() > 0 && space.max_depth() < 3)
      throw InputError({"recipe: train.tokens = \"" + options.tokens + '"',
                        "a depth of at least 3: all tokens pass the first and the last block", std::to_string(space.max_depth()),
                        "use tokens = \"all\""});
    if (selection->most_kept() > 0 && options.dropout > 0)
      throw InputError({"recipe: train.tokens = \"" + options.tokens + '"',
                        "train.dropout = 0: a mask belongs to a row of the batch, and middle blocks have only some of its rows",
                        std::to_string(options.dropout), "use tokens = \"all\", or no dropout"});
    return selection;
  }
  throw unknown_name("recipe: train.tokens", options.tokens, known);
}

std::vector<std::int64_t> planned_kept(const TokenSelection& selection) {
  std::vector<std::int64_t> counts;
  if (selection.keeps_all_at_times()) counts.push_back(0);
  if (selection.most_kept() > 0) counts.push_back(selection.most_kept());
  return counts;
}

std::int64_t tokens_kept_at_first(const TrainOptions& options, int context) {
  const std::int64_t step = options.tokens_step, most = (context - 1) / step * step;
  if (most < step)
    throw InputError(
        {"recipe: train.tokens_step", "fewer tokens than the context of " + std::to_string(context), std::to_string(step), ""});
  return std::clamp(static_cast<std::int64_t>(std::floor(options.tokens_kept * context)) / step * step, step, most);
}

}  // namespace elastiform
