#include "supernet/activation_plan.hpp"

#include <algorithm>

#include "supernet/arena_bytes.hpp"
#include "supernet/bit_allocation.hpp"
#include "supernet/layers/attention.hpp"
#include "supernet/layers/feed_forward.hpp"
#include "supernet/layers/head.hpp"
#include "supernet/layers/masked_ends.hpp"
#include "supernet/layers/pooling.hpp"
#include "supernet/layers/prompt.hpp"
#include "supernet/patch_decoder.hpp"
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
  std::int64_t away(const BlockPlan& plan) const {
    return attention_.away_bytes(plan.attention, traits_) + feed_forward_.away_bytes(plan.feed_forward, traits_);
  }
  int tensors() const { return attention_.tensors() + feed_forward_.tensors(); }
  int compressed(const BlockPlan& plan) const {
    return attention_.compressed_tensors(plan.attention) + feed_forward_.compressed_tensors(plan.feed_forward);
  }
  const LayerTensors& attention() const { return attention_; }
  const LayerTensors& feed_forward() const { return feed_forward_; }

  std::vector<BlockPlan> plans(const ActivationChoices& choices) const {
    const TensorSet everything = FeedForward::levels().back();
    std::vector<BlockPlan> plans;
    for (const TensorSet a : has_attention_ ? Attention::levels() : Attention::levels().first(1))
      for (const TensorSet f : has_feed_forward_ ? FeedForward::levels() : FeedForward::levels().first(1)) {
        plans.push_back({a, f, false});
        if (choices.compresses())
          plans.push_back({attention_.compressed(a, choices.bits), feed_forward_.compressed(f, choices.bits), false});
        if (choices.offloads) plans.push_back({attention_.sent_away(a), feed_forward_.sent_away(f), false});
      }
    if (has_attention_ && has_feed_forward_)
      for (const TensorSet a : Attention::levels()) plans.push_back({a, everything, true});
    if (!choices.repeats_products) std::erase_if(plans, [&](const BlockPlan& plan) { return repeated(plan) > 0; });
    return plans;
  }

 private:
  std::int64_t forward(const LayerTensors& layer, const LayerPlan& plan) const { return layer.forward_bytes(plan, traits_); }
  std::int64_t backward(const LayerTensors& layer, const LayerPlan& plan) const { return layer.backward_bytes(plan, traits_); }

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
    option.cost = attention_.cost(plan.attention, traits_) + feed_forward_.cost(plan.feed_forward, traits_);
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
    option.cost = attention_.cost(nothing_kept, traits_) + attention_.result_flops + attention_.cost(plan.attention, traits_) +
                  feed_forward_.cost(plan.feed_forward, traits_);
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
  std::int64_t head = 0, embedding = 0;
  std::int64_t head_flops = 0;
  std::shared_ptr<const ActivationPlan> decoder;

  Pass(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, const PassShape& pass) {
    BlockShape shape{.batch = pass.batch,
                     .tokens = model.stream_tokens(pass.tokens),
                     .embed = subnet.embed,
                     .dropout = {.rate = pass.dropout},
                     .cosine = {},
                     .sine = {}};
    const std::int64_t kept_rows = pass.batch * pass.kept, stream = TensorShape{shape.rows(), shape.embed}.bytes(traits.dtype);
    const std::int64_t kept_stream = TensorShape{kept_rows, shape.embed}.bytes(traits.dtype);
    base = 2 * stream + kept_stream;
    embedding = embedding_arena_bytes(model, traits.dtype, subnet.embed, pass.batch, pass.tokens, pass.masked);
    if (pass.masked > 0) plan_decoder(model, traits, subnet, pass);
    else plan_head(model, traits, shape, pass);
    // Around a block of kept tokens: what all tokens are after it, its input, and their rotary positions.
    const TensorShape angles{model.positions == Positions::rope ? kept_rows : 0, model.head_dim / 2};
    const std::int64_t around = stream + kept_stream + 2 * angles.bytes(traits.dtype);
    for (int i = 0; i < subnet.depth(); ++i) {
      const BlockGenes& genes = subnet.blocks[static_cast<std::size_t>(i)];
      const bool keeps = pass.kept > 0 && keeps_some_tokens(i, subnet.depth());
      shape.tokens = keeps ? pass.kept : model.stream_tokens(pass.tokens);
      shape.heads = genes.heads, shape.groups = genes.groups, shape.ffn = genes.ffn;
      blocks.emplace_back(model, traits, shape, keeps ? around : 0);
    }
  }

  void plan_head(const ModelConfig& model, const BackendTraits& traits, BlockShape read, const PassShape& pass) {
    read.tokens = pass.tokens;
    head = 2 * Prompt::arena_bytes(model, traits.dtype, read.rows(), read.embed);  // and the gradient there
    if (Pooling::present(model)) {                                                 // one row a sequence, and the gradient there
      read.tokens = 1;
      head += 2 * TensorShape{read.rows(), read.embed}.bytes(traits.dtype);
    }
    const HeadTensors tensors = Head::tensors(model, read, traits, pass.with_teacher);
    head += bytes_of_all(tensors.saved, traits.dtype) + bytes_of_all(tensors.backward_scratch, traits.dtype);
    head_flops = 2 * read.rows() * read.embed * model.vocabulary;
  }

  /// The decoder's pass, with its own ends, in the place of the head.
  void plan_decoder(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, const PassShape& pass) {
    const SearchSpace space = decoder_space(model);
    const MaskedShape shape{.seen = pass.batch * pass.tokens,
                            .masked = pass.batch * pass.masked,
                            .embed = subnet.embed,
                            .width = space.max_embed(),
                            .values = model.image.patch_values()};
    Pass own(space.model(), traits, space.largest(), {.batch = pass.batch, .tokens = model.context});
    own.head = MaskedEnds::loss_bytes(shape, traits);
    own.embedding = std::max(MaskedEnds::enter_bytes(shape, traits.dtype), MaskedEnds::leave_bytes(model, shape, traits));
    own.head_flops = 2 * (shape.seen * shape.embed + shape.masked * shape.values) * shape.width;
    decoder = std::make_shared<const ActivationPlan>(own.finished(std::vector<BlockPlan>(own.blocks.size())));
    head += bytes_of_all(MaskedEnds::kept(model, shape), traits.dtype) + decoder->arena_bytes;
    head_flops = decoder->forward_flops;
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
      result.away_bytes += blocks[i].away(result.blocks[i]);
      result.tensors += blocks[i].tensors();
      result.compressed += blocks[i].compressed(result.blocks[i]);
    }
    result.decoder = decoder;
    result.arena_bytes = result.planned_bytes = base + std::max({peak, stored + head, embedding});
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

  Choices(const Pass& pass, const ActivationChoices& choices) {
    for (const BlockCosts& block : pass.blocks) {
      std::vector<BlockPlan>& kept = plans.emplace_back();
      std::vector<LinkOption>& options = links.emplace_back();
      for (const BlockPlan& plan : block.plans(choices)) {
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

/// Compressed tensors of a plan, and where their bits stand in it.
struct CompressedTensors {
  struct Place {
    std::size_t block;
    bool in_attention;
    int id;
  };
  std::vector<CompressedTensor> tensors;
  std::vector<Place> places;

  CompressedTensors(const Pass& pass, const std::vector<BlockPlan>& plans) {
    for (std::size_t block = 0; block < plans.size(); ++block)
      for (const bool in_attention : {true, false}) {
        const LayerPlan& plan = in_attention ? plans[block].attention : plans[block].feed_forward;
        const LayerTensors& layer = in_attention ? pass.blocks[block].attention() : pass.blocks[block].feed_forward();
        for (std::size_t i = 0; i < layer.kept.size(); ++i) {
          const int id = static_cast<int>(i);
          if (plan.bits.of(id) == 0 || plan.bits.of(id) == TensorBits::kAway) continue;
          const KeptTensor& tensor = layer.kept[i];
          tensors.push_back({static_cast<double>(tensor.gradient_flops), tensor.shape.rows, tensor.shape.columns, tensor.least_bits});
          places.push_back({block, in_attention, id});
        }
      }
  }

  void write(std::span<const int> bits, std::vector<BlockPlan>& plans) const {
    for (std::size_t i = 0; i < places.size(); ++i) {
      BlockPlan& block = plans[places[i].block];
      (places[i].in_attention ? block.attention : block.feed_forward).bits.set(places[i].id, bits[i]);
    }
  }
};

/// The plan's compressed tensors with as many bits as the limit leaves.
std::vector<BlockPlan> with_allocated_bits(const Pass& pass, std::vector<BlockPlan> plans, std::int64_t limit) {
  const CompressedTensors compressed(pass, plans);
  const std::vector<int> bits = allocate_bits(compressed.tensors, [&](std::span<const int> tried) {
    compressed.write(tried, plans);
    return pass.finished(plans).arena_bytes <= limit;
  });
  compressed.write(bits, plans);
  return plans;
}

BackendTraits planned_traits(BackendTraits traits, const ActivationChoices& choices) {
  if (choices.compresses()) traits.slots = 1;
  return traits;
}

}  // namespace

ActivationPlan plan_activations(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, const PassShape& shape,
                                std::int64_t limit, const ActivationChoices& choices) {
  const Pass pass(model, planned_traits(traits, choices), subnet, shape);
  ActivationPlan planned = pass.finished(std::vector<BlockPlan>(subnet.blocks.size()));
  if (planned.arena_bytes > limit) {
    Choices solved(pass, choices);
    const auto& plans = solved.plans;
    const RecomputeChain chain(std::move(solved.links), pass.head);
    const auto found = chain.solve(std::max(limit - pass.base, chain.least_peak()));
    std::vector<BlockPlan> chosen;
    for (std::size_t i = 0; i < plans.size(); ++i) chosen.push_back(plans[i][static_cast<std::size_t>(found->options[i])]);
    if (choices.allocates) chosen = with_allocated_bits(pass, std::move(chosen), limit);
    planned = pass.finished(std::move(chosen));
  }
  if (choices.compresses()) planned.arena_bytes = Pass(model, traits, subnet, shape).finished(planned.blocks).arena_bytes;
  return planned;
}

std::int64_t unlimited_activation_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, const PassShape& shape,
                                        const ActivationChoices& choices) {
  const Pass pass(model, planned_traits(traits, choices), subnet, shape);
  if (choices.compresses()) {
    const ActivationChoices least{.bits = choices.allocates ? 4 : choices.bits, .repeats_products = false};
    return pass.base + std::max(pass.embedding, RecomputeChain(Choices(pass, least).links, pass.head).least_peak());
  }
  const RecomputeChain chain(Choices(pass, choices).links, pass.head);
  const ActivationPlan everything_kept = pass.finished(std::vector<BlockPlan>(subnet.blocks.size()));
  constexpr double kStep = 3;  // forward, and backward at twice its FLOPs
  const double budget = kUnlimitedShare * kStep * static_cast<double>(everything_kept.forward_flops);
  return pass.base + std::max(pass.embedding, chain.least_peak(static_cast<std::int64_t>(budget)));
}

std::int64_t further_workers_bytes(const ModelConfig& model, const BackendTraits& traits, const Subnet& subnet, const PassShape& shape) {
  const auto all_of = [&](const BackendTraits& of) {
    const Pass pass(model, of, subnet, shape);
    std::int64_t most = 0;
    for (const BlockCosts& block : pass.blocks)
      for (const LayerTensors* layer : {&block.attention(), &block.feed_forward()}) {
        const LayerPlan nothing_kept = layer == &block.attention() ? Attention::levels().back() : FeedForward::levels().back();
        most = std::max(most, layer->forward_bytes(nothing_kept, of) + layer->backward_bytes({}, of));
      }
    return most + pass.head;
  };
  BackendTraits one_worker = traits;
  one_worker.slots = 1;
  return all_of(traits) - all_of(one_worker);
}

}  // namespace elastiform
