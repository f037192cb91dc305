#pragma once

#include <cstdint>
#include <list>
#include <map>

#include "kernels/backend.hpp"
#include "kernels/cuda/runtime.hpp"

namespace elastiform::ELASTIFORM_GPU {

/// Recorded work by key, at most kMost pieces; the one that was not asked for longest goes first.
class GraphCache {
 public:
  GraphCache() = default;
  ~GraphCache() { clear(); }
  GraphCache(const GraphCache&) = delete;
  GraphCache& operator=(const GraphCache&) = delete;

  Graph find(const RepeatKey& key);             // nullptr: not recorded
  bool met_before(const RepeatKey& key);        // and remembers it
  void add(const RepeatKey& key, Graph graph);  // takes it over
  /// Forgets all that was recorded in another generation: with memory that stands elsewhere by now.
  void keep_only(std::int64_t generation);
  std::int64_t generation() const { return generation_; }
  std::int64_t size() const { return static_cast<std::int64_t>(graphs_.size()); }

 private:
  static constexpr std::size_t kMost = 1024;
  struct Entry {
    RepeatKey key{};
    Graph graph = nullptr;
  };

  void clear();

  std::list<Entry> order_;  // the last used first
  std::map<RepeatKey, std::list<Entry>::iterator> graphs_;
  std::map<RepeatKey, std::int64_t> met_;
  std::int64_t generation_ = 0;
};

}  // namespace elastiform::ELASTIFORM_GPU
