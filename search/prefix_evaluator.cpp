#include "search/prefix_evaluator.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "kernels/cpu/cpu_backend.hpp"
#include "kernels/device.hpp"
#include "search/prefix_tree.hpp"
#include "supernet/layers/head.hpp"
#include "supernet/work_sizes.hpp"

namespace elastiform {
namespace {

constexpr std::int64_t kBlockBytes = 1024;  // the unit of data that intervals are over; tokens, where they are no bytes
constexpr std::string_view kBytesPerToken = ",bytes_per_token=";
constexpr std::int64_t kBatchRows = 2048;  // tokens a worker takes at a time: GEMMs run at full speed, activations stay in L3

/// Blocks of a segment; a last one of less than half a block joins the one before, since paired means weigh blocks alike.
std::int64_t blocks_of(const Segment& segment) {
  return std::max<std::int64_t>(1, (segment.end - segment.begin + kBlockBytes / 2) / kBlockBytes);
}

/// Where the target of a row counts: a data block, or none.
struct ScoringBatch {
  std::int64_t first_window = 0, windows = 0;
  std::vector<std::int32_t> block_of_row;  // -1: not counted
};

/// Sums of one subnet over one batch and one data block.
struct Partial {
  std::int32_t block = 0;
  std::int32_t count = 0, correct = 0;
  double loss = 0;
};

}  // namespace

std::string ScoringSet::text() const {
  std::string text = "stride=" + std::to_string(stride) + ",segments=" + (segments == 0 ? std::string("all") : std::to_string(segments));
  if (bytes_per_token != 1) text += fmt::format("{}{}", kBytesPerToken, bytes_per_token);  // as many digits as it takes to read it back
  return text;
}

double bytes_per_token_of(std::string_view blocks) {
  const auto at = blocks.find(kBytesPerToken);
  if (at == std::string_view::npos) return 1;
  double value = 1;
  std::from_chars(blocks.data() + at + kBytesPerToken.size(), blocks.data() + blocks.size(), value);
  return value > 0 ? value : 1;
}

struct PrefixEvaluator::State {
  const Network& network;
  const Weights& weights;
  const DataSource& data;
  const ThreadPool one{1};
  const ThreadPool& pool;  // of workers
  Compute compute;
  std::int64_t tokens;
  std::vector<Window> windows;
  std::vector<ScoringBatch> batches;
  std::int64_t blocks = 0;
  Work work;
  std::function<bool()> stop;
  Communicator* ranks = &alone();

  State(const Network& network_, const Weights& weights_, const DataSource& data_, const ScoringSet& set, const ThreadPool& pool_,
        Compute compute_)
      : network(network_), weights(weights_), data(data_), pool(compute_.device == Device::cpu ? pool_ : one), compute(compute_),
        tokens(network_.space().model().context), windows(data_.scoring_windows(set.split, tokens, set.stride, set.segments)) {
    const auto& segments = data.segments(set.split);
    std::vector<std::int64_t> first_block(segments.size() + 1, 0);
    for (std::size_t s = 0; s < segments.size(); ++s) first_block[s + 1] = first_block[s] + blocks_of(segments[s]);
    std::vector<std::int32_t> dense(static_cast<std::size_t>(first_block.back()), -1);  // blocks in which a target counts, numbered
    const std::int64_t per_batch = std::max<std::int64_t>(1, kBatchRows / tokens), total = static_cast<std::int64_t>(windows.size());
    for (std::int64_t first = 0; first < total; first += per_batch) {
      ScoringBatch batch{.first_window = first, .windows = std::min(per_batch, total - first), .block_of_row = {}};
      batch.block_of_row.assign(static_cast<std::size_t>(targets_of(batch.windows)), -1);
      for (std::int64_t i = 0; i < batch.windows; ++i) {
        const Window& window = windows[static_cast<std::size_t>(first + i)];
        const std::size_t segment = static_cast<std::size_t>(window.segment);
        for (std::int64_t t = window.skip; t < window.length; ++t) {
          const std::int64_t target = window.begin + t + 1 - segments[segment].begin;
          const std::int64_t block = std::min(target / kBlockBytes, blocks_of(segments[segment]) - 1);
          std::int32_t& number = dense[static_cast<std::size_t>(first_block[segment] + block)];
          if (number < 0) number = static_cast<std::int32_t>(blocks++);
          batch.block_of_row[static_cast<std::size_t>(targets_of(i) + t)] = number;
        }
      }
      batches.push_back(std::move(batch));
    }
  }

  std::int64_t targets_of(std::int64_t sequences) const { return network.space().model().head_rows(sequences, tokens); }
  std::int64_t sequences_of_batch() const { return std::max<std::int64_t>(1, kBatchRows / tokens); }
  std::int64_t stream_tokens() const { return network.space().model().stream_tokens(tokens); }
  std::int64_t batch_rows() const { return sequences_of_batch() * stream_tokens(); }
  std::int64_t arena_bytes(std::span<const Subnet> subnets) const {
    const BackendTraits traits = traits_of(compute, 1);
    const std::int64_t rows = batch_rows(), sequences = sequences_of_batch();
    std::int64_t most = 0;
    for (const Subnet& subnet : subnets) {
      std::int64_t scratch =
          std::max(network.plan_embed(traits, subnet.embed, sequences), network.plan_score(traits, subnet.embed, sequences, tokens));
      for (const BlockGenes& genes : subnet.blocks)
        scratch = std::max(scratch, network.plan_block(traits, subnet.embed, genes, sequences, stream_tokens()));
      most = std::max(most, (subnet.depth() + 1) * Arena::bytes_for(rows, subnet.embed, DType::float32) + scratch);
    }
    return most + 2 * Arena::bytes_for(1, targets_of(sequences), DType::float32);
  }
};

namespace {

/// One worker's walk over the tree with one batch of data.
class Walk {
 public:
  Walk(const Network& network, const Weights& weights, Backend& backend, Arena& arena, const Batch& batch, const ScoringBatch& scoring)
      : network_(network), weights_(weights), backend_(backend), arena_(arena), batch_(batch), scoring_(scoring),
        losses_(arena.matrix(1, batch.targets_count(), DType::float32)), correct_(arena.matrix(1, batch.targets_count(), DType::float32)),
        host_losses_(batch.targets.size()), host_correct_(host_losses_.size()) {}

  /// results[i] receives the partial sums of tree leaf i.
  void run(const PrefixTree& tree, std::vector<std::vector<Partial>>& results) {
    for (const PrefixTree::Node& root : tree.roots) {
      const ArenaScope scope(arena_);
      const View x = arena_.matrix(rows(), root.embed, DType::float32);
      network_.embed(backend_, weights_, root.embed, batch_, x, arena_);
      visit(root, x, results);
    }
  }

 private:
  std::int64_t stream_tokens() const { return network_.space().model().stream_tokens(batch_.tokens); }
  std::int64_t rows() const { return batch_.sequences * stream_tokens(); }

  // Depth first: at most one activation a level is alive; breadth first would hold one a subnet.
  void visit(const PrefixTree::Node& node, ConstView x, std::vector<std::vector<Partial>>& results) {
    if (node.leaf >= 0) results[static_cast<std::size_t>(node.leaf)] = score(node.embed, x);
    for (const PrefixTree::Node& child : node.children) {
      const ArenaScope scope(arena_);
      const View y = arena_.matrix(rows(), node.embed, DType::float32);
      network_.forward_block(backend_, weights_, node.embed, child.genes, child.block, child.depth, stream_tokens(), x, y, arena_);
      visit(child, y, results);
    }
  }

  std::vector<Partial> score(int embed, ConstView x) {
    network_.score(backend_, weights_, embed, x, batch_, losses_, correct_, arena_);
    backend_.copy(view_of(host_losses_.data(), 1, losses_.columns, losses_.columns), losses_);
    backend_.copy(view_of(host_correct_.data(), 1, correct_.columns, correct_.columns), correct_);
    std::vector<Partial> partials;
    const float* losses = host_losses_.data();
    const float* correct = host_correct_.data();
    for (std::size_t row = 0; row < scoring_.block_of_row.size(); ++row) {
      const std::int32_t block = scoring_.block_of_row[row];
      if (block < 0) continue;
      if (partials.empty() || partials.back().block != block) partials.push_back({.block = block});
      Partial& partial = partials.back();
      partial.loss += static_cast<double>(losses[row]);
      partial.correct += correct[row] > 0.5f ? 1 : 0;
      ++partial.count;
    }
    return partials;
  }

  const Network& network_;
  const Weights& weights_;
  Backend& backend_;
  Arena& arena_;
  const Batch& batch_;
  const ScoringBatch& scoring_;
  View losses_, correct_;
  std::vector<float> host_losses_, host_correct_;
};

using BatchResult = std::vector<std::vector<Partial>>;  // by leaf

/// Batches rank, rank + size, … as bytes, and back.
std::string bytes_of(const std::vector<BatchResult>& results, std::size_t rank, std::size_t size) {
  std::string bytes;
  const auto append = [&](const void* data, std::size_t count) { bytes.append(static_cast<const char*>(data), count); };
  for (std::size_t i = rank; i < results.size(); i += size)
    for (const std::vector<Partial>& leaf : results[i]) {
      const std::uint64_t count = leaf.size();
      append(&count, sizeof count);
      append(leaf.data(), count * sizeof(Partial));
    }
  return bytes;
}

void read_bytes(const std::string& bytes, std::size_t leaves, std::vector<BatchResult>& results, std::size_t rank, std::size_t size) {
  std::size_t place = 0;
  const auto take = [&](void* data, std::size_t count) {
    if (count > bytes.size() - place) throw std::logic_error("partial sums of another rank end early");
    std::memcpy(data, bytes.data() + place, count);
    place += count;
  };
  for (std::size_t i = rank; i < results.size(); i += size) {
    results[i].resize(leaves);
    for (std::vector<Partial>& leaf : results[i]) {
      std::uint64_t count = 0;
      take(&count, sizeof count);
      leaf.resize(count);
      if (count > 0) take(leaf.data(), count * sizeof(Partial));
    }
  }
}

/// Adds the batches up in their order, so the sums do not depend on who ran which.
Score reduce(const std::vector<BatchResult>& results, std::size_t leaf, std::int64_t blocks, bool keeps_hits) {
  std::vector<double> sums(static_cast<std::size_t>(blocks), 0), counts(sums), hits(keeps_hits ? sums : std::vector<double>());
  double correct = 0;
  for (const auto& batch : results)
    for (const Partial& partial : batch[leaf]) {
      sums[static_cast<std::size_t>(partial.block)] += partial.loss;
      counts[static_cast<std::size_t>(partial.block)] += partial.count;
      correct += partial.correct;
      if (keeps_hits) hits[static_cast<std::size_t>(partial.block)] += partial.correct;
    }
  Score score;
  const double total = std::accumulate(sums.begin(), sums.end(), 0.0), count = std::accumulate(counts.begin(), counts.end(), 0.0);
  score.loss = total / count;
  score.accuracy = correct / count;
  for (std::size_t b = 0; b < hits.size(); ++b) score.block_hits.push_back(static_cast<float>(hits[b] / counts[b]));
  double squares = 0;  // ratio estimator: blocks at the edges hold fewer tokens
  for (std::size_t b = 0; b < sums.size(); ++b) {
    score.block_losses.push_back(static_cast<float>(sums[b] / counts[b]));
    const double deviation = sums[b] - counts[b] * score.loss;
    squares += deviation * deviation;
  }
  const double n = static_cast<double>(blocks);
  score.loss_se = blocks > 1 ? std::sqrt(squares * n / (n - 1)) / count : 0;
  return score;
}

}  // namespace

PrefixEvaluator::PrefixEvaluator(const Network& network, const Weights& weights, const DataSource& data, ScoringSet set,
                                 const ThreadPool& pool, Compute compute)
    : state_(std::make_unique<State>(network, weights, data, set, pool, compute)) {}
PrefixEvaluator::~PrefixEvaluator() = default;
void PrefixEvaluator::share_batches(Communicator& ranks) { state_->ranks = &ranks; }
void PrefixEvaluator::stop_when(std::function<bool()> stop) { state_->stop = std::move(stop); }
PrefixEvaluator::Work PrefixEvaluator::last_work() const { return state_->work; }
std::int64_t PrefixEvaluator::plan_bytes(std::span<const Subnet> subnets) const {
  const SearchSpace& space = state_->network.space();
  if (state_->compute.device != Device::cpu) {  // whose backend has a copy of the weights
    const BackendTraits traits = traits_of(state_->compute, 1);
    const WorkSizes sizes = work_sizes(WeightTable(space), traits, state_->batch_rows(), false);
    return state_->arena_bytes(subnets) + sizes.weight_bytes + kept_bytes_at_most(traits, sizes);
  }
  // In float32 forward packs the head's table alone, the one weight that is multiplied turned; in bf16 all, some at a time.
  const bool table_packed = !Head::shares_vocabulary(space.model());
  std::int64_t packed =
      table_packed ? CpuBackend::packed_table_bytes(state_->compute.precision, space.model().vocabulary, space.largest().embed) : 0;
  if (state_->compute.precision == Precision::bf16) {
    const WeightTable table(space);
    for (const TensorSpec& tensor : table.tensors())
      if (table_packed || tensor.role != Role::embedding)
        packed = std::max(packed, CpuBackend::packed_weight_bytes(state_->compute.precision, tensor.rows, tensor.columns));
  }
  return state_->pool.size() * (state_->arena_bytes(subnets) + packed);
}

std::vector<Score> PrefixEvaluator::evaluate(std::span<const Subnet> subnets) {
  const auto start = std::chrono::steady_clock::now();
  State& s = *state_;
  const PrefixTree tree = PrefixTree::of(subnets, s.network.depends_on_depth());
  s.work = {.blocks_run = tree.nodes * static_cast<std::int64_t>(s.batches.size()), .blocks_one_by_one = 0};
  for (const Subnet& subnet : subnets) s.work.blocks_one_by_one += subnet.depth() * static_cast<std::int64_t>(s.batches.size());

  // Each worker has an arena and a serial backend of its own; workers take batches of data, so nothing is shared but the weights.
  struct Worker {
    ThreadPool serial{1};
    std::unique_ptr<Backend> backend;
    Arena arena;
    Worker(const Compute& compute, std::int64_t bytes) : backend(make_backend(compute, serial)), arena(bytes, backend->memory()) {}
  };
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < s.pool.size(); ++i) workers.push_back(std::make_unique<Worker>(s.compute, s.arena_bytes(subnets)));
  MemorySpace& memory = workers.front()->backend->memory();
  std::optional<Network> moved;
  if (&s.network.memory() != &memory) moved.emplace(s.network.space(), s.network.dtype(), memory);
  const Network& network = moved ? *moved : s.network;
  const PlacedWeights weights(s.weights, memory);
  const std::int64_t rank = s.ranks->rank(), ranks = s.ranks->size(), batches = static_cast<std::int64_t>(s.batches.size());
  std::vector<BatchResult> results(s.batches.size());
  s.pool.for_each((batches - rank + ranks - 1) / ranks, [&](std::int64_t k) {
    if (s.stop && s.stop()) throw Interrupted();
    const std::int64_t i = rank + k * ranks;
    const ScoringBatch& scoring = s.batches[static_cast<std::size_t>(i)];
    Worker& worker = *workers[static_cast<std::size_t>(s.pool.slot())];
    const ArenaScope scope(worker.arena);
    const Batch batch = s.data.scoring_batch(s.windows, scoring.first_window, scoring.windows, s.tokens);
    auto& mine = results[static_cast<std::size_t>(i)];
    mine.resize(static_cast<std::size_t>(tree.leaves));
    Walk(network, *weights, *worker.backend, worker.arena, batch, scoring).run(tree, mine);
  });

  if (ranks > 1) {
    const auto parts = gather(*s.ranks, bytes_of(results, static_cast<std::size_t>(rank), static_cast<std::size_t>(ranks)));
    for (std::size_t other = 1; other < parts.size(); ++other)
      read_bytes(parts[other], static_cast<std::size_t>(tree.leaves), results, other, parts.size());
    if (!s.ranks->leads()) return {};
  }
  std::vector<Score> scores;
  for (std::size_t i = 0; i < subnets.size(); ++i)
    scores.push_back(reduce(results, static_cast<std::size_t>(tree.leaf_of[i]), s.blocks, s.network.space().model().classifies()));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (Score& score : scores) score.seconds = seconds / static_cast<double>(subnets.size());
  return scores;
}

}  // namespace elastiform
