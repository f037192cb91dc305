#include "supernet/formats/onnx_tensor.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <numeric>
#include <stdexcept>
#include <type_traits>

#include "supernet/formats/weight_rows.hpp"

namespace elastiform::onnx_folder {
namespace {

using Shape = std::vector<std::int64_t>;

void need(bool holds, const char* what) {
  if (!holds) throw std::runtime_error(std::string("export: the ONNX graph cannot be run: ") + what);
}

constexpr std::int64_t kMostElements = std::int64_t{1} << 31;  // of one value; a file of a kilobyte can ask for any number

/// The limit holds without the axes of size 0 too, so that strides of an empty value stay inside 64 bits.
std::int64_t count(const Shape& shape) {
  std::int64_t product = 1;
  bool empty = false;
  for (const std::int64_t size : shape) {
    need(size >= 0, "a negative size");
    if (size == 0) {
      empty = true;
      continue;
    }
    need(product <= kMostElements / size, "a value of more than 2147483648 elements");
    product *= size;
  }
  return empty ? 0 : product;
}

std::size_t axis_of(std::int64_t axis, const Tensor& x) {
  const auto rank = static_cast<std::int64_t>(x.shape.size());
  if (axis < 0) axis += rank;
  need(axis >= 0 && axis < rank, "an axis that is none");
  return static_cast<std::size_t>(axis);
}

Shape broadcast(const Shape& a, const Shape& b) {
  Shape shape(std::max(a.size(), b.size()), 1);
  for (std::size_t i = 0; i < shape.size(); ++i) {  // from the last axis
    const std::int64_t x = i < a.size() ? a[a.size() - 1 - i] : 1, y = i < b.size() ? b[b.size() - 1 - i] : 1;
    need(x == y || x == 1 || y == 1, "shapes that do not broadcast");
    shape[shape.size() - 1 - i] = x == 1 ? y : x;
  }
  return shape;
}

/// Elements from one index to the next along each axis of `shape`; 0 where `of` is repeated.
Shape strides(const Shape& of, const Shape& shape) {
  Shape steps(shape.size(), 0);
  std::int64_t step = 1;
  for (std::size_t i = 0; i < of.size(); ++i) {
    const std::int64_t size = of[of.size() - 1 - i];
    if (size != 1) steps[shape.size() - 1 - i] = step;
    step *= size;
  }
  return steps;
}

/// Calls each(place in a, place in b) for every element of `shape`, in order.
template <class Each>
void walk(const Shape& shape, const Shape& a, const Shape& b, const Each& each) {
  const std::int64_t total = count(shape);
  Shape index(shape.size(), 0);
  std::int64_t at_a = 0, at_b = 0;
  for (std::int64_t i = 0; i < total; ++i) {
    each(at_a, at_b);
    for (std::size_t axis = shape.size(); axis-- > 0;) {
      at_a += a[axis];
      at_b += b[axis];
      if (++index[axis] < shape[axis]) break;
      at_a -= a[axis] * shape[axis];
      at_b -= b[axis] * shape[axis];
      index[axis] = 0;
    }
  }
}

template <class T>
T element(const std::vector<T>& values, std::int64_t at) {
  return values[static_cast<std::size_t>(at)];
}

template <class T, class Each>
std::vector<T> pairwise(const Tensor& a, const Tensor& b, const std::vector<T>& x, const std::vector<T>& y, const Shape& shape,
                        const Each& each) {
  std::vector<T> values;
  values.reserve(static_cast<std::size_t>(count(shape)));
  walk(shape, strides(a.shape, shape), strides(b.shape, shape),
       [&](std::int64_t i, std::int64_t j) { values.push_back(each(element(x, i), element(y, j))); });
  return values;
}

template <class T>
std::vector<T> permuted(const std::vector<T>& values, const Shape& shape, const Shape& steps) {
  if (shape.size() == 2) {
    std::vector<T> result(values.size());
    for_each_in_tiles(shape[0], shape[1], [&](std::int64_t row, std::int64_t column) {
      result[static_cast<std::size_t>(row * shape[1] + column)] = element(values, row * steps[0] + column * steps[1]);
    });
    return result;
  }
  std::vector<T> result;
  result.reserve(values.size());
  walk(shape, steps, steps, [&](std::int64_t i, std::int64_t) { result.push_back(element(values, i)); });
  return result;
}

/// Rows [outer][width] of a tensor seen from an axis: width holds the axis and what is inside it.
template <class T>
void copy_rows(const std::vector<T>& from, std::int64_t from_width, std::int64_t from_at, std::vector<T>& to, std::int64_t to_width,
               std::int64_t to_at, std::int64_t width, std::int64_t outer) {
  for (std::int64_t row = 0; row < outer; ++row)
    std::copy_n(from.begin() + row * from_width + from_at, width, to.begin() + row * to_width + to_at);
}

constexpr std::int64_t kColumns = 32;  // whose sums stay in registers, and a weight's share of them in the cache while rows change
template <std::int64_t count>
using Fixed = std::integral_constant<std::int64_t, count>;

/// out[0 … width-1] += x[inner] · w[inner, of `columns`].
template <class Width>
void add_products(const float* x, std::int64_t inner, const float* w, std::int64_t columns, float* out, Width width) {
  float sums[kColumns];
  std::copy_n(out, static_cast<std::int64_t>(width), sums);
  for (std::int64_t k = 0; k < inner; ++k)
    for (std::int64_t column = 0; column < width; ++column) sums[column] += x[k] * w[k * columns + column];
  std::copy_n(sums, static_cast<std::int64_t>(width), out);
}

/// Elements before and behind an axis.
std::int64_t outside(const Tensor& x, std::size_t axis) {
  return count(Shape(x.shape.begin(), x.shape.begin() + static_cast<std::ptrdiff_t>(axis)));
}
std::int64_t inside(const Tensor& x, std::size_t axis) {
  return count(Shape(x.shape.begin() + static_cast<std::ptrdiff_t>(axis) + 1, x.shape.end()));
}

}  // namespace

Tensor Tensor::of(std::vector<std::int64_t> shape, std::vector<float> values) {
  need(count(shape) == static_cast<std::int64_t>(values.size()), "a tensor that does not fill its shape");
  return {std::move(shape), std::move(values), {}, true};
}

Tensor Tensor::of(std::vector<std::int64_t> shape, std::vector<std::int64_t> values) {
  need(count(shape) == static_cast<std::int64_t>(values.size()), "a tensor that does not fill its shape");
  return {std::move(shape), {}, std::move(values), false};
}

Tensor combined(const Tensor& a, const Tensor& b, const std::function<float(float, float)>& each) {
  need(a.is_float && b.is_float, "whole numbers among floats");
  const Shape shape = broadcast(a.shape, b.shape);
  return Tensor::of(shape, pairwise(a, b, a.floats, b.floats, shape, each));
}

Tensor combined_integers(const Tensor& a, const Tensor& b, const std::function<std::int64_t(std::int64_t, std::int64_t)>& each) {
  need(!a.is_float && !b.is_float, "floats among whole numbers");
  const Shape shape = broadcast(a.shape, b.shape);
  return Tensor::of(shape, pairwise(a, b, a.integers, b.integers, shape, each));
}

Tensor chosen(const Tensor& condition, const Tensor& yes, const Tensor& no) {
  need(!condition.is_float && yes.floats.size() == 1 && no.floats.size() == 1, "Where with more than two numbers");
  std::vector<float> values;
  for (const std::int64_t one : condition.integers) values.push_back(one != 0 ? yes.floats[0] : no.floats[0]);
  return Tensor::of(condition.shape, std::move(values));
}

Tensor mapped(Tensor x, float (*each)(float)) {
  for (float& value : x.floats) value = each(value);
  return x;
}

Tensor product(const Tensor& a, const Tensor& b) {
  need(a.is_float && b.is_float && a.shape.size() >= 2 && b.shape.size() >= 2, "a MatMul of something else than matrices");
  const std::int64_t rows = a.shape[a.shape.size() - 2], inner = a.shape.back(), columns = b.shape.back();
  need(b.shape[b.shape.size() - 2] == inner, "a MatMul whose matrices do not fit");
  const Shape batch_a(a.shape.begin(), a.shape.end() - 2), batch_b(b.shape.begin(), b.shape.end() - 2), batch = broadcast(batch_a, batch_b);
  Shape shape = batch;
  shape.insert(shape.end(), {rows, columns});
  std::vector<float> values(static_cast<std::size_t>(count(shape)), 0.0f);
  float* out = values.data();
  if (values.empty()) return Tensor::of(std::move(shape), std::move(values));
  walk(batch, strides(batch_a, batch), strides(batch_b, batch), [&](std::int64_t i, std::int64_t j) {
    const float *x = a.floats.data() + i * rows * inner, *w = b.floats.data() + j * inner * columns;
    std::int64_t first = 0;
    for (; first + kColumns <= columns; first += kColumns)
      for (std::int64_t row = 0; row < rows; ++row)
        add_products(x + row * inner, inner, w + first, columns, out + row * columns + first, Fixed<kColumns>());
    for (std::int64_t row = 0; row < rows; ++row)
      add_products(x + row * inner, inner, w + first, columns, out + row * columns + first, columns - first);
    out += rows * columns;
  });
  return Tensor::of(std::move(shape), std::move(values));
}

Tensor transposed(const Tensor& x, const std::vector<std::int64_t>& order) {
  Shape sorted = order;
  std::sort(sorted.begin(), sorted.end());
  for (std::size_t i = 0; i < sorted.size(); ++i) need(sorted[i] == static_cast<std::int64_t>(i), "a Transpose that is no order of axes");
  need(order.size() == x.shape.size(), "a Transpose of another rank");
  Shape shape, steps, own(x.shape.size(), 1);
  for (std::size_t i = x.shape.size(); i-- > 1;) own[i - 1] = own[i] * x.shape[i];
  for (const std::int64_t axis : order) {
    shape.push_back(x.shape[axis_of(axis, x)]);
    steps.push_back(own[axis_of(axis, x)]);
  }
  if (x.is_float) return Tensor::of(shape, permuted(x.floats, shape, steps));
  return Tensor::of(shape, permuted(x.integers, shape, steps));
}

Tensor reshaped(Tensor x, const std::vector<std::int64_t>& shape) {
  Shape result = shape;
  std::int64_t open = -1;
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] == 0) need(i < x.shape.size(), "a Reshape that copies no axis"), result[i] = x.shape[i];
    if (result[i] == -1) need(open < 0, "a Reshape with two open axes"), open = static_cast<std::int64_t>(i);
  }
  Shape closed;
  std::copy_if(result.begin(), result.end(), std::back_inserter(closed), [](std::int64_t size) { return size != -1; });
  const std::int64_t known = count(closed);
  if (open >= 0) result[static_cast<std::size_t>(open)] = known == 0 ? 0 : x.size() / known;
  need(count(result) == x.size(), "a Reshape to another size");
  x.shape = std::move(result);
  return x;
}

Tensor unsqueezed(Tensor x, std::vector<std::int64_t> axes) {
  std::sort(axes.begin(), axes.end());
  for (const std::int64_t axis : axes) {
    need(axis >= 0 && axis <= static_cast<std::int64_t>(x.shape.size()), "an Unsqueeze outside");
    x.shape.insert(x.shape.begin() + axis, 1);
  }
  return x;
}

Tensor joined(const Tensor& a, const Tensor& b, std::int64_t axis) {
  need(a.shape.size() == b.shape.size() && a.is_float == b.is_float, "a Concat of different ranks");
  const std::size_t at = axis_of(axis, a);
  Shape shape = a.shape;
  for (std::size_t i = 0; i < shape.size(); ++i) need(i == at || shape[i] == b.shape[i], "a Concat of different sizes");
  shape[at] += b.shape[at];
  const std::int64_t outer = outside(a, at), first = a.shape[at] * inside(a, at), second = b.shape[at] * inside(a, at);
  const auto joined_values = [&](const auto& x, const auto& y) {
    std::decay_t<decltype(x)> values(static_cast<std::size_t>(count(shape)));
    copy_rows(x, first, 0, values, first + second, 0, first, outer);
    copy_rows(y, second, 0, values, first + second, first, second, outer);
    return Tensor::of(shape, std::move(values));
  };
  return a.is_float ? joined_values(a.floats, b.floats) : joined_values(a.integers, b.integers);
}

std::vector<Tensor> split(const Tensor& x, const std::vector<std::int64_t>& sizes, std::int64_t axis) {
  const std::size_t at = axis_of(axis, x);
  for (const std::int64_t size : sizes) need(size >= 0 && size <= x.shape[at], "a Split into sizes that are none of its axis");
  need(x.is_float && std::accumulate(sizes.begin(), sizes.end(), std::int64_t{0}) == x.shape[at], "a Split into other sizes");
  const std::int64_t inner = inside(x, at), width = x.shape[at] * inner;
  const std::int64_t outer = width == 0 ? 0 : x.size() / width;
  std::vector<Tensor> parts;
  std::int64_t begin = 0;
  for (const std::int64_t size : sizes) {
    Shape shape = x.shape;
    shape[at] = size;
    std::vector<float> values(static_cast<std::size_t>(count(shape)));
    copy_rows(x.floats, width, begin, values, size * inner, 0, size * inner, outer);
    parts.push_back(Tensor::of(std::move(shape), std::move(values)));
    begin += size * inner;
  }
  return parts;
}

Tensor gathered(const Tensor& x, const Tensor& indices, std::int64_t axis) {
  need(!x.shape.empty() && !indices.is_float, "a Gather without indices");
  const std::size_t at = axis_of(axis, x);
  const std::int64_t outer = outside(x, at), inner = inside(x, at), width = x.shape[at] * inner;
  Shape shape(x.shape.begin(), x.shape.begin() + static_cast<std::ptrdiff_t>(at));
  shape.insert(shape.end(), indices.shape.begin(), indices.shape.end());
  shape.insert(shape.end(), x.shape.begin() + static_cast<std::ptrdiff_t>(at) + 1, x.shape.end());
  const std::int64_t total = count(shape);  // before anything is filled
  for (const std::int64_t index : indices.integers) need(index >= 0 && index < x.shape[at], "a Gather outside");
  const auto picked = [&](const auto& values) {
    std::decay_t<decltype(values)> result;
    result.reserve(static_cast<std::size_t>(total));
    for (std::int64_t row = 0; total > 0 && row < outer; ++row)
      for (const std::int64_t index : indices.integers) {
        const auto from = values.begin() + row * width + index * inner;
        result.insert(result.end(), from, from + inner);
      }
    return Tensor::of(shape, std::move(result));
  };
  return x.is_float ? picked(x.floats) : picked(x.integers);
}

Tensor expanded(const Tensor& x, const std::vector<std::int64_t>& shape) {
  need(x.is_float, "an Expand of whole numbers");
  const Shape result = broadcast(x.shape, shape);
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(count(result)));
  walk(result, strides(x.shape, result), strides(x.shape, result),
       [&](std::int64_t i, std::int64_t) { values.push_back(element(x.floats, i)); });
  return Tensor::of(result, std::move(values));
}

Tensor softmax_of_last(Tensor x) {
  need(x.is_float && !x.shape.empty(), "a Softmax of a scalar");
  const std::int64_t width = x.shape.back();
  for (auto row = x.floats.begin(); row != x.floats.end(); row += width) {
    const float largest = *std::max_element(row, row + width);
    double sum = 0;
    for (auto value = row; value != row + width; ++value) sum += * value = std::exp(*value - largest);
    for (auto value = row; value != row + width; ++value) *value = static_cast<float>(*value / sum);
  }
  return x;
}

Tensor mean_of(const Tensor& x, std::int64_t axis) {
  need(x.is_float, "a ReduceMean of whole numbers");
  const std::size_t at = axis_of(axis, x);
  const std::int64_t outer = outside(x, at), inner = inside(x, at), size = x.shape[at];
  Shape shape = x.shape;
  need(size > 0, "a ReduceMean of nothing");
  shape[at] = 1;
  std::vector<float> values;
  values.reserve(static_cast<std::size_t>(count(shape)));
  for (std::int64_t row = 0; row < outer; ++row)
    for (std::int64_t column = 0; column < inner; ++column) {
      double sum = 0;
      for (std::int64_t i = 0; i < size; ++i) sum += static_cast<double>(element(x.floats, (row * size + i) * inner + column));
      values.push_back(static_cast<float>(sum / static_cast<double>(size)));
    }
  return Tensor::of(std::move(shape), std::move(values));
}

Tensor layer_norm(const Tensor& x, const Tensor& gain, const Tensor* bias, float eps) {
  need(x.is_float && !x.shape.empty(), "a LayerNormalization of a scalar");
  const std::int64_t width = x.shape.back(), found = static_cast<std::int64_t>(gain.floats.size());
  need(found == width && (bias == nullptr || static_cast<std::int64_t>(bias->floats.size()) == width),
       "a LayerNormalization of another width");
  Tensor result = x;
  for (auto row = result.floats.begin(); row != result.floats.end(); row += width) {
    const double mean = std::accumulate(row, row + width, 0.0) / static_cast<double>(width);
    double square = 0;
    for (auto value = row; value != row + width; ++value) square += (*value - mean) * (*value - mean);
    const double scale = 1 / std::sqrt(square / static_cast<double>(width) + static_cast<double>(eps));
    for (std::int64_t i = 0; i < width; ++i) {
      const double normal = (row[i] - mean) * scale * static_cast<double>(element(gain.floats, i));
      row[i] = static_cast<float>(normal + (bias == nullptr ? 0 : static_cast<double>(element(bias->floats, i))));
    }
  }
  return result;
}

}  // namespace elastiform::onnx_folder
