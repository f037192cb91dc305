#ifdef ELASTIFORM_ONNX

#include <onnx/onnx_pb.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <stdexcept>

#include "supernet/data/image_data.hpp"
#include "supernet/formats/onnx.hpp"
#include "supernet/formats/onnx_tensor.hpp"
#include "supernet/formats/untrusted_file.hpp"
#include "supernet/rotary.hpp"

namespace elastiform::onnx_folder {
namespace {

using Values = std::map<std::string, Tensor>;

constexpr std::size_t kSteps = 3;  // tokens that are run one by one, through the cache

[[noreturn]] void fail(const std::string& what) { throw std::runtime_error("export: the ONNX graph cannot be run: " + what); }

/// The attributes of one node.
class Attributes {
 public:
  explicit Attributes(const onnx::NodeProto& node) : node_(node) {}
  std::int64_t integer(const char* name, std::int64_t otherwise) const {
    const auto* attribute = find(name);
    return attribute == nullptr ? otherwise : attribute->i();
  }
  float real(const char* name) const {
    const auto* attribute = find(name);
    if (attribute == nullptr) fail(node_.op_type() + " without " + name);
    return attribute->f();
  }
  std::vector<std::int64_t> integers(const char* name) const {
    const auto* attribute = find(name);
    if (attribute == nullptr) fail(node_.op_type() + " without " + name);
    return {attribute->ints().begin(), attribute->ints().end()};
  }

 private:
  const onnx::AttributeProto* find(const char* name) const {
    for (const auto& attribute : node_.attribute())
      if (attribute.name() == name) return &attribute;
    return nullptr;
  }
  const onnx::NodeProto& node_;
};

template <class T>
std::vector<T> values_of(const std::string& bytes) {
  std::vector<T> values(bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
  return values;
}

std::uint64_t whole_number(const std::string& text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) fail("external data at a place that is no number");
  return number;
}

/// Bytes of a tensor that stand in another file of the folder.
std::string external_bytes(const onnx::TensorProto& tensor, const std::string& folder) {
  std::string location, offset = "0", length;
  for (const auto& entry : tensor.external_data()) {
    if (entry.key() == "location") location = entry.value();
    if (entry.key() == "offset") offset = entry.value();
    if (entry.key() == "length") length = entry.value();
  }
  if (location.empty() || location.find('/') != std::string::npos || location == "..") fail("external data outside the folder");
  const UntrustedFile file(folder + "/" + location, "ONNX's external data");
  const std::uint64_t at = whole_number(offset), bytes = whole_number(length);
  if (at > file.size() || bytes > file.size() - at) fail("external data beyond the end of " + location);
  std::string text(static_cast<std::size_t>(bytes), '\0');
  file.read(at, text.data(), bytes);
  return text;
}

/// The tensor's numbers, which it then no longer has beside them.
Tensor taken(onnx::TensorProto& tensor, const std::string& folder) {
  const bool external = tensor.data_location() == onnx::TensorProto::EXTERNAL;
  const std::string bytes = external ? external_bytes(tensor, folder) : std::move(*tensor.mutable_raw_data());
  tensor.clear_raw_data();
  std::vector<std::int64_t> shape(tensor.dims().begin(), tensor.dims().end());
  if (tensor.data_type() == onnx::TensorProto::FLOAT) return Tensor::of(std::move(shape), values_of<float>(bytes));
  if (tensor.data_type() == onnx::TensorProto::INT64) return Tensor::of(std::move(shape), values_of<std::int64_t>(bytes));
  fail("a tensor of another type");
}

std::int64_t only(const std::vector<std::int64_t>& axes) {
  if (axes.size() != 1) fail("a ReduceMean over several axes");
  return axes.front();
}

Tensor shape_of(const Tensor& x) { return Tensor::of({static_cast<std::int64_t>(x.shape.size())}, x.shape); }

Tensor range(const Tensor& from, const Tensor& to, const Tensor& step) {
  constexpr std::int64_t kMost = 1 << 24;  // tokens of a context
  if (from.integers.size() != 1 || to.integers.size() != 1 || step.integers.size() != 1 || step.integers[0] < 1)
    fail("a Range without limits");
  const std::int64_t first = from.integers[0], last = to.integers[0];
  if (first < 0 || last > kMost) fail("a Range without limits");
  std::vector<std::int64_t> values;
  for (std::int64_t i = first; i < last; i += step.integers[0]) {
    values.push_back(i);
    if (step.integers[0] > last - i) break;  // the next might be no number of 64 bits
  }
  const auto size = static_cast<std::int64_t>(values.size());
  return Tensor::of({size}, std::move(values));
}

Tensor cast_to_boolean(const Tensor& x, std::int64_t type) {
  if (type != onnx::TensorProto::BOOL || x.is_float) fail("a Cast to another type");
  Tensor result = x;
  for (std::int64_t& value : result.integers) value = value != 0 ? 1 : 0;
  return result;
}

Tensor arithmetic(const std::string& type, const Tensor& a, const Tensor& b) {
  if (!a.is_float) {
    if (type == "Sub")
      return combined_integers(a, b, [](std::int64_t x, std::int64_t y) {
        std::int64_t difference = 0;
        if (__builtin_sub_overflow(x, y, &difference)) fail("a difference of more than 64 bits");
        return difference;
      });
    if (type == "And") return combined_integers(a, b, [](std::int64_t x, std::int64_t y) { return x & y; });
    if (type == "LessOrEqual") return combined_integers(a, b, [](std::int64_t x, std::int64_t y) { return std::int64_t{x <= y}; });
    fail(type + " of whole numbers");
  }
  if (type == "Add") return combined(a, b, [](float x, float y) { return x + y; });
  if (type == "Sub") return combined(a, b, [](float x, float y) { return x - y; });
  if (type == "Mul") return combined(a, b, [](float x, float y) { return x * y; });
  if (type == "Div") return combined(a, b, [](float x, float y) { return x / y; });
  if (type == "Pow") return combined(a, b, [](float x, float y) { return std::pow(x, y); });
  fail("operator " + type);
}

/// The results of one node.
std::vector<Tensor> evaluated(const onnx::NodeProto& node, const std::vector<const Tensor*>& in) {
  const std::string& type = node.op_type();
  const Attributes attributes(node);
  const auto x = [&](std::size_t i) -> const Tensor& {
    if (i >= in.size()) fail(type + " with too few inputs");
    return *in[i];
  };
  if (type == "MatMul") return {product(x(0), x(1))};
  if (type == "Gather") return {gathered(x(0), x(1), attributes.integer("axis", 0))};
  if (type == "Expand") return {expanded(x(0), x(1).integers)};
  if (type == "Reshape") return {reshaped(x(0), x(1).integers)};
  if (type == "Transpose") return {transposed(x(0), attributes.integers("perm"))};
  if (type == "Concat") return {joined(x(0), x(1), attributes.integer("axis", 0))};
  if (type == "Split") return split(x(0), x(1).integers, attributes.integer("axis", 0));
  if (type == "Unsqueeze") return {unsqueezed(x(0), x(1).integers)};
  if (type == "Softmax") return {softmax_of_last(x(0))};
  if (type == "ReduceMean") return {mean_of(x(0), only(attributes.integers("axes")))};
  if (type == "LayerNormalization") return {layer_norm(x(0), x(1), in.size() > 2 ? in[2] : nullptr, attributes.real("epsilon"))};
  if (type == "Shape") return {shape_of(x(0))};
  if (type == "Range") return {range(x(0), x(1), x(2))};
  if (type == "Cast") return {cast_to_boolean(x(0), attributes.integer("to", 0))};
  if (type == "Where") return {chosen(x(0), x(1), x(2))};
  if (type == "Sigmoid") return {mapped(x(0), [](float v) { return 1 / (1 + std::exp(-v)); })};
  if (type == "Sqrt") return {mapped(x(0), [](float v) { return std::sqrt(v); })};
  if (type == "Tanh") return {mapped(x(0), [](float v) { return std::tanh(v); })};
  if (type == "Erf") return {mapped(x(0), [](float v) { return std::erf(v); })};
  return {arithmetic(type, x(0), x(1))};
}

class Model {
 public:
  explicit Model(const std::string& folder) {
    std::ifstream file(folder + "/model.onnx", std::ios::binary);
    if (!model_.ParseFromIstream(&file)) fail("model.onnx is none");
    if (model_.opset_import_size() != 1 || model_.opset_import(0).version() != 17) fail("another opset");
    for (auto& tensor : *model_.mutable_graph()->mutable_initializer()) constants_.emplace(tensor.name(), taken(tensor, folder));
    check_names();
    for (const auto& node : model_.graph().node()) {
      const auto& inputs = node.input();
      if (!inputs.empty() && std::all_of(inputs.begin(), inputs.end(), [&](const auto& name) { return constants_.count(name) != 0; }))
        evaluate(node, constants_);
    }
  }

  /// Runs the graph and returns its outputs.
  Values run(Values inputs) const {
    Values values = std::move(inputs);
    for (const auto& node : model_.graph().node())
      if (node.output().empty() || constants_.count(node.output(0)) == 0) evaluate(node, values);
    Values outputs;
    for (const auto& output : model_.graph().output()) outputs.emplace(output.name(), *find(output.name(), values));
    return outputs;
  }

  const Tensor& constant(const std::string& name) const {
    const auto found = constants_.find(name);
    if (found == constants_.end()) fail("no constant is called " + name);
    return found->second;
  }

  /// Caches without a token.
  Values empty_cache() const {
    Values cache;
    for (const auto& input : model_.graph().input()) {
      if (input.name().rfind("past_key_values.", 0) != 0) continue;
      const auto& shape = input.type().tensor_type().shape();
      if (shape.dim_size() != 4) fail("a cache of another rank");
      cache.emplace(input.name(), Tensor::of({1, shape.dim(1).dim_value(), 0, shape.dim(3).dim_value()}, std::vector<float>{}));
    }
    return cache;
  }

 private:
  /// Every value has a name of its own, so what is computed once is what would be computed each time.
  void check_names() const {
    std::set<std::string_view> names;
    const auto add = [&](const std::string& name) {
      if (!names.insert(name).second) fail("two values are called " + name);
    };
    for (const auto& tensor : model_.graph().initializer()) add(tensor.name());
    for (const auto& input : model_.graph().input()) add(input.name());
    for (const auto& node : model_.graph().node())
      for (const std::string& name : node.output()) add(name);
  }

  const Tensor* find(const std::string& name, const Values& values) const {
    if (const auto found = values.find(name); found != values.end()) return &found->second;
    if (const auto found = constants_.find(name); found != constants_.end()) return &found->second;
    fail("nothing is called " + name);
  }

  /// Puts the results of a node among `values`.
  void evaluate(const onnx::NodeProto& node, Values& values) const {
    std::vector<const Tensor*> in;
    for (const std::string& name : node.input()) in.push_back(find(name, values));
    std::vector<Tensor> out = evaluated(node, in);
    if (static_cast<int>(out.size()) != node.output_size()) fail("a node with other outputs");
    for (int i = 0; i < node.output_size(); ++i) values.insert_or_assign(node.output(i), std::move(out[static_cast<std::size_t>(i)]));
  }

  onnx::ModelProto model_;
  Values constants_;  // initializers, and what nodes make of them alone: a head's transpose is as large as the embedding
};

/// All but the last tokens at once, those one by one through the cache.
std::vector<float> run_decoder(const Model& model, std::span<const std::int32_t> tokens) {
  Values cache = model.empty_cache();
  std::vector<float> logits;
  const std::size_t together = tokens.size() > kSteps ? tokens.size() - kSteps : 1;
  for (std::size_t begin = 0; begin < tokens.size();) {
    const std::size_t end = begin == 0 ? together : begin + 1;
    std::vector<std::int64_t> ids(tokens.begin() + static_cast<std::ptrdiff_t>(begin), tokens.begin() + static_cast<std::ptrdiff_t>(end)),
        positions;
    for (std::size_t i = begin; i < end; ++i) positions.push_back(static_cast<std::int64_t>(i));
    const auto count = static_cast<std::int64_t>(ids.size()), total = static_cast<std::int64_t>(end);
    Values inputs = std::move(cache);
    inputs.emplace("input_ids", Tensor::of({1, count}, std::move(ids)));
    inputs.emplace("position_ids", Tensor::of({1, count}, std::move(positions)));
    inputs.emplace("attention_mask", Tensor::of({1, total}, std::vector<std::int64_t>(end, 1)));
    cache.clear();
    for (auto& [name, value] : model.run(std::move(inputs))) {
      if (name == "logits") logits.insert(logits.end(), value.floats.begin(), value.floats.end());
      else cache.emplace("past_key_values." + name.substr(std::string_view("present.").size()), std::move(value));
    }
    begin = end;
  }
  return logits;
}

std::vector<float> run_classifier(const Model& model, const ImageShape& shape, const Batch& batch) {
  Values inputs;
  inputs.emplace("pixel_values", Tensor::of({batch.sequences, shape.channels, shape.height, shape.width}, pixels_of(batch, shape)));
  Values outputs = model.run(std::move(inputs));
  const auto logits = outputs.find("logits");
  if (logits == outputs.end()) fail("it has no output logits");
  return std::move(logits->second.floats);
}

/// The file's constants are the weights of `written` and the cosines and sines of its positions, bit for bit.
void check_constants(const Model& model, const DenseModel& written) {
  const auto check = [&](const std::string& name, std::int64_t rows, std::int64_t columns, const auto& value) {
    const Tensor& found = model.constant(name);
    bool same = found.is_float && found.size() == rows * columns;
    for (std::int64_t row = 0; same && row < rows; ++row)
      for (std::int64_t column = 0; column < columns; ++column)
        same = same && found.floats[static_cast<std::size_t>(row * columns + column)] == value(row, column);
    if (!same) throw std::runtime_error("export: " + name + " of the ONNX graph has other values than it should; nothing was written");
  };
  for (const TensorSpec& tensor : written.weights.table().tensors()) {
    const ConstView x = written.weights.view(tensor);
    if (tensor.name == "head")  // the only one that stands there transposed
      check(tensor.name, x.columns, x.rows, [&](std::int64_t row, std::int64_t column) { return x.row<float>(column)[row]; });
    else check(tensor.name, x.rows, x.columns, [&](std::int64_t row, std::int64_t column) { return x.row<float>(row)[column]; });
  }
  const ModelConfig& m = written.model;
  const auto& blocks = written.subnet.blocks;
  if (m.positions != Positions::rope || std::none_of(blocks.begin(), blocks.end(), [](const BlockGenes& genes) { return genes.heads > 0; }))
    return;
  const std::int64_t half = m.head_dim / 2;
  const auto angle = [frequencies = rotary_frequencies(m)](std::int64_t position, std::int64_t i) {
    return static_cast<double>(position) * frequencies[static_cast<std::size_t>(i)];
  };
  check("rotary.cos", m.context, half, [&](std::int64_t t, std::int64_t i) { return static_cast<float>(std::cos(angle(t, i))); });
  check("rotary.sin", m.context, half, [&](std::int64_t t, std::int64_t i) { return static_cast<float>(std::sin(angle(t, i))); });
}

}  // namespace

std::vector<float> run(const std::string& path, const Sample& sample, const DenseModel* written) {
  const Model model(path);
  if (written != nullptr) check_constants(model, *written);
  return sample.images.sequences > 0 ? run_classifier(model, sample.shape, sample.images) : run_decoder(model, sample.tokens);
}

}  // namespace elastiform::onnx_folder

#endif  // ELASTIFORM_ONNX
