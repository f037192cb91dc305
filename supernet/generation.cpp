#include "supernet/generation.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/errors.hpp"
#include "kernels/random.hpp"
#include "supernet/arena_bytes.hpp"

namespace elastiform {
namespace {

constexpr std::int32_t kNewline = 10;  // stands for an empty prompt: a text begins at a line's start

std::int32_t largest_of(std::span<const float> logits) {
  return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// Decoding state of one text: the cache and the tokens that fill it.
class Decoder {
 public:
  /// `length`: the most tokens that will ever be said; a shorter text needs a smaller cache than the context.
  Decoder(Backend& backend, const Network& network, const Weights& weights, const Subnet& subnet, std::int64_t length)
      : backend_(backend), network_(network), weights_(weights), subnet_(subnet),
        context_(std::min<std::int64_t>(network.space().model().context, length)), vocabulary_(network.space().model().vocabulary),
        arena_(generation_arena_bytes(network.space().model(), backend.traits(), subnet, context_), backend.memory()),
        cache_(network.make_cache(subnet, context_, arena_)) {}

  /// Logits after `tokens`, which follow what was said before. When they no longer fit, the last half of the context starts anew.
  std::span<const float> say(std::span<const std::int32_t> tokens) {
    history_.insert(history_.end(), tokens.begin(), tokens.end());
    const auto all = static_cast<std::int64_t>(history_.size());
    std::int64_t fresh = static_cast<std::int64_t>(tokens.size());
    if (all > context_) {
      fresh = std::max<std::int64_t>(context_ / 2, 1);
      history_.erase(history_.begin(), history_.end() - fresh);
      cache_.tokens = 0;
    }
    const std::span<const std::int32_t> window(history_.data() + history_.size() - static_cast<std::size_t>(fresh),
                                               static_cast<std::size_t>(fresh));
    const ArenaScope scope(arena_);
    const View logits = arena_.matrix(1, vocabulary_, network_.dtype());
    for (std::int64_t done = 0; done < fresh; done += kPrefillRows) {
      const auto piece = window.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(std::min(kPrefillRows, fresh - done)));
      network_.decode(backend_, weights_, subnet_, piece, cache_, logits, arena_);
    }
    dispatch(network_.dtype(), [&]<class T> {
      std::vector<T> last(static_cast<std::size_t>(vocabulary_));
      backend_.copy(view_of(last.data(), 1, vocabulary_, vocabulary_), logits);
      last_.assign(last.begin(), last.end());
    });
    return last_;
  }

 private:
  Backend& backend_;
  const Network& network_;
  const Weights& weights_;
  const Subnet& subnet_;
  std::int64_t context_, vocabulary_;
  Arena arena_;
  KeyValueCache cache_;
  std::vector<std::int32_t> history_;
  std::vector<float> last_;
};

void check(const GenerationOptions& options) {
  const auto refuse = [](const char* what, const char* expected, double found) {
    throw InputError({std::string("generation: ") + what, expected, std::to_string(found), ""});
  };
  if (options.tokens < 0) refuse("tokens", "0 or more", static_cast<double>(options.tokens));
  if (!(options.temperature >= 0 && std::isfinite(options.temperature))) refuse("temperature", "0 or more", options.temperature);
  if (options.top_k < 0) refuse("top-k", "0 (all) or more", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1)) refuse("top-p", "above 0 and at most 1", options.top_p);
}

}  // namespace

std::int32_t pick_token(std::span<const float> logits, const GenerationOptions& options, std::uint64_t step) {
  check(options);
  if (logits.empty() || !std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); }))
    throw std::runtime_error("generation: logits are not finite; the weights may have diverged");
  if (options.temperature == 0) return largest_of(logits);

  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto larger = [&](std::int32_t a, std::int32_t b) {  // of equal logits the smaller id first, so ties never depend on the sort
    const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
    return x != y ? x > y : a < b;
  };
  std::sort(order.begin(), order.end(), larger);
  if (options.top_k > 0 && static_cast<std::size_t>(options.top_k) < order.size()) order.resize(static_cast<std::size_t>(options.top_k));

  std::vector<double> weight(order.size());
  const double top = static_cast<double>(logits[static_cast<std::size_t>(order.front())]);
  for (std::size_t i = 0; i < order.size(); ++i)
    weight[i] = std::exp((static_cast<double>(logits[static_cast<std::size_t>(order[i])]) - top) / options.temperature);
  double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  if (options.top_p < 1) {  // nucleus sampling (arXiv 1904.09751): the fewest tokens whose probabilities reach p
    double kept = 0;
    std::size_t count = 0;
    while (count < weight.size() && kept < options.top_p * total) kept += weight[count++];
    weight.resize(count);
    total = kept;
  }
  const double target = RandomStream(options.seed, Purpose::generation, step).uniform() * total;
  double passed = 0;
  for (std::size_t i = 0; i < weight.size(); ++i) {
    passed += weight[i];
    if (target < passed) return order[i];
  }
  return order[weight.size() - 1];  // rounding of the sum
}

void generate(Backend& backend, const Network& network, const Weights& weights, const Subnet& subnet, std::span<const std::int32_t> prompt,
              const GenerationOptions& options, const std::function<bool(std::int32_t)>& each) {
  check(options);
  const ModelConfig& model = network.space().model();
  for (const std::int32_t token : prompt)
    if (token < 0 || token >= model.vocabulary)
      throw InputError({"prompt", "token ids from 0 to " + std::to_string(model.vocabulary - 1), std::to_string(token), ""});
  if (options.tokens == 0) return;

  const std::int32_t newline = std::min(kNewline, model.vocabulary - 1);
  if (prompt.empty()) prompt = std::span(&newline, 1);
  // Of a longer prompt only this much can be seen.
  if (prompt.size() > static_cast<std::size_t>(model.context)) prompt = prompt.last(static_cast<std::size_t>(model.context));
  Decoder decoder(backend, network, weights, subnet, static_cast<std::int64_t>(prompt.size()) + options.tokens);
  std::span<const float> logits = decoder.say(prompt);
  for (std::int64_t step = 0; step < options.tokens; ++step) {
    const auto known = static_cast<std::size_t>(options.vocabulary > 0 ? std::min(options.vocabulary, model.vocabulary) : model.vocabulary);
    const std::int32_t token = pick_token(logits.first(known), options, static_cast<std::uint64_t>(step));
    if (!each(token)) return;
    if (step + 1 < options.tokens) logits = decoder.say(std::span(&token, 1));
  }
}

}  // namespace elastiform
