#include "tests/support/vectors.hpp"

#include <filesystem>
#include <stdexcept>

#include "tests/support/temporary_folder.hpp"

namespace elastiform {
namespace {

const nlohmann::json& all_vectors() {
  static const nlohmann::json file = nlohmann::json::parse(content_of(ELASTIFORM_TEST_DATA "/reference_vectors.json"));
  return file;
}

}  // namespace

const nlohmann::json& vector(const std::string& name) {
  const auto found = all_vectors().find(name);
  if (found == all_vectors().end()) throw std::out_of_range("reference_vectors.json has no entry " + name);
  return *found;
}

Matrix matrix_of(const nlohmann::json& values, DType dtype) {
  const bool nested = values.at(0).is_array();
  const auto rows = static_cast<std::int64_t>(nested ? values.size() : 1);
  const auto columns = static_cast<std::int64_t>(nested ? values.at(0).size() : values.size());
  Matrix result(rows, columns, columns, dtype, 0, kInputMark);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) result.set(i, j, (nested ? values.at(i).at(j) : values.at(j)).get<double>());
  return result;
}

Tolerance vector_tolerance(const nlohmann::json& entry, DType dtype) {
  const nlohmann::json& allowed = entry.at("tolerance");
  return dtype == DType::float64 ? Tolerance{allowed.at("f64_rel"), allowed.at("f64_abs"), "the vector's own, float64"}
                                 : Tolerance{allowed.at("f32_rel"), allowed.at("f32_abs"), "the vector's own, float32"};
}

std::vector<std::string> unused_vectors() {
  std::string sources;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(std::filesystem::path(ELASTIFORM_TEST_DATA).parent_path()))
    if (entry.path().extension() == ".cpp") sources += content_of(entry.path().string());
  std::vector<std::string> unused;
  for (const auto& item : all_vectors().items())
    if (item.key() != "_meta" && sources.find("vector(\"" + item.key() + "\")") == std::string::npos) unused.push_back(item.key());
  return unused;
}

}  // namespace elastiform
