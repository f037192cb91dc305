#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/matrix.hpp"
#include "tests/support/tolerances.hpp"

namespace elastiform {

/// One entry of tests/data/reference_vectors.json, computed in float64 by an independent program: vector("norm")["expected"]["rmsnorm"].
const nlohmann::json& vector(const std::string& name);

/// A list of numbers as one row, a list of lists as a matrix; tight, NaN outside.
Matrix matrix_of(const nlohmann::json& values, DType dtype);
/// What the entry itself allows for that element type.
Tolerance vector_tolerance(const nlohmann::json& entry, DType dtype);

/// Names of entries that no source below tests/ asks vector() for, sorted.
std::vector<std::string> unused_vectors();

}  // namespace elastiform
