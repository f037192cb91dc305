#include "supernet/storage/column_table.hpp"

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

template <class Values>
const Values& column_of(const ColumnTable& table, std::string_view name, const char* type) {
  for (const ColumnTable::Column& column : table.columns) {
    if (column.name != name) continue;
    if (const Values* values = std::get_if<Values>(&column.values)) return *values;
    throw InputError({table.where, "column " + std::string(name) + " of " + type, "another type", ""});
  }
  throw InputError({table.where, "a column " + std::string(name), "none", ""});
}

}  // namespace

std::size_t ColumnTable::Column::size() const {
  return std::visit([](const auto& list) { return list.size(); }, values);
}

const ColumnTable::Integers& ColumnTable::integers(std::string_view name) const { return column_of<Integers>(*this, name, "integers"); }
const ColumnTable::Reals& ColumnTable::reals(std::string_view name) const { return column_of<Reals>(*this, name, "reals"); }
const ColumnTable::Texts& ColumnTable::texts(std::string_view name) const { return column_of<Texts>(*this, name, "texts"); }

}  // namespace elastiform
