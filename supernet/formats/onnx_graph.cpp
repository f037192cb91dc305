#ifdef ELASTIFORM_ONNX

#include "supernet/formats/onnx_graph.hpp"

#include <fcntl.h>

#include <filesystem>
#include <stdexcept>
#include <string_view>

#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/file_descriptor.hpp"

namespace elastiform::onnx_folder {
namespace {

constexpr std::int64_t kOpset = 17, kPage = 4096;  // external data begin at whole pages, so that they can be mapped

void set_attribute(onnx::NodeProto& node, const char* name, std::int64_t value) {
  onnx::AttributeProto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::INT);
  attribute.set_i(value);
}

void set_attribute(onnx::NodeProto& node, const char* name, const std::vector<std::int64_t>& values) {
  onnx::AttributeProto& attribute = *node.add_attribute();
  attribute.set_name(name);
  attribute.set_type(onnx::AttributeProto::INTS);
  for (const std::int64_t value : values) attribute.add_ints(value);
}

void set_type(onnx::ValueInfoProto& value, const std::string& name, onnx::TensorProto::DataType type,
              const std::vector<std::string>& shape) {
  value.set_name(name);
  auto& tensor = *value.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type);
  for (const std::string& size : shape) {
    auto& dimension = *tensor.mutable_shape()->add_dim();
    if (size.find_first_not_of("0123456789") == std::string::npos) dimension.set_dim_value(std::stoll(size));
    else dimension.set_dim_param(size);
  }
}

template <class T>
std::string_view bytes_of(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

void add_external(onnx::TensorProto& tensor, const char* key, const std::string& value) {
  auto& entry = *tensor.add_external_data();
  entry.set_key(key);
  entry.set_value(value);
}

}  // namespace

Graph::Graph(const std::string& name) {
  model_.set_ir_version(8);
  model_.set_producer_name("elastiform");
  auto& opset = *model_.add_opset_import();
  opset.set_domain("");
  opset.set_version(kOpset);
  model_.mutable_graph()->set_name(name);
}

std::string Graph::fresh(const char* prefix) { return prefix + std::to_string(made_++); }

onnx::TensorProto& Graph::constant(const std::string& name, onnx::TensorProto::DataType type) {
  onnx::TensorProto& tensor = *model_.mutable_graph()->add_initializer();
  tensor.set_name(name);
  tensor.set_data_type(type);
  return tensor;
}

std::string Graph::weight(const std::string& name, std::vector<std::int64_t> shape, std::function<std::vector<float>()> values) {
  onnx::TensorProto& tensor = constant(name, onnx::TensorProto::FLOAT);
  std::int64_t bytes = sizeof(float);
  for (const std::int64_t size : shape) {
    tensor.add_dims(size);
    bytes *= size;
  }
  weights_.push_back({&tensor, std::move(values), bytes});
  return name;
}

std::string Graph::number(float value) {
  const std::string name = fresh("number_");
  constant(name, onnx::TensorProto::FLOAT).set_raw_data(std::string(bytes_of(std::vector<float>{value})));
  return name;
}

std::string Graph::index(std::int64_t value) {
  const std::string name = fresh("index_");
  constant(name, onnx::TensorProto::INT64).set_raw_data(std::string(bytes_of(std::vector<std::int64_t>{value})));
  return name;
}

std::string Graph::indices(const std::vector<std::int64_t>& values) {
  const std::string name = fresh("indices_");
  onnx::TensorProto& tensor = constant(name, onnx::TensorProto::INT64);
  tensor.add_dims(static_cast<std::int64_t>(values.size()));
  tensor.set_raw_data(std::string(bytes_of(values)));
  return name;
}

onnx::NodeProto& Graph::node(const std::string& type, const std::vector<std::string>& inputs, const std::vector<std::string>& outputs) {
  onnx::NodeProto& node = *model_.mutable_graph()->add_node();
  node.set_op_type(type);
  node.set_name(type + "_" + outputs.front());
  for (const std::string& input : inputs) node.add_input(input);
  for (const std::string& output : outputs) node.add_output(output);
  return node;
}

std::string Graph::op(const std::string& type, const std::vector<std::string>& inputs, const std::string& output) {
  const std::string name = output.empty() ? fresh("value_") : output;
  node(type, inputs, {name});
  return name;
}

std::string Graph::op(const std::string& type, const std::vector<std::string>& inputs, const char* attribute, std::int64_t value) {
  const std::string name = fresh("value_");
  set_attribute(node(type, inputs, {name}), attribute, value);
  return name;
}

std::string Graph::transpose(const std::string& x, const std::vector<std::int64_t>& order) {
  const std::string name = fresh("value_");
  set_attribute(node("Transpose", {x}, {name}), "perm", order);
  return name;
}

std::string Graph::concat(const std::string& a, const std::string& b, std::int64_t axis, const std::string& output) {
  const std::string name = output.empty() ? fresh("value_") : output;
  set_attribute(node("Concat", {a, b}, {name}), "axis", axis);
  return name;
}

std::string Graph::mean_of(const std::string& x, std::int64_t axis) {
  const std::string name = fresh("value_");
  onnx::NodeProto& mean = node("ReduceMean", {x}, {name});
  set_attribute(mean, "axes", std::vector<std::int64_t>{axis});
  set_attribute(mean, "keepdims", 1);
  return name;
}

std::string Graph::layer_norm(const std::vector<std::string>& inputs, double eps) {
  const std::string name = fresh("value_");
  onnx::NodeProto& norm = node("LayerNormalization", inputs, {name});
  set_attribute(norm, "axis", -1);
  onnx::AttributeProto& epsilon = *norm.add_attribute();
  epsilon.set_name("epsilon");
  epsilon.set_type(onnx::AttributeProto::FLOAT);
  epsilon.set_f(static_cast<float>(eps));
  return name;
}

std::pair<std::string, std::string> Graph::halves(const std::string& x, std::int64_t half) {
  const std::string first = fresh("value_"), second = fresh("value_");
  set_attribute(node("Split", {x, indices({half, half})}, {first, second}), "axis", -1);
  return {first, second};
}

void Graph::input(const std::string& name, bool is_index, const std::vector<std::string>& shape) {
  set_type(*model_.mutable_graph()->add_input(), name, is_index ? onnx::TensorProto::INT64 : onnx::TensorProto::FLOAT, shape);
}

void Graph::output(const std::string& name, const std::vector<std::string>& shape) {
  set_type(*model_.mutable_graph()->add_output(), name, onnx::TensorProto::FLOAT, shape);
}

void Graph::save_weights(const std::string& path) {
  write_durably(path, [&](const std::string& beside) {
    const FileDescriptor file(::open(beside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!file.is_open()) throw_system_error("create", path);
    std::int64_t at = 0;
    for (const Pending& pending : weights_) {
      const std::vector<float> values = pending.values();
      if (static_cast<std::int64_t>(values.size() * sizeof(float)) != pending.bytes)
        throw std::logic_error("onnx: " + pending.tensor->name() + " does not fill its shape");
      pending.tensor->set_data_location(onnx::TensorProto::EXTERNAL);
      add_external(*pending.tensor, "location", std::filesystem::path(path).filename().string());
      add_external(*pending.tensor, "offset", std::to_string(at));
      add_external(*pending.tensor, "length", std::to_string(pending.bytes));
      write_all(file.get(), bytes_of(values), path);
      const std::int64_t padding = (kPage - pending.bytes % kPage) % kPage;
      write_all(file.get(), std::string(static_cast<std::size_t>(padding), '\0'), path);
      at += pending.bytes + padding;
    }
  });
}

void Graph::save(const std::string& path, std::int64_t inline_bytes) {
  std::int64_t bytes = 0;
  for (const Pending& pending : weights_) bytes += pending.bytes;
  if (bytes > inline_bytes) save_weights(path + ".data");
  else
    for (const Pending& pending : weights_) pending.tensor->set_raw_data(std::string(bytes_of(pending.values())));
  std::string text;
  if (!model_.SerializeToString(&text)) throw std::runtime_error("export: protobuf could not write the ONNX model");
  write_durably(path, text);
}

}  // namespace elastiform::onnx_folder

#endif  // ELASTIFORM_ONNX
