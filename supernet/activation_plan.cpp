#include "supernet/activation_plan.hpp"

#include <algorithm>

#include "supernet/layers/attention.hpp"
#include "supernet/layers/feed_forward.hpp"
#include "supernet/layers/head.hpp"
#include "supernet/recompute_chain.hpp"

namespace elastiform {
namespace {

/// Bytes and costs of one block's plans: Network::forward_backward's arena, line by line.
class BlockCosts {
 public:
  /// around: bytes that stand below the block's own from forward to backward.
  BlockCosts(const ModelConfig& model, const BackendTraits& traits, const BlockShape& shape, std::int64_t around)
      : traits_(traits), has_attention_(shape.heads > 0), has_feed_forward_(shape.ffn > 0), around_(around),
        result_(TensorShape{shape.rows(), shape.embed}.bytes(traits.dtype)) {
    if (has_attention_) attention_ = Attention::tensors(model, shape, traits);
    if (has_feed_forward_) feed_forward_ = FeedForward::tensors(model, shape, traits);
  }

  LinkOption of(const BlockPlan& plan) const {
    LinkOption option = plan.middle ? without_middle(plan) : with_middle(plan);
    option.stored += around_;
    option.work += around_;
    return option;
  }

  /// FLOPs of products that backward repeats.
  std::int64_t repeated(const BlockPlan& plan) const {
    return attention_.recomputed_flops(plan.attention) + feed_forward_.recomputed_flops(plan.feed_forward) +
           (plan.middle ? attention_.flops() : 0);
  }
  std::int64_t flops() const { return attention_.flops() + feed_forward_.flops(); }

  std::vector<BlockPlan> plans() const {
    const TensorSet everything = FeedForward::levels().back();
    std::vector<BlockPlan> plans;
    for (const TensorSet a : has_attention_ ? Attention::levels() : Attention::levels().first(1))
      for (const TensorSet f : has_feed_forward_ ? FeedForward::levels() : FeedForward::levels().first(1)) plans.push_back({a, f, false});
    if (has_attention_ && has_feed_forward_)
      for (const TensorSet a : Attention::levels()) plans.push_back({a, everything, true});
    return plans;
  }

 private:
  std::int64_t forward(const LayerTensors& layer, TensorSet dropped) const { return layer.forward_bytes(dropped, traits_); }
  std::int64_t backward(const LayerTensors& layer, TensorSet dropped) const { return layer.backward_bytes(dropped, traits_); }

  LinkOption with_middle(const BlockPlan& plan) const {
    const std::int64_t a = attention_.saved_bytes(plan.attention, traits_), f = feed_forward_.saved_bytes(plan.feed_forward, traits_);
    LinkOption option;
    if (has_attention_) {
      option.stored = a + result_;
      option.work = std::max(option.stored + forward(attention_, plan.attention), a + backward(attention_, plan.attention));
    }
    if (has_feed_forward_) {
      const std::int64_t below = option.stored;
      option.stored += f + result_;
      option.work = std::max(
          {option.work, option.stored + forward(feed_forward_, plan.feed_forward), below + f + backward(feed_forward_, plan.feed_forward)});
    }
    option.cost = attention_.recomputed_cost(plan.attention, traits_) + feed_forward_.recomputed_cost(plan.feed_forward, traits_);
    return option;
  }

  LinkOption without_middle(const BlockPlan& plan) const {
    const TensorSet nothing_kept = Attention::levels().back();
    const std::int64_t a = attention_.saved_bytes(plan.attention, traits_), again = a + result_;
    LinkOption option;
    option.stored = result_;
    option.work = std::max({2 * result_ + std::max(forward(attention_, nothing_kept), forward(feed_forward_, plan.feed_forward)),
                            again + std::max(forward(attention_, plan.attention), backward(feed_forward_, plan.feed_forward)),
                            a + backward(attention_, plan.attention)});
    // The branch runs again to its end, elementwise work included; what it drops then is computed a third time.
    option.cost = attention_.recomputed_cost(nothing_kept, traits_) + attention_.result_flops +
                  attention_.recomputed_cost(plan.attention, traits_) + feed_forward_.recomputed_cost(plan.feed_forward, traits_);
    return option;
  }

  BackendTraits traits_;
  bool has_attention_, has_feed_forward_;
  std::int64_t around_;
  std::int64_t result_;  // [N, C], the output of a branch
  LayerTensors attention_, feed_forward_;
};

/// The whole pass: the blocks' costs and what stands before and after them.
struct Pass {
  std::vector<BlockCosts> blocks;
  std::int64_t base = 0;  // the gradient that runs back through the blocks, of kept tokens too, and the embedding's output
  std::int64_t head = 0;
  std::int64_t head_flops = 0;

  Pass(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, const PassShape& pass) {
    BlockShape shape{
        .batch = pass.batch, .tokens = pass.tokens, .embed = subnet.embed, .dropout = {.rate = pass.dropout}, .cosine = {}, .sine = {}};
    const std::int64_t kept_rows = pass.batch * pass.kept, stream = TensorShape{shape.rows(), shape.embed}.bytes(traits.dtype);
    const std::int64_t kept_stream = TensorShape{kept_rows, shape.embed}.bytes(traits.dtype);
    base = 2 * stream + kept_stream;
    const HeadTensors tensors = Head::tensors(model, shape, traits, pass.with_teacher);
    for (const TensorShape& one : tensors.saved) head += one.bytes(traits.dtype);
    for (const TensorShape& one : tensors.backward_scratch) head += one.bytes(traits.dtype);
    head_flops = 2 * shape.rows() * shape.embed * model.vocabulary;
    // Around a block of kept tokens: what all tokens are after it, its input, and their rotary positions.
    const TensorShape angles{model.positions == Positions::rope ? kept_rows : 0, model.head_dim / 2};
    const std::int64_t around = stream + kept_stream + 2 * angles.bytes(traits.dtype);
    for (int i = 0; i < subnet.depth(); ++i) {
      const BlockGenes& genes = subnet.blocks[static_cast<std::size_t>(i)];
      const bool keeps = pass.kept > 0 && keeps_some_tokens(i, subnet.depth());
      shape.tokens = keeps ? pass.kept : pass.tokens;
      shape.heads = genes.heads, shape.groups = genes.groups, shape.ffn = genes.ffn;
      blocks.emplace_back(model, traits, shape, keeps ? around : 0);
    }
  }

  ActivationPlan finished(std::vector<BlockPlan> plans) const {
    ActivationPlan result{.blocks = std::move(plans), .forward_flops = head_flops};
    std::int64_t stored = 0, peak = 0;
    for (std::size_t i = 0; i < blocks.size(); ++i) {
      const LinkOption option = blocks[i].of(result.blocks[i]);
      peak = std::max(peak, stored + option.work);
      stored += option.stored;
      result.forward_flops += blocks[i].flops();
      result.recomputed_flops += blocks[i].repeated(result.blocks[i]);
    }
    result.arena_bytes = base + std::max(peak, stored + head);
    return result;
  }
};

}  // namespace

double ActivationPlan::recomputed_share() const {
  return forward_flops > 0 ? static_cast<double>(recomputed_flops) / static_cast<double>(forward_flops) : 0;
}

namespace {

bool no_better(const LinkOption& a, const LinkOption& b) { return a.stored >= b.stored && a.work >= b.work && a.cost >= b.cost; }

/// The blocks' plans, and the chain of their costs. Plans that another one of the block beats in everything are left out: a dozen of thirty
/// remain, and a new subnet is planned in every step of some samplers.
struct Choices {
  std::vector<std::vector<BlockPlan>> plans;
  std::vector<std::vector<LinkOption>> links;

  explicit Choices(const Pass& pass) {
    for (const BlockCosts& block : pass.blocks) {
      std::vector<BlockPlan>& kept = plans.emplace_back();
      std::vector<LinkOption>& options = links.emplace_back();
      for (const BlockPlan& plan : block.plans()) {
        const LinkOption option = block.of(plan);
        if (std::any_of(options.begin(), options.end(), [&](const LinkOption& other) { return no_better(option, other); })) continue;
        for (std::size_t i = options.size(); i-- > 0;)
          if (no_better(options[i], option))
            options.erase(options.begin() + static_cast<std::ptrdiff_t>(i)), kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(i));
        options.push_back(option);
        kept.push_back(plan);
      }
    }
  }
};

}  // namespace

ActivationPlan plan_activations(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, const PassShape& shape,
                                std::int64_t limit) {
  const Pass pass(model, traits, subnet, shape);
  ActivationPlan everything_kept = pass.finished(std::vector<BlockPlan>(subnet.blocks.size()));
  if (everything_kept.arena_bytes <= limit) return everything_kept;
  Choices choices(pass);
  const auto& plans = choices.plans;
  const RecomputeChain chain(std::move(choices.links), pass.head);
  const auto solved = chain.solve(std::max(limit - pass.base, chain.least_peak()));
  std::vector<BlockPlan> chosen;
  for (std::size_t i = 0; i < plans.size(); ++i) chosen.push_back(plans[i][static_cast<std::size_t>(solved->options[i])]);
  return pass.finished(std::move(chosen));
}

std::int64_t unlimited_activation_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet,
                                        const PassShape& shape) {
  const Pass pass(model, traits, subnet, shape);
  const RecomputeChain chain(Choices(pass).links, pass.head);
  const ActivationPlan everything_kept = pass.finished(std::vector<BlockPlan>(subnet.blocks.size()));
  constexpr double kStep = 3;  // forward, and backward at twice its FLOPs
  const double budget = kUnlimitedShare * kStep * static_cast<double>(everything_kept.forward_flops);
  return pass.base + chain.least_peak(static_cast<std::int64_t>(budget));
}

}  // namespace elastiform
