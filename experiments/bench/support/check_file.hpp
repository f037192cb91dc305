#pragma once

#include <string>

#include "experiments/bench/support/shape.hpp"

namespace elastiform {

/// Writes PATH (JSON: the shape, its tokens, where each weight stands, and for the largest, the smallest and the listed subnets loss and
/// norm of the gradient in float32) and PATH.weights (float32, row after row), so that another program can show that it computes the same.
void write_check(const std::string& path, const Shape& shape, int threads);

}  // namespace elastiform
