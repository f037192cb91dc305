#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace elastiform {

/// Rows of named columns: one compound dataset of HDF5, a structured array in h5py. All columns are equally long.
struct ColumnTable {
  using Integers = std::vector<std::int64_t>;
  using Reals = std::vector<double>;
  using Texts = std::vector<std::string>;
  struct Column {
    std::string name;
    std::variant<Integers, Reals, Texts> values;
    std::size_t size() const;
  };
  std::string where;  // file and object, for errors
  std::vector<Column> columns;

  void add(std::string name, std::variant<Integers, Reals, Texts> values) { columns.push_back({std::move(name), std::move(values)}); }
  std::size_t rows() const { return columns.empty() ? 0 : columns.front().size(); }
  /// A column by name; InputError when the file lacks it or it has another type.
  const Integers& integers(std::string_view name) const;
  const Reals& reals(std::string_view name) const;
  const Texts& texts(std::string_view name) const;
};

}  // namespace elastiform
