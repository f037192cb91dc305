#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace elastiform::onnx_folder {

/// A value of a graph while it is run: floats, or whole numbers (of which booleans are two).
struct Tensor {
  std::vector<std::int64_t> shape;
  std::vector<float> floats;
  std::vector<std::int64_t> integers;
  bool is_float = true;

  std::int64_t size() const { return is_float ? static_cast<std::int64_t>(floats.size()) : static_cast<std::int64_t>(integers.size()); }
  static Tensor of(std::vector<std::int64_t> shape, std::vector<float> values);
  static Tensor of(std::vector<std::int64_t> shape, std::vector<std::int64_t> values);
};

// The operators that an exported model has, as ONNX's operator list defines them. Shapes that do not fit are std::runtime_errors.
Tensor combined(const Tensor& a, const Tensor& b, const std::function<float(float, float)>& each);  // broadcast, floats
Tensor combined_integers(const Tensor& a, const Tensor& b, const std::function<std::int64_t(std::int64_t, std::int64_t)>& each);
Tensor chosen(const Tensor& condition, const Tensor& yes, const Tensor& no);  // Where
Tensor mapped(Tensor x, float (*each)(float));
Tensor product(const Tensor& a, const Tensor& b);  // MatMul
Tensor transposed(const Tensor& x, const std::vector<std::int64_t>& order);
Tensor reshaped(Tensor x, const std::vector<std::int64_t>& shape);
Tensor unsqueezed(Tensor x, std::vector<std::int64_t> axes);
Tensor joined(const Tensor& a, const Tensor& b, std::int64_t axis);
std::vector<Tensor> split(const Tensor& x, const std::vector<std::int64_t>& sizes, std::int64_t axis);
Tensor gathered(const Tensor& x, const Tensor& indices, std::int64_t axis = 0);
Tensor expanded(const Tensor& x, const std::vector<std::int64_t>& shape);
Tensor softmax_of_last(Tensor x);
Tensor mean_of(const Tensor& x, std::int64_t axis);  // which stays, of one element
Tensor layer_norm(const Tensor& x, const Tensor& gain, const Tensor* bias, float eps);

}  // namespace elastiform::onnx_folder
