#ifdef ELASTIFORM_ONNX

#include "supernet/formats/onnx_blocks.hpp"

#include <cmath>
#include <numbers>

#include "supernet/formats/weight_rows.hpp"

namespace elastiform::onnx_folder {

std::string BlockGraph::weight(const std::string& name) {
  const ConstView x = weights_.view(name);
  return g_.weight(name, {x.rows, x.columns}, [x] { return row_major(x); });
}

std::string BlockGraph::weight_transposed(const std::string& name) {
  const ConstView x = weights_.view(name);
  return g_.weight(name, {x.columns, x.rows}, [x] { return transposed(x); });
}

std::string BlockGraph::vector(const std::string& name) {
  const ConstView x = weights_.view(name);
  return g_.weight(name, {x.columns}, [x] { return row_major(x); });
}

std::string BlockGraph::linear(const std::string& x, const std::string& name) {
  const std::string y = g_.op("MatMul", {x, weight(name)});
  return weights_.table().has(name + ".bias") ? g_.op("Add", {y, vector(name + ".bias")}) : y;
}

std::string BlockGraph::norm(const std::string& x, const std::string& name) {
  const std::string gain = vector(name + ".gain");
  if (model_.norm == Norm::layer) {
    std::vector<std::string> inputs{x, gain};
    if (weights_.table().has(name + ".bias")) inputs.push_back(vector(name + ".bias"));
    return g_.layer_norm(inputs, model_.norm_eps);
  }
  const std::string square = g_.mean_of(g_.op("Pow", {x, g_.number(2)}), -1);
  const std::string root = g_.op("Sqrt", {g_.op("Add", {square, g_.number(static_cast<float>(model_.norm_eps))})});
  return g_.op("Mul", {g_.op("Div", {x, root}), gain});
}

std::string BlockGraph::blocks(std::string x) {
  for (int block = 0; block < subnet_.depth(); ++block) {
    const BlockGenes& genes = subnet_.blocks[static_cast<std::size_t>(block)];
    const std::string prefix = "block." + std::to_string(block) + ".";
    if (genes.heads > 0) x = attention(x, prefix + "attention.", genes);
    if (genes.ffn > 0) x = feed_forward(x, prefix + "ffn.");
  }
  return x;
}

std::string BlockGraph::remembered(const std::string& values, const char*, const BlockGenes&) { return values; }

/// [B,S,heads·D] to [B,heads,S,D].
std::string BlockGraph::heads_of(const std::string& x, int heads) {
  return g_.transpose(g_.op("Reshape", {x, g_.indices({0, -1, heads, model_.head_dim})}), {0, 2, 1, 3});
}

std::string BlockGraph::attention(const std::string& x, const std::string& prefix, const BlockGenes& genes) {
  const std::int64_t k = genes.groups, g = genes.heads / genes.groups, d = model_.head_dim;
  const std::string h = norm(x, prefix + "norm");
  const std::string query = turned(heads_of(linear(h, prefix + "query"), genes.heads));
  const std::string key = remembered(turned(heads_of(linear(h, prefix + "key"), genes.groups)), ".key", genes);
  const std::string value = remembered(heads_of(linear(h, prefix + "value"), genes.groups), ".value", genes);
  // Queries of a group side by side, so that keys and values are not copied for each: [B,K,G,S,D] × [B,K,1,D,T].
  const std::string queries = g_.op("Reshape", {query, g_.indices({0, k, g, -1, d})}), group_axis = g_.indices({2});
  const std::string keys = g_.op("Unsqueeze", {g_.transpose(key, {0, 1, 3, 2}), group_axis});
  const std::string scale = g_.number(static_cast<float>(1 / std::sqrt(static_cast<double>(d))));
  const std::string scores = masked(g_.op("Mul", {g_.op("MatMul", {queries, keys}), scale}));
  const std::string mixed = g_.op("MatMul", {g_.op("Softmax", {scores}, "axis", -1), g_.op("Unsqueeze", {value, group_axis})});
  const std::string joined = g_.op("Reshape", {g_.transpose(mixed, {0, 3, 1, 2, 4}), g_.indices({0, 0, k * g * d})});
  return g_.op("Add", {x, linear(joined, prefix + "out")});
}

std::string BlockGraph::feed_forward(const std::string& x, const std::string& prefix) {
  const std::string h = norm(x, prefix + "norm");
  std::string active;
  if (model_.ffn == FeedForwardKind::swiglu) {
    const std::string gate = linear(h, prefix + "gate");
    active = g_.op("Mul", {g_.op("Mul", {gate, g_.op("Sigmoid", {gate})}), linear(h, prefix + "up")});
  } else {
    active = gelu(linear(h, prefix + "up"));
  }
  return g_.op("Add", {x, linear(active, prefix + "down")});
}

/// x/2 · (1 + erf(x/√2)), or with tanh(√(2/π)(x + 0.044715 x³)) for the error function. arXiv 1606.08415
std::string BlockGraph::gelu(const std::string& x) {
  std::string inner;
  if (model_.ffn == FeedForwardKind::gelu_erf) {
    inner = g_.op("Erf", {g_.op("Div", {x, g_.number(static_cast<float>(std::numbers::sqrt2))})});
  } else {
    const std::string cube = g_.op("Mul", {g_.op("Pow", {x, g_.number(3)}), g_.number(0.044715f)});
    const std::string scale = g_.number(static_cast<float>(std::sqrt(2 / std::numbers::pi)));
    inner = g_.op("Tanh", {g_.op("Mul", {g_.op("Add", {x, cube}), scale})});
  }
  return g_.op("Mul", {g_.op("Mul", {x, g_.number(0.5f)}), g_.op("Add", {inner, g_.number(1)})});
}

}  // namespace elastiform::onnx_folder

#endif  // ELASTIFORM_ONNX
