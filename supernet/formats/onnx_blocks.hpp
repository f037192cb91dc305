#pragma once

#include <string>

#include "supernet/formats/format.hpp"
#include "supernet/formats/onnx_graph.hpp"

namespace elastiform::onnx_folder {

/// What the graphs of both families are made of: linear maps, norms and blocks of any genes, with plain residuals. Shapes: B batch, S tokens of
/// this call, T tokens with those in a cache, C embed, K groups, G queries of a group, D head_dim.
class BlockGraph {
 public:
  /// `name`: the graph's. `model` must outlive it.
  BlockGraph(const DenseModel& model, const char* name) : g_(name), model_(model.model), subnet_(model.subnet), weights_(model.weights) {}
  virtual ~BlockGraph() = default;
  BlockGraph(const BlockGraph&) = delete;
  BlockGraph& operator=(const BlockGraph&) = delete;

 protected:
  std::string weight(const std::string& name);             // [rows, columns]
  std::string weight_transposed(const std::string& name);  // [columns, rows]
  std::string vector(const std::string& name);             // [columns]
  std::string linear(const std::string& x, const std::string& name);
  std::string norm(const std::string& x, const std::string& name);
  /// All blocks of the subnet: [B,S,C] to [B,S,C].
  std::string blocks(std::string x);

  // What a family does inside attention; by default nothing, so that every token sees all others.
  virtual std::string turned(const std::string& x) { return x; }  // queries and keys [B,heads,S,D], by their positions
  /// `values` [B,K,S,D] behind those of the tokens before. kind: ".key" or ".value".
  virtual std::string remembered(const std::string& values, const char* kind, const BlockGenes& genes);
  virtual std::string masked(const std::string& scores) { return scores; }  // [B,K,G,S,T]

  Graph g_;
  const ModelConfig& model_;
  const Subnet& subnet_;
  const Weights& weights_;

 private:
  std::string heads_of(const std::string& x, int heads);
  std::string attention(const std::string& x, const std::string& prefix, const BlockGenes& genes);
  std::string feed_forward(const std::string& x, const std::string& prefix);
  std::string gelu(const std::string& x);
};

/// A classifier: pixel_values [batch, channels, height, width], normalised, to logits [batch, classes].
Graph classifier_graph(const DenseModel& model);

}  // namespace elastiform::onnx_folder
