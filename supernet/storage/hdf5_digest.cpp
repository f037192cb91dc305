#include <algorithm>
#include <cstdio>
#include <functional>

#include "kernels/errors.hpp"
#include "supernet/sha256.hpp"
#include "supernet/storage/hdf5_state.hpp"

namespace elastiform {
namespace {

using hdf5::Call;
using hdf5::Handle;

constexpr int kMaxDepth = 16;
constexpr std::uint64_t kPieceBytes = 4 << 20;  // of one read, so that a digest of gigabytes needs a few MiB

herr_t collect_attribute(hid_t, const char* name, const H5A_info_t*, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

/// Length before text, so that no two lists of texts hash alike.
void add_text(Sha256& sum, std::string_view text) {
  const std::uint64_t size = text.size();
  sum.add(&size, sizeof size).add(text);
}

std::string short_text(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 32) c = ' ';
  constexpr std::size_t kWidth = 80;
  return text.size() <= kWidth ? text : text.substr(0, kWidth) + "… (" + std::to_string(text.size()) + " bytes)";
}

enum class Kind : std::uint8_t { group, table, text, numbers };

/// Walks the file in order of path.
class Walk {
 public:
  using Visit = std::function<void(const std::string& path, Kind kind)>;
  Walk(const Hdf5Reader& reader, hid_t file, const std::string& where) : reader_(reader), file_(file), where_(where) {}

  void each(const std::string& path, const Visit& visit, int depth = 0) const {
    const Kind kind = kind_of(path);
    visit(path, kind);
    if (kind != Kind::group) return;
    if (depth == kMaxDepth) throw InputError({where_ + ": " + path, "at most 16 levels of groups", "more", ""});
    for (const std::string& child : reader_.children(path)) each((path == "/" ? "/" : path + "/") + child, visit, depth + 1);
  }

  std::vector<std::string> attributes(const std::string& path) const {
    const Handle object(H5Oopen(file_, path.c_str(), H5P_DEFAULT), H5Oclose);
    std::vector<std::string> names;
    H5Aiterate2(object.get(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, collect_attribute, &names);
    std::sort(names.begin(), names.end());
    return names;
  }

  /// Type and value of an attribute as text.
  std::string attribute(const std::string& path, const std::string& name) const {
    const Handle opened(H5Aopen_by_name(file_, path.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
    const Handle type(H5Aget_type(opened.get()), H5Tclose);
    if (H5Tget_class(type.get()) == H5T_STRING) return reader_.text_attribute(path, name);
    if (H5Tget_class(type.get()) == H5T_INTEGER) return std::to_string(reader_.integer_attribute(path, name));
    char text[32];
    std::snprintf(text, sizeof text, "%.17g", reader_.real_attribute(path, name));
    return text;
  }

 private:
  Kind kind_of(const std::string& path) const {
    const Handle object(H5Oopen(file_, path.c_str(), H5P_DEFAULT), H5Oclose);
    const H5I_type_t type = object.is_open() ? H5Iget_type(object.get()) : H5I_BADID;
    if (type == H5I_GROUP) return Kind::group;
    if (type != H5I_DATASET) throw InputError({where_ + ": " + path, "a group or a dataset", "something else", ""});
    const Handle element(H5Dget_type(object.get()), H5Tclose);
    switch (H5Tget_class(element.get())) {
      case H5T_COMPOUND: return Kind::table;
      case H5T_STRING: return Kind::text;
      case H5T_INTEGER:
      case H5T_FLOAT: return Kind::numbers;
      default: throw InputError({where_ + ": " + path, "numbers, texts or a table", "another type", ""});
    }
  }

  const Hdf5Reader& reader_;
  hid_t file_;
  const std::string& where_;
};

std::string type_text(hid_t type) {
  const std::string bits = std::to_string(8 * H5Tget_size(type));
  if (H5Tget_class(type) == H5T_FLOAT) return "float" + bits;
  return (H5Tget_sign(type) == H5T_SGN_NONE ? "uint" : "int") + bits;
}

}  // namespace

std::string Hdf5Reader::digest(const std::vector<std::string>& skip) const {
  const Call call;
  const auto skipped = [&](const std::string& name) { return std::find(skip.begin(), skip.end(), name) != skip.end(); };
  Sha256 sum;

  const auto add_numbers = [&](const State::Dataset& d, const std::string& path) {
    std::uint64_t row = d.element_bytes;
    for (std::size_t i = 1; i < d.shape.size(); ++i) row *= d.shape[i];
    const std::uint64_t rows_a_piece = std::max<std::uint64_t>(1, kPieceBytes / std::max<std::uint64_t>(1, row));
    std::vector<char> buffer(d.elements == 0 ? 0 : row * std::min(rows_a_piece, d.shape[0]));
    std::vector<hsize_t> start(d.shape.size(), 0), count(d.shape.begin(), d.shape.end());
    for (std::uint64_t first = 0; d.elements > 0 && first < d.shape[0]; first += rows_a_piece) {
      start[0] = first;
      count[0] = std::min(rows_a_piece, d.shape[0] - first);
      const hsize_t elements = count[0] * (row / d.element_bytes);
      const Handle memory(H5Screate_simple(1, &elements, nullptr), H5Sclose);
      H5Sselect_hyperslab(d.space.get(), H5S_SELECT_SET, start.data(), nullptr, count.data(), nullptr);
      if (H5Dread(d.id.get(), d.type.get(), memory.get(), d.space.get(), H5P_DEFAULT, buffer.data()) < 0)
        state_->refuse(path, "readable values", "damage");
      sum.add(buffer.data(), count[0] * row);
    }
  };
  const auto add_column = [&](const ColumnTable::Column& column) {
    add_text(sum, column.name);
    std::visit(
        [&](const auto& values) {
          if constexpr (std::is_same_v<std::decay_t<decltype(values)>, ColumnTable::Texts>) {
            for (const std::string& value : values) add_text(sum, value);
          } else {
            sum.add(values.data(), 8 * values.size());
          }
        },
        column.values);
  };

  const Walk walk(*this, state_->file.get(), state_->path);
  walk.each("/", [&](const std::string& path, Kind kind) {
    if (skipped(path)) return;
    add_text(sum, path);
    for (const std::string& name : walk.attributes(path)) {
      if (skipped(path + "@" + name)) continue;
      add_text(sum, "@" + name);
      add_text(sum, walk.attribute(path, name));
    }
    if (kind == Kind::group) return;
    const State::Dataset d = state_->open(path);
    add_text(sum, shape_text(d.shape));
    if (kind == Kind::table) {
      for (const ColumnTable::Column& column : state_->table(d, path).columns)
        if (!skipped(path + ":" + column.name)) add_column(column);
    } else if (kind == Kind::text) {
      for (const std::string& value : state_->texts(d, path)) add_text(sum, value);
    } else {
      add_text(sum, type_text(d.type.get()));
      add_numbers(d, path);
    }
  });
  return sum.hex();
}

std::vector<std::string> Hdf5Reader::listing() const {
  const Call call;
  std::vector<std::string> lines;
  const Walk walk(*this, state_->file.get(), state_->path);
  walk.each("/", [&](const std::string& path, Kind kind) {
    if (kind == Kind::table) {
      const ColumnTable table = state_->table(state_->open(path), path);
      std::string line = path + " table of " + std::to_string(table.rows()) + " rows:";
      for (const ColumnTable::Column& column : table.columns) line += " " + column.name;
      lines.push_back(line);
    } else if (kind != Kind::group) {
      const State::Dataset d = state_->open(path);
      lines.push_back(path + " " + (kind == Kind::text ? "text" : type_text(d.type.get())) + " " + shape_text(d.shape));
    }
    for (const std::string& name : walk.attributes(path))
      lines.push_back(path + "@" + name + " = " + short_text(walk.attribute(path, name)));
  });
  return lines;
}

}  // namespace elastiform
