#include <cmath>
#include <optional>
#include <stdexcept>
#include <vector>

#include "kernels/random.hpp"
#include "supernet/activation_plan.hpp"
#include "supernet/network_parts.hpp"
#include "supernet/training_pass_parts.hpp"

namespace elastiform {
/// One forward and backward of a subnet as its plan says. The arena is a stack of what blocks store, each with its output on top; backward
/// takes them off one by one. supernet/activation_plan.cpp adds up exactly these allocations.
class Network::TrainingPass {
 public:
  TrainingPass(const Parts& parts, Backend& backend, const Weights& values, Weights& gradients, const Subnet& subnet, const Batch& batch,
               const ActivationPlan& plan, Arena& arena, Arena* away, const PassEnds* ends = nullptr)
      : p_(parts), backend_(backend), values_(values), gradients_(gradients), subnet_(subnet), batch_(batch), plan_(plan), arena_(arena),
        away_(away), ends_(ends), d_(stream()), kept_d_(batch.kept.count > 0 ? matrix(kept_rows(), subnet.embed) : View{}),
        passed_(passed_blocks(ends != nullptr)) {
    passed_.reserve(subnet.blocks.size());
  }

  LossReport run(const LossOptions& options, const Teacher& teacher, View keep_hidden, BlockDone block_done) {
    accumulate_ = options.accumulate;
    dropout_ = options.dropout;
    dropout_.rows_before = stream_row(dropout_.rows_before);
    if (dropout_.is_on() && batch_.kept.count > 0) throw std::logic_error("dropout's masks are of all rows, not of those that blocks keep");
    noise_ = options.noise;
    noise_.first_row = stream_row(noise_.first_row);
    const View embedded = stream();
    if (ends_) ends_->enter(embedded);
    else p_.embed(backend_, values_, subnet_.embed, batch_, embedded, arena_);
    drop(dropout_.embedding(), embedded);
    const std::int64_t blocks = arena_.mark();
    ConstView x = embedded;
    for (int i = 0; i < subnet_.depth(); ++i) {
      passed_.emplace_back();
      x = keeps(i) ? forward_of_kept(i, x) : forward(i, x);
    }
    LossReport report = loss(x, options, teacher, keep_hidden);
    if (options.forward_only) {
      arena_.release(blocks);
      return report;
    }
    for (int i = subnet_.depth(); i-- > 0;) {
      keeps(i) ? backward_of_kept(i) : backward(i);
      block_done(subnet_.block_index(i));
    }
    arena_.release(blocks);
    if (ends_) ends_->leave(d_);
    else embedding_backward();
    report.finite = std::isfinite(report.label_loss) && std::isfinite(report.teacher_loss) && std::isfinite(report.hidden_loss);
    if (options.checks_gradient) report.finite = report.finite && std::isfinite(backend_.sum_squares(d_));
    return report;
  }

 private:
  enum Branch : std::uint8_t { kAttentionForward, kFeedForwardForward, kAttentionBackward, kFeedForwardBackward, kBranches };

  /// Dropout of x [N, C] in place.
  void drop(const DropoutPlace& dropout, View x) {
    if (dropout.is_on()) backend_.panels(x.rows, [&](Rows r) { dropout.apply(backend_, x[r], x[r], {}, r.first); });
  }
  View matrix(std::int64_t rows, std::int64_t columns) { return arena_.matrix(rows, columns, p_.dtype); }
  View stream() { return matrix(p_.stream_rows(batch_), subnet_.embed); }
  View stream_of(int i) { return matrix(batch_.sequences * tokens_of(i), subnet_.embed); }
  /// Of the step's stream, that begins with the sequence of this row of its tokens.
  std::int64_t stream_row(std::int64_t row) const { return row / batch_.tokens * p_.space.model().stream_tokens(batch_.tokens); }
  /// Whether block i gets some tokens only.
  bool keeps(int i) const { return batch_.kept.count > 0 && keeps_some_tokens(i, subnet_.depth()); }
  std::int64_t tokens_of(int i) const { return keeps(i) ? batch_.kept.count : p_.space.model().stream_tokens(batch_.tokens); }
  std::int64_t kept_rows() const { return batch_.sequences * batch_.kept.count; }
  const BlockPlan& plan_of(int i) const { return plan_.blocks[static_cast<std::size_t>(i)]; }
  const BlockGenes& genes_of(int i) const { return subnet_.blocks[static_cast<std::size_t>(i)]; }
  BlockShape shape_of(int i) const {
    BlockShape shape = p_.shape(batch_.sequences, tokens_of(i), subnet_.embed, genes_of(i), subnet_.depth());
    shape.cosine = passed(i).cosine, shape.sine = passed(i).sine;
    shape.block = subnet_.block_index(i);
    shape.dropout = dropout_;
    return shape;
  }
  PassedBlock& passed(int i) const { return passed_[static_cast<std::size_t>(i)]; }

  void embedding_backward() {
    if (const View dprompt = p_.prompt_of(gradients_, subnet_.embed); !dprompt.empty()) {  // nothing else of the embedding learns
      drop(dropout_.embedding(), d_);
      return Prompt::prepend_backward(backend_, dprompt, d_, batch_.sequences);
    }
    if (p_.space.model().classifies()) {
      drop(dropout_.embedding(), d_);
      return p_.patch_embedding.backward(backend_, p_.patch_slices(gradients_, subnet_.embed), batch_, d_, accumulate_, arena_);
    }
    const View dtable = p_.slice(gradients_, p_.token.weight, p_.space.model().vocabulary, subnet_.embed);
    if (dtable.empty()) return;  // frozen, and positions with it
    drop(dropout_.embedding(), d_);
    backend_.embedding_backward({.dtable = dtable,
                                 .dpositions = p_.slice(gradients_, p_.position.weight, p_.space.model().context, subnet_.embed),
                                 .dy = d_,
                                 .tokens = batch_.inputs,
                                 .period = batch_.tokens});
  }

  // Weights as layers multiply by them.
  AttentionSlices attention_weights(int i) {
    return p_.effective(backend_, p_.attention_slices(values_, subnet_.block_index(i), subnet_.embed, genes_of(i), subnet_.rank), arena_);
  }
  FeedForwardSlices feed_forward_weights(int i) {
    return p_.effective(backend_, p_.feed_forward_slices(values_, subnet_.block_index(i), subnet_.embed, genes_of(i), subnet_.rank),
                        arena_);
  }
  LayerTensors attention_tensors(int i) const { return Attention::tensors(p_.space.model(), shape_of(i), backend_.traits()); }
  LayerTensors feed_forward_tensors(int i) const { return FeedForward::tensors(p_.space.model(), shape_of(i), backend_.traits()); }
  Saved save_attention(int i, const LayerPlan& plan) { return Saved(arena_, attention_tensors(i), plan, backend_.traits(), away_); }
  Saved save_feed_forward(int i, const LayerPlan& plan) { return Saved(arena_, feed_forward_tensors(i), plan, backend_.traits(), away_); }

  /// Runs a branch's forward with room for what is not kept as it is, and compresses it or sends it away.
  template <class Forward>
  void storing(int i, Saved& saved, const LayerTensors& tensors, Branch branch, const Forward& forward) {
    if (saved.plan().bits.empty()) return forward();
    const ArenaScope scope(arena_);
    saved.make_room(arena_, tensors, backend_.traits());
    forward();
    store(backend_, saved, saved.plan().bits.compresses() ? noise_of(branch, i) : NoiseName{}, noise_.first_row, away_);
  }
  /// Runs a branch's backward with all of that brought back.
  template <class Backward>
  void restoring(Saved& saved, const LayerTensors& tensors, const Backward& backward) {
    if (saved.plan().bits.empty()) return backward();
    const ArenaScope scope(arena_);
    saved.make_room(arena_, tensors, backend_.traits());
    restore(backend_, saved);
    backward();
  }
  /// Bits 8 to 11 are left to the tensor; a step has 2^11 passes and a network kMostCompressedBlocks at most.
  NoiseName noise_of(Branch branch, int i) const {
    const auto block = static_cast<std::uint32_t>(p_.blocks_before + subnet_.block_index(i)),
               pass = static_cast<std::uint32_t>(noise_.pass);
    if (block >= std::uint32_t{kMostCompressedBlocks} || pass >> 11 != 0) throw std::logic_error("TrainingPass: noise has no name");
    const std::uint32_t feed_forward = branch == kFeedForwardForward ? 1 : 0;
    return {noise_.seed,
            {static_cast<std::uint32_t>(noise_.step),
             static_cast<std::uint32_t>(Purpose::activation) | feed_forward << 12 | block << 13 | pass << 21}};
  }
  // Each is the same work whenever genes and addresses are, which keys say.
  RepeatKey key_of(Branch branch, int i, const Saved& saved, ConstView y, ConstView x) const {
    const BlockGenes& genes = genes_of(i);
    return {branch + kBranches * (2 * (subnet_.depth() + std::int64_t{kMaxSubnetBlocks + 1} * subnet_.rank) + (keeps(i) ? 1 : 0)),
            p_.blocks_before + subnet_.block_index(i),
            subnet_.embed,
            genes.heads,
            genes.groups,
            genes.ffn,
            batch_.sequences,
            tokens_of(i),
            saved.dropped().bits(),
            static_cast<std::int64_t>(saved.plan().bits.pattern()),
            accumulate_,
            arena_.mark(),
            saved.address(),
            address(y.data),
            address(x.data),
            address(values_.data()),
            address(gradients_.data())};
  }
  /// A mask is of one step, so what draws one is never the same work again.
  void repeated(const RepeatKey& key, FunctionRef<void()> body) { dropout_.is_on() ? body() : backend_.repeated(key, body); }
  void attention_forward(int i, const Saved& saved, View y, ConstView x) {
    repeated(key_of(kAttentionForward, i, saved, y, x), [&] {
      const ArenaScope scope(arena_);
      p_.attention.forward(backend_, attention_weights(i), shape_of(i), saved, y, x, arena_);
    });
  }
  void feed_forward_forward(int i, const Saved& saved, View y, ConstView x) {
    repeated(key_of(kFeedForwardForward, i, saved, y, x), [&] {
      const ArenaScope scope(arena_);
      p_.feed_forward.forward(backend_, feed_forward_weights(i), shape_of(i), saved, y, x, arena_);
    });
  }
  void attention_backward(int i, const Saved& saved, ConstView x) {
    repeated(key_of(kAttentionBackward, i, saved, d_, x), [&] {
      const ArenaScope scope(arena_);
      p_.attention.backward(backend_, attention_weights(i),
                            p_.attention_slices(gradients_, subnet_.block_index(i), subnet_.embed, genes_of(i), subnet_.rank), shape_of(i),
                            saved, d_, x, accumulate_, arena_);
    });
  }
  void feed_forward_backward(int i, const Saved& saved, ConstView x) {
    repeated(key_of(kFeedForwardBackward, i, saved, d_, x), [&] {
      const ArenaScope scope(arena_);
      p_.feed_forward.backward(backend_, feed_forward_weights(i),
                               p_.feed_forward_slices(gradients_, subnet_.block_index(i), subnet_.embed, genes_of(i), subnet_.rank),
                               shape_of(i), saved, d_, x, accumulate_, arena_);
    });
  }

  /// The kept tokens' rows of x are the block's input; what it makes of them takes their places beside the others.
  ConstView forward_of_kept(int i, ConstView x) {
    PassedBlock& block = passed(i);
    const std::span<const std::int32_t> rows = rows_of(i);
    const View y = stream(), kept = stream_of(i);
    backend_.embedding_forward({.y = kept, .table = x, .positions = {}, .tokens = rows});
    block.cosine = angles_of(i, p_.cosine.view);
    block.sine = angles_of(i, p_.sine.view);
    const ConstView result = forward(i, kept);
    backend_.panels(x.rows, [&](Rows r) { backend_.copy(y[r], x[r]); });
    backend_.scatter_rows({.y = y, .x = result, .rows = rows});
    return y;
  }

  void backward_of_kept(int i) {
    const View whole = d_;
    const std::span<const std::int32_t> rows = rows_of(i);
    backend_.embedding_forward({.y = kept_d_, .table = whole, .positions = {}, .tokens = rows});
    d_ = kept_d_;
    backward(i);
    d_ = whole;
    backend_.scatter_rows({.y = d_, .x = kept_d_, .rows = rows});
  }

  std::span<const std::int32_t> rows_of(int i) const { return batch_.kept.rows_of(subnet_.block_index(i), batch_.sequences); }
  /// Rows of a table of angles at the places that kept tokens have in their sequences.
  View angles_of(int i, ConstView table) {
    if (table.empty()) return {};
    const View angles = matrix(kept_rows(), table.columns);
    backend_.embedding_forward(
        {.y = angles, .table = table, .positions = {}, .tokens = batch_.kept.positions_of(subnet_.block_index(i), batch_.sequences)});
    return angles;
  }

  ConstView forward(int i, ConstView x) {
    if (plan_of(i).middle) return forward_without_middle(i, x);
    PassedBlock& block = passed(i);
    block.x = block.middle = x;
    ConstView result = x;
    if (genes_of(i).heads > 0) {
      block.attention = save_attention(i, plan_of(i).attention);
      block.after_attention_saved = arena_.mark();
      const View y = stream_of(i);
      storing(i, block.attention, attention_tensors(i), kAttentionForward, [&] { attention_forward(i, block.attention, y, x); });
      block.middle = result = y;
    }
    if (genes_of(i).ffn > 0) {
      block.feed_forward = save_feed_forward(i, plan_of(i).feed_forward);
      block.after_feed_forward_saved = arena_.mark();
      const View y = stream_of(i);
      storing(i, block.feed_forward, feed_forward_tensors(i), kFeedForwardForward,
              [&] { feed_forward_forward(i, block.feed_forward, y, block.middle); });
      result = y;
    }
    return result;
  }

  void backward(int i) {
    if (away_ && i > 0) recall(passed(i - 1).attention, *away_), recall(passed(i - 1).feed_forward, *away_);
    if (plan_of(i).middle) return backward_without_middle(i);
    PassedBlock& block = passed(i);
    if (genes_of(i).ffn > 0) {
      arena_.release(block.after_feed_forward_saved);  // the block's output has served the one after it
      restoring(block.feed_forward, feed_forward_tensors(i), [&] { feed_forward_backward(i, block.feed_forward, block.middle); });
    }
    if (genes_of(i).heads > 0) {
      arena_.release(block.after_attention_saved);
      restoring(block.attention, attention_tensors(i), [&] { attention_backward(i, block.attention, block.x); });
    }
  }

  ConstView forward_without_middle(int i, ConstView x) {
    PassedBlock& block = passed(i);
    block.x = x;
    block.after_attention_saved = arena_.mark();
    const View y = stream_of(i);
    const ArenaScope scope(arena_);
    const View middle = stream_of(i);
    attention_forward(i, save_attention(i, Attention::levels().back()), middle, x);
    feed_forward_forward(i, save_feed_forward(i, plan_of(i).feed_forward), y, middle);
    return y;
  }

  void backward_without_middle(int i) {
    const PassedBlock& block = passed(i);
    arena_.release(block.after_attention_saved);
    const Saved attention = save_attention(i, plan_of(i).attention);
    {
      const ArenaScope scope(arena_);
      const View middle = stream_of(i);
      attention_forward(i, attention, middle, block.x);
      feed_forward_backward(i, save_feed_forward(i, plan_of(i).feed_forward), middle);
    }
    attention_backward(i, attention, block.x);
  }

  /// Of the blocks' output x, with its gradient into d.
  LossReport loss(ConstView x, const LossOptions& options, const Teacher& teacher, View keep_hidden) {
    if (ends_) return ends_->loss(x, d_);
    return batch_.images.masked.count > 0 ? guess(x, options) : head(x, options, teacher, keep_hidden);
  }

  LossReport head(ConstView x, const LossOptions& options, const Teacher& teacher, View keep_hidden) {
    const ArenaScope scope(arena_);
    const BlockShape shape = p_.head_shape(batch_.sequences, batch_.tokens, subnet_.embed);
    const bool pools = Pooling::present(p_.space.model()), taught = !teacher.hidden.empty();
    const ConstView read = p_.pooled(backend_, x, batch_, arena_);
    const bool prompted = Prompt::present(p_.space.model());
    const View dtokens = prompted ? matrix(batch_.rows(), subnet_.embed) : d_;
    const View dread = pools ? matrix(batch_.sequences, subnet_.embed) : dtokens;
    const Saved saved(arena_, Head::tensors(p_.space.model(), shape, backend_.traits(), taught).saved, p_.dtype);
    const Weights& teaching = teacher.weights ? *teacher.weights : values_;
    const Parts& of_teacher = teacher.network ? *teacher.network->parts_ : p_;
    const HeadSlices teacher_head = !taught ? HeadSlices{} : of_teacher.head_slices(teaching, teacher.embed);
    const LossReport report =
        p_.head.forward_backward(backend_, p_.head_slices(values_, subnet_.embed), p_.head_slices(gradients_, subnet_.embed), teacher_head,
                                 shape, saved, dread, read, batch_, options, teacher, arena_);
    if (pools && !options.forward_only) p_.pooling.backward(backend_, dtokens, dread, batch_);
    if (prompted && !options.forward_only) Prompt::strip_backward(backend_, d_, dtokens, batch_.sequences);
    if (!keep_hidden.empty() && taught && options.hidden_weight > 0)
      throw std::logic_error("a pass that follows a teacher keeps no states");
    if (!keep_hidden.empty()) backend_.copy(keep_hidden, saved.read(Head::kHidden));
    if (!options.token_losses.empty()) backend_.copy(options.token_losses, saved.read(Head::kLosses));
    return report;
  }

  /// Of the patches that the batch has left out, as the decoder guesses them.
  LossReport guess(ConstView x, const LossOptions& options) {
    const ArenaScope scope(arena_);
    const Parts& decoder = *p_.decoder;
    const ModelConfig& model = p_.space.model();
    const MaskedEnds around(model, decoder.space.model());
    const MaskedSlices w = p_.masked_slices(values_, subnet_.embed);
    const MaskedGradients dw = p_.masked_slices(gradients_, subnet_.embed);
    const MaskedShape shape{.seen = x.rows, .embed = subnet_.embed};
    const Saved saved(arena_, MaskedEnds::kept(model, shape), p_.dtype);
    const auto enter = [&](View stream) { around.enter(backend_, w, saved, x, batch_, stream, arena_); };
    const auto loss = [&](ConstView y, View d) { return around.loss(backend_, w, dw, y, d, batch_, options, arena_); };
    const auto leave = [&](ConstView d) { around.leave(backend_, w, dw, saved, x, d, d_, batch_, accumulate_, arena_); };
    const PassEnds ends{enter, loss, leave};
    const Batch whole{.sequences = batch_.sequences, .tokens = model.context, .inputs = {}, .targets = {}};
    TrainingPass pass(decoder, backend_, values_, gradients_, p_.subnet_of_decoder, whole, *plan_.decoder, arena_, nullptr, &ends);
    return pass.run({.accumulate = options.accumulate, .forward_only = options.forward_only}, {}, {}, kNobodyIsTold);
  }

  const Parts& p_;
  Backend& backend_;
  const Weights& values_;
  Weights& gradients_;
  const Subnet& subnet_;
  const Batch& batch_;
  const ActivationPlan& plan_;
  Arena& arena_;
  Arena* away_;           // null: plans send nothing away
  const PassEnds* ends_;  // null: the network's own
  bool accumulate_ = true;
  PassNoise noise_;
  PassDropout dropout_;
  View d_;       // the gradient on its way back through the blocks
  View kept_d_;  // its rows in a block that gets some tokens only
  std::vector<PassedBlock>& passed_;
};

LossReport Network::forward_backward(Backend& backend, const Weights& values, Weights& gradients, const Subnet& subnet, const Batch& batch,
                                     const LossOptions& options, const Teacher& teacher, View keep_hidden, const ActivationPlan& plan,
                                     Arena& arena, BlockDone block_done, Arena* away) const {
  const ArenaScope scope(arena);
  std::optional<ArenaScope> away_scope;
  if (away) away_scope.emplace(*away);
  return TrainingPass(*parts_, backend, values, gradients, subnet, batch, plan, arena, away).run(options, teacher, keep_hidden, block_done);
}

bool Network::writes_gradient(const TensorSpec& tensor) const {
  // Whatever is looked up has this role, so a lookup to come is cleared too; of the role are also the head and a tied table, which the head
  // writes before its lookups add to it.
  if (tensor.role == Role::embedding)
    return tensor.name == (space().model().tied ? "embedding.token" : "head") || tensor.name == "decoder.head";
  return tensor.role != Role::gate && tensor.role != Role::shift;
}

ActivationPlan Network::plan_training(const BackendTraits& traits, const Subnet& subnet, const PassShape& pass, std::int64_t limit,
                                      const ActivationChoices& choices) const {
  return plan_activations(space().model(), traits, subnet, pass, limit, choices);
}

std::int64_t Network::unlimited_training_bytes(const BackendTraits& traits, const Subnet& subnet, const PassShape& pass,
                                               const ActivationChoices& choices) const {
  return unlimited_activation_bytes(space().model(), traits, subnet, pass, choices);
}

}  // namespace elastiform
