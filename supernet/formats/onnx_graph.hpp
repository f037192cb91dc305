#pragma once

// Only in builds that have ONNX's protobuf classes.
#include <onnx/onnx_pb.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace elastiform::onnx_folder {

/// Builds a graph of the default operators of opset 17. Values are named by strings; every function returns the name of what it made.
class Graph {
 public:
  explicit Graph(const std::string& name);

  /// A weight, whose values are asked for only when the file is written.
  std::string weight(const std::string& name, std::vector<std::int64_t> shape, std::function<std::vector<float>()> values);
  std::string number(float value);                               // a scalar
  std::string index(std::int64_t value);                         // a scalar
  std::string indices(const std::vector<std::int64_t>& values);  // a vector

  std::string op(const std::string& type, const std::vector<std::string>& inputs, const std::string& output = "");
  std::string op(const std::string& type, const std::vector<std::string>& inputs, const char* attribute, std::int64_t value);
  std::string transpose(const std::string& x, const std::vector<std::int64_t>& order);
  std::string concat(const std::string& a, const std::string& b, std::int64_t axis, const std::string& output = "");
  std::string mean_of(const std::string& x, std::int64_t axis);  // which stays, of one element
  std::string layer_norm(const std::vector<std::string>& inputs, double eps);
  std::pair<std::string, std::string> halves(const std::string& x, std::int64_t half);  // of the last axis

  /// A dimension is a number or, where the text is no number, a name.
  void input(const std::string& name, bool is_index, const std::vector<std::string>& shape);
  void output(const std::string& name, const std::vector<std::string>& shape);

  /// Writes the model to `path`; with more than `inline_bytes` of weights, these to `path`.data.
  void save(const std::string& path, std::int64_t inline_bytes);

 private:
  struct Pending {
    onnx::TensorProto* tensor;
    std::function<std::vector<float>()> values;
    std::int64_t bytes;
  };
  onnx::NodeProto& node(const std::string& type, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs);
  onnx::TensorProto& constant(const std::string& name, onnx::TensorProto::DataType type);
  std::string fresh(const char* prefix);
  void save_weights(const std::string& path);

  onnx::ModelProto model_;
  std::vector<Pending> weights_;
  int made_ = 0;
};

}  // namespace elastiform::onnx_folder
