#include "supernet/storage/table.hpp"

#include "kernels/errors.hpp"

namespace elastiform {
namespace {

template <class Values>
const Values& column_of(const Table& table, std::string_view name, const char* type) {
  for (const Table::Column& column : table.columns) {
    if (column.name != name) continue;
    if (const Values* values = std::get_if<Values>(&column.values)) return *values;
    throw InputError({table.where, "column " + std::string(name) + " of " + type, "another type", ""});
  }
  throw InputError({table.where, "a column " + std::string(name), "none", ""});
}

}  // namespace

std::size_t Table::Column::size() const {
  return std::visit([](const auto& list) { return list.size(); }, values);
}

const Table::Integers& Table::integers(std::string_view name) const { return column_of<Integers>(*this, name, "integers"); }
const Table::Reals& Table::reals(std::string_view name) const { return column_of<Reals>(*this, name, "reals"); }
const Table::Texts& Table::texts(std::string_view name) const { return column_of<Texts>(*this, name, "texts"); }

}  // namespace elastiform
