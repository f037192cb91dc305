#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "kernels/errors.hpp"
#include "kernels/mapped_file.hpp"
#include "supernet/storage/hdf5_state.hpp"

namespace elastiform {
namespace {

using hdf5::Call;
using hdf5::Handle;

constexpr int kMaxRank = 8;

std::string text_of(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

herr_t collect_name(hid_t, const char* name, const H5L_info_t*, void* names) {
  static_cast<std::vector<std::string>*>(names)->emplace_back(name);
  return 0;
}

bool same_type(hid_t found, hid_t wanted) { return H5Tequal(found, wanted) > 0; }

bool is_text(hid_t type) { return H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) > 0; }

// A writer may replace the file between the check of its SHA-256 and HDF5's opening it; each time it does, one attempt is lost.
constexpr int kMostAttempts = 100;

bool is_same(const struct stat& a, const struct stat& b) { return a.st_dev == b.st_dev && a.st_ino == b.st_ino; }

bool is_same_file(hid_t opened, int verified) {
  void* handle = nullptr;
  struct stat a {
  }, b{};
  return H5Fget_vfd_handle(opened, H5P_DEFAULT, &handle) >= 0 && handle != nullptr && ::fstat(*static_cast<int*>(handle), &a) == 0 &&
         ::fstat(verified, &b) == 0 && is_same(a, b);
}

bool names_file(const std::string& path, int verified) {
  struct stat a {
  }, b{};
  return ::stat(path.c_str(), &a) == 0 && ::fstat(verified, &b) == 0 && is_same(a, b);
}

/// The attribute, checked to be one value.
Handle open_attribute(hid_t file, const std::string& object, const std::string& name) {
  Handle attribute(H5Aopen_by_name(file, object.c_str(), name.c_str(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose);
  if (!attribute.is_open()) return {};
  const Handle space(H5Aget_space(attribute.get()), H5Sclose);
  return H5Sget_simple_extent_npoints(space.get()) == 1 ? std::move(attribute) : Handle();
}

}  // namespace

void Hdf5Reader::State::refuse(const std::string& object, const std::string& expected, const std::string& found) const {
  throw InputError({path + ": " + object, expected, found, ""});
}

Hdf5Reader::State::Dataset Hdf5Reader::State::open(const std::string& object) const {
  Dataset d;
  d.id = Handle(H5Dopen2(file.get(), object.c_str(), H5P_DEFAULT), H5Dclose);
  if (!d.id.is_open()) refuse(object, "a dataset", "none");
  d.type = Handle(H5Dget_type(d.id.get()), H5Tclose);
  d.space = Handle(H5Dget_space(d.id.get()), H5Sclose);
  const int rank = H5Sget_simple_extent_ndims(d.space.get());
  if (rank < 1 || rank > kMaxRank) refuse(object, "1 to 8 dimensions", std::to_string(rank));
  std::vector<hsize_t> dims(static_cast<std::size_t>(rank));
  H5Sget_simple_extent_dims(d.space.get(), dims.data(), nullptr);
  d.shape.assign(dims.begin(), dims.end());
  d.element_bytes = H5Tget_size(d.type.get());
  const Handle properties(H5Dget_create_plist(d.id.get()), H5Pclose);
  d.chunked = H5Pget_layout(properties.get()) == H5D_CHUNKED;
  // Rows of a chunked dataset take only the space they need, so there one row is the largest piece that is ever read at once.
  std::uint64_t limit = verified.bytes / std::max<std::size_t>(1, d.element_bytes);
  d.elements = 1;
  for (std::size_t i = d.shape.size(); i-- > 0;) {
    const bool rows_of_chunks = d.chunked && i == 0;
    const std::uint64_t most = rows_of_chunks ? std::numeric_limits<std::uint64_t>::max() / 8 : limit;
    if (d.shape[i] != 0 && d.elements > most / d.shape[i]) refuse(object, "a size that fits the file", text_of(d.shape));
    d.elements *= d.shape[i];
  }
  if (d.chunked && d.shape.front() > verified.bytes) refuse(object, "a size that fits the file", text_of(d.shape));
  return d;
}

template <class T>
std::vector<T> Hdf5Reader::State::values(const std::string& object, hid_t type, const char* type_name) const {
  const Dataset d = open(object);
  if (!same_type(d.type.get(), type)) refuse(object, type_name, "values of another type");
  if (d.elements > verified.bytes / sizeof(T)) refuse(object, "a size that fits the file", text_of(d.shape));
  std::vector<T> result(d.elements);
  if (!result.empty() && H5Dread(d.id.get(), type, H5S_ALL, H5S_ALL, H5P_DEFAULT, result.data()) < 0)
    refuse(object, "readable values", "damage");
  return result;
}

std::vector<std::string> Hdf5Reader::State::texts(const Dataset& d, const std::string& object) const {
  if (!is_text(d.type.get()) || d.chunked) refuse(object, "texts", "values of another type");
  std::vector<char*> pointers(d.elements);
  if (!pointers.empty() && H5Dread(d.id.get(), hdf5::text_type().get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, pointers.data()) < 0)
    refuse(object, "readable texts", "damage");
  std::vector<std::string> result;
  result.reserve(pointers.size());
  for (char* text : pointers) result.push_back(hdf5::take_text(text));
  return result;
}

ColumnTable Hdf5Reader::State::table(const Dataset& d, const std::string& object) const {
  if (H5Tget_class(d.type.get()) != H5T_COMPOUND || d.shape.size() != 1 || d.chunked) refuse(object, "a table", "values of another type");
  const std::size_t width = static_cast<std::size_t>(H5Tget_nmembers(d.type.get())), rows = d.elements;
  // Members cost at least a byte of the file each and slots eight of memory.
  const Handle memory(H5Tcreate(H5T_COMPOUND, 8 * width), H5Tclose);
  ColumnTable table;
  table.where = path + ": " + object;
  for (unsigned c = 0; c < width; ++c) {
    const Handle member(H5Tget_member_type(d.type.get(), c), H5Tclose);
    char* allocated = H5Tget_member_name(d.type.get(), c);
    const std::string name = hdf5::take_text(allocated);
    const Handle text = hdf5::text_type();
    hid_t slot = H5I_INVALID_HID;
    if (same_type(member.get(), H5T_STD_I64LE)) {
      slot = H5T_STD_I64LE;
      table.add(name, ColumnTable::Integers(rows));
    } else if (same_type(member.get(), H5T_IEEE_F64LE)) {
      slot = H5T_IEEE_F64LE;
      table.add(name, ColumnTable::Reals(rows));
    } else if (is_text(member.get())) {
      slot = text.get();
      table.add(name, ColumnTable::Texts(rows));
    } else {
      refuse(object, "columns of int64, float64 and text", "column " + name + " of another type");
    }
    H5Tinsert(memory.get(), name.c_str(), 8 * std::size_t{c}, slot);
  }
  std::vector<std::uint64_t> slots(width * rows);
  if (!slots.empty() && H5Dread(d.id.get(), memory.get(), H5S_ALL, H5S_ALL, H5P_DEFAULT, slots.data()) < 0)
    refuse(object, "readable rows", "damage");
  for (std::size_t c = 0; c < width; ++c) {
    std::visit(
        [&](auto& column) {
          for (std::size_t r = 0; r < rows; ++r) {
            const std::uint64_t& slot = slots[r * width + c];
            if constexpr (std::is_same_v<std::decay_t<decltype(column)>, ColumnTable::Texts>) {
              char* text = nullptr;
              std::memcpy(&text, &slot, sizeof text);
              column[r] = hdf5::take_text(text);
            } else {
              std::memcpy(&column[r], &slot, sizeof slot);
            }
          }
        },
        table.columns[c].values);
  }
  return table;
}

Hdf5Reader::Hdf5Reader(const std::string& path, std::string_view kind) : state_(std::make_unique<State>()) {
  state_->path = path;
  const Call call;
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  H5Pset_file_locking(access.get(), 0, 1);  // files are replaced, never changed in place
  for (int attempt = 0; attempt < kMostAttempts; ++attempt) {
    state_->verified = open_verified(path, kind);
    state_->file = Handle(H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.get()), H5Fclose);
    if (state_->file.is_open() && is_same_file(state_->file.get(), state_->verified.file.get())) return;
    if (!state_->file.is_open() && names_file(path, state_->verified.file.get())) break;
  }
  throw InputError({path, "an Elastiform HDF5 file", "one that HDF5 cannot read", ""});
}

Hdf5Reader::~Hdf5Reader() {
  const Call call;
  state_.reset();
}

const std::string& Hdf5Reader::path() const { return state_->path; }

std::uint64_t Hdf5Reader::file_bytes() const { return state_->verified.bytes; }

std::string Hdf5Reader::kind() const { return state_->verified.kind; }

bool Hdf5Reader::has(const std::string& path) const {
  const Call call;
  if (path == "/") return true;
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {  // HDF5 wants every step to exist
    if (H5Lexists(state_->file.get(), path.substr(0, slash).c_str(), H5P_DEFAULT) <= 0) return false;
    if (slash == std::string::npos) return true;
  }
}

std::vector<std::string> Hdf5Reader::children(const std::string& group) const {
  const Call call;
  const Handle opened(H5Gopen2(state_->file.get(), group.c_str(), H5P_DEFAULT), H5Gclose);
  if (!opened.is_open()) state_->refuse(group, "a group", "none");
  std::vector<std::string> names;
  if (H5Literate(opened.get(), H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, collect_name, &names) < 0)
    state_->refuse(group, "a group", "damage");
  std::sort(names.begin(), names.end());
  return names;
}

bool Hdf5Reader::has_attribute(const std::string& object, const std::string& name) const {
  const Call call;
  return H5Aexists_by_name(state_->file.get(), object.c_str(), name.c_str(), H5P_DEFAULT) > 0;
}

std::string Hdf5Reader::text_attribute(const std::string& object, const std::string& name) const {
  const Call call;
  const Handle attribute = open_attribute(state_->file.get(), object, name);
  const Handle type(attribute.is_open() ? H5Aget_type(attribute.get()) : H5I_INVALID_HID, H5Tclose);
  char* text = nullptr;
  if (!type.is_open() || !is_text(type.get()) || H5Aread(attribute.get(), hdf5::text_type().get(), &text) < 0)
    state_->refuse(object + "@" + name, "a text", "none");
  return hdf5::take_text(text);
}

std::int64_t Hdf5Reader::integer_attribute(const std::string& object, const std::string& name) const {
  const Call call;
  const Handle attribute = open_attribute(state_->file.get(), object, name);
  const Handle type(attribute.is_open() ? H5Aget_type(attribute.get()) : H5I_INVALID_HID, H5Tclose);
  std::int64_t value = 0;
  if (!type.is_open() || !same_type(type.get(), H5T_STD_I64LE) || H5Aread(attribute.get(), H5T_STD_I64LE, &value) < 0)
    state_->refuse(object + "@" + name, "an integer", "none");
  return value;
}

double Hdf5Reader::real_attribute(const std::string& object, const std::string& name) const {
  const Call call;
  const Handle attribute = open_attribute(state_->file.get(), object, name);
  const Handle type(attribute.is_open() ? H5Aget_type(attribute.get()) : H5I_INVALID_HID, H5Tclose);
  double value = 0;
  if (!type.is_open() || !same_type(type.get(), H5T_IEEE_F64LE) || H5Aread(attribute.get(), H5T_IEEE_F64LE, &value) < 0)
    state_->refuse(object + "@" + name, "a real number", "none");
  return value;
}

std::vector<std::uint64_t> Hdf5Reader::shape(const std::string& path) const {
  const Call call;
  return state_->open(path).shape;
}

std::vector<float> Hdf5Reader::floats(const std::string& path) const {
  const Call call;
  return state_->values<float>(path, H5T_IEEE_F32LE, "float32 values");
}

std::vector<double> Hdf5Reader::doubles(const std::string& path) const {
  const Call call;
  return state_->values<double>(path, H5T_IEEE_F64LE, "float64 values");
}

std::vector<std::int64_t> Hdf5Reader::integers(const std::string& path) const {
  const Call call;
  return state_->values<std::int64_t>(path, H5T_STD_I64LE, "int64 values");
}

std::vector<std::uint8_t> Hdf5Reader::bytes(const std::string& path) const {
  const Call call;
  return state_->values<std::uint8_t>(path, H5T_STD_U8LE, "uint8 values");
}

std::vector<std::string> Hdf5Reader::strings(const std::string& path) const {
  const Call call;
  return state_->texts(state_->open(path), path);
}

void Hdf5Reader::matrix(const std::string& path, View into) const {
  const Call call;
  const State::Dataset d = state_->open(path);
  const std::vector<std::uint64_t> wanted = {static_cast<std::uint64_t>(into.rows), static_cast<std::uint64_t>(into.columns)};
  const hid_t type = into.dtype == DType::float32 ? H5T_IEEE_F32LE : H5T_IEEE_F64LE;
  if (d.shape != wanted) state_->refuse(path, text_of(wanted), text_of(d.shape));
  if (!same_type(d.type.get(), type)) state_->refuse(path, std::string(name_of(into.dtype)) + " values", "values of another type");
  if (d.elements == 0) return;
  const hsize_t held[2] = {wanted[0], static_cast<hsize_t>(into.ld)}, start[2] = {0, 0}, used[2] = {wanted[0], wanted[1]};
  const Handle memory(H5Screate_simple(2, held, nullptr), H5Sclose);
  H5Sselect_hyperslab(memory.get(), H5S_SELECT_SET, start, nullptr, used, nullptr);
  if (H5Dread(d.id.get(), type, memory.get(), H5S_ALL, H5P_DEFAULT, into.data) < 0) state_->refuse(path, "readable values", "damage");
}

std::optional<std::int64_t> Hdf5Reader::matrix_place(const std::string& path) const {
  const Call call;
  const State::Dataset d = state_->open(path);
  if (std::endian::native != std::endian::little || !same_type(d.type.get(), H5T_IEEE_F32LE) || d.chunked || d.elements == 0) return {};
  const Handle properties(H5Dget_create_plist(d.id.get()), H5Pclose);
  const std::uint64_t bytes = d.elements * sizeof(float);
  if (H5Pget_external_count(properties.get()) != 0 || H5Dget_storage_size(d.id.get()) != bytes) return {};
  const haddr_t place = H5Dget_offset(d.id.get());
  if (place < kUserBlockBytes || place > state_->verified.bytes || bytes > state_->verified.bytes - place) return {};
  return static_cast<std::int64_t>(place);
}

MemoryBlock Hdf5Reader::map(std::int64_t from, std::int64_t to) const { return map_file(state_->verified.file.get(), from, to); }

ColumnTable Hdf5Reader::table(const std::string& path) const {
  const Call call;
  return state_->table(state_->open(path), path);
}

std::vector<std::vector<float>> Hdf5Reader::ragged(const std::string& path, std::span<const std::int64_t> counts) const {
  const Call call;
  const State::Dataset d = state_->open(path);
  if (d.shape.size() != 2 || !same_type(d.type.get(), H5T_IEEE_F32LE)) state_->refuse(path, "rows of float32", "values of another type");
  if (d.shape[0] != counts.size()) state_->refuse(path, std::to_string(counts.size()) + " rows", std::to_string(d.shape[0]));
  // Every counted value was written, so together they are no more than the file holds.
  std::uint64_t left = state_->verified.bytes / sizeof(float);
  std::vector<std::vector<float>> rows(counts.size());
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const std::uint64_t count = static_cast<std::uint64_t>(counts[r]);
    if (counts[r] < 0 || count > d.shape[1] || count > left) state_->refuse(path, "rows as long as the table says", text_of(d.shape));
    left -= count;
    if (count == 0) continue;
    rows[r].resize(count);
    const hsize_t start[2] = {r, 0}, extent[2] = {1, count};
    const Handle memory(H5Screate_simple(1, &extent[1], nullptr), H5Sclose);
    H5Sselect_hyperslab(d.space.get(), H5S_SELECT_SET, start, nullptr, extent, nullptr);
    if (H5Dread(d.id.get(), H5T_IEEE_F32LE, memory.get(), d.space.get(), H5P_DEFAULT, rows[r].data()) < 0)
      state_->refuse(path, "readable rows", "damage");
  }
  return rows;
}

}  // namespace elastiform
