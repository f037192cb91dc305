#include "kernels/cuda/graph_cache.hpp"

namespace elastiform::ELASTIFORM_GPU {

Graph GraphCache::find(const RepeatKey& key) {
  const auto found = graphs_.find(key);
  if (found == graphs_.end()) return nullptr;
  order_.splice(order_.begin(), order_, found->second);
  return found->second->graph;
}

bool GraphCache::met_before(const RepeatKey& key) {
  constexpr std::size_t kMostRemembered = 1 << 16;
  if (met_.size() > kMostRemembered) met_.clear();
  return ++met_[key] > 1;
}

void GraphCache::add(const RepeatKey& key, Graph graph) {
  if (graphs_.size() == kMost) {
    destroy(order_.back().graph);
    graphs_.erase(order_.back().key);
    order_.pop_back();
  }
  order_.push_front({key, graph});
  graphs_[key] = order_.begin();
}

void GraphCache::keep_only(std::int64_t generation) {
  if (generation == generation_) return;
  clear();
  generation_ = generation;
}

void GraphCache::clear() {
  for (const Entry& entry : order_) destroy(entry.graph);
  order_.clear();
  graphs_.clear();
}

}  // namespace elastiform::ELASTIFORM_GPU
