#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "supernet/storage/durable_file.hpp"
#include "supernet/storage/hdf5_driver.hpp"
#include "supernet/storage/hdf5_file.hpp"
#include "supernet/storage/hdf5_handle.hpp"
#include "supernet/storage/user_block.hpp"

namespace elastiform {
namespace {

using hdf5::Call;
using hdf5::Handle;

// Columns of a table and elements of a text are C strings to HDF5: what follows a zero byte would be lost without a word.
const char* c_text(const std::string& text) {
  if (text.find('\0') != std::string::npos) throw std::invalid_argument("text with a zero byte in an HDF5 file");
  return text.c_str();
}

// A chunk of 256 float32 is 1 KiB: a row's last chunk wastes half of that on average.
constexpr hsize_t kRaggedChunk = 256;

// Whoever maps the file finds matrices at the bounds of vectors and cache lines.
constexpr hsize_t kAlignFrom = 1, kAlignment = 64;

std::vector<std::uint64_t> shape_or_flat(std::vector<std::uint64_t> shape, std::size_t size) {
  if (shape.empty()) shape = {size};
  const std::uint64_t product = std::accumulate(shape.begin(), shape.end(), std::uint64_t{1}, std::multiplies<>());
  if (product != size) throw ShapeError("dataset of " + std::to_string(size) + " values with a shape of " + std::to_string(product));
  return shape;
}

}  // namespace

struct Hdf5Writer::State {
  std::string path, kind;
  std::unique_ptr<DurableFile> durable;
  hdf5::WriteDriver driver;
  Handle file;

  /// A full disk: HDF5 does not know of it, see WriteDriver.
  void check_driver() const {
    if (driver.error() == 0) return;
    errno = driver.error();
    throw_system_error("write", path);
  }

  hid_t check(hid_t result, const std::string& object) const {
    check_driver();
    if (result < 0) throw std::runtime_error("cannot write " + object + " of " + path);
    return result;
  }

  static Handle without_times(hid_t kind_of_list) {
    Handle list(H5Pcreate(kind_of_list), H5Pclose);
    H5Pset_obj_track_times(list.get(), 0);
    return list;
  }

  Handle open_or_create_group(const std::string& object) const {
    Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
    H5Pset_create_intermediate_group(links.get(), 1);
    if (object == "/") return {check(H5Oopen(file.get(), "/", H5P_DEFAULT), object), H5Oclose};
    const hid_t found = H5Oopen(file.get(), object.c_str(), H5P_DEFAULT);
    if (found >= 0) return {found, H5Oclose};
    const Handle times = without_times(H5P_GROUP_CREATE);
    return {check(H5Gcreate2(file.get(), object.c_str(), links.get(), times.get(), H5P_DEFAULT), object), H5Gclose};
  }

  void attribute(const std::string& object, const std::string& name, hid_t type, const void* value) const {
    const Handle target = open_or_create_group(object);
    const Handle space(H5Screate(H5S_SCALAR), H5Sclose);
    const std::string label = object + "@" + name;
    const Handle made(check(H5Acreate2(target.get(), name.c_str(), type, space.get(), H5P_DEFAULT, H5P_DEFAULT), label), H5Aclose);
    check(H5Awrite(made.get(), type, value), label);
  }

  Handle create(const std::string& object, hid_t type, const std::vector<std::uint64_t>& shape, hid_t properties) const {
    const std::vector<hsize_t> dims(shape.begin(), shape.end());
    const Handle space(check(H5Screate_simple(static_cast<int>(dims.size()), dims.data(), nullptr), object), H5Sclose);
    const Handle links(H5Pcreate(H5P_LINK_CREATE), H5Pclose);
    H5Pset_create_intermediate_group(links.get(), 1);
    return {check(H5Dcreate2(file.get(), object.c_str(), type, space.get(), links.get(), properties, H5P_DEFAULT), object), H5Dclose};
  }

  /// `memory`: the data's own arrangement, if it is not dense.
  void dataset(const std::string& object, hid_t type, const std::vector<std::uint64_t>& shape, const void* data, bool empty,
               hid_t memory = H5S_ALL) const {
    const Handle properties = without_times(H5P_DATASET_CREATE);
    // Every number is written once, right below; HDF5 insists on filling what holds texts.
    const H5T_class_t kind_of_type = H5Tget_class(type);
    if (kind_of_type == H5T_INTEGER || kind_of_type == H5T_FLOAT) H5Pset_fill_time(properties.get(), H5D_FILL_TIME_NEVER);
    const Handle made = create(object, type, shape, properties.get());
    if (!empty) check(H5Dwrite(made.get(), type, memory, H5S_ALL, H5P_DEFAULT, data), object);
  }
};

Hdf5Writer::Hdf5Writer(std::string path, std::string kind) : state_(std::make_unique<State>()) {
  const Call call;
  state_->path = std::move(path);
  state_->kind = std::move(kind);
  state_->durable = std::make_unique<DurableFile>(state_->path);
  const Handle creation = State::without_times(H5P_FILE_CREATE);
  H5Pset_userblock(creation.get(), kUserBlockBytes);
  const Handle access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  H5Pset_alignment(access.get(), kAlignFrom, kAlignment);
  state_->driver.use_in(access.get());
  state_->file = Handle(H5Fcreate(state_->durable->temporary().c_str(), H5F_ACC_TRUNC, creation.get(), access.get()), H5Fclose);
  if (!state_->file.is_open()) {
    errno = state_->driver.error() != 0 ? state_->driver.error() : EIO;
    throw_system_error("create", state_->path);
  }
}

Hdf5Writer::~Hdf5Writer() {
  const Call call;
  state_.reset();
}

void Hdf5Writer::attribute(const std::string& object, const std::string& name, std::string_view value) {
  const Call call;
  const std::string text(value);
  const char* pointer = c_text(text);
  state_->attribute(object, name, hdf5::text_type().get(), &pointer);
}

void Hdf5Writer::attribute(const std::string& object, const std::string& name, std::int64_t value) {
  const Call call;
  state_->attribute(object, name, H5T_STD_I64LE, &value);
}

void Hdf5Writer::attribute(const std::string& object, const std::string& name, double value) {
  const Call call;
  state_->attribute(object, name, H5T_IEEE_F64LE, &value);
}

void Hdf5Writer::dataset(const std::string& path, std::span<const float> values, std::vector<std::uint64_t> shape) {
  const Call call;
  state_->dataset(path, H5T_IEEE_F32LE, shape_or_flat(std::move(shape), values.size()), values.data(), values.empty());
}

void Hdf5Writer::dataset(const std::string& path, std::span<const double> values, std::vector<std::uint64_t> shape) {
  const Call call;
  state_->dataset(path, H5T_IEEE_F64LE, shape_or_flat(std::move(shape), values.size()), values.data(), values.empty());
}

void Hdf5Writer::dataset(const std::string& path, std::span<const std::int64_t> values, std::vector<std::uint64_t> shape) {
  const Call call;
  state_->dataset(path, H5T_STD_I64LE, shape_or_flat(std::move(shape), values.size()), values.data(), values.empty());
}

void Hdf5Writer::dataset(const std::string& path, std::span<const std::uint8_t> values, std::vector<std::uint64_t> shape) {
  const Call call;
  state_->dataset(path, H5T_STD_U8LE, shape_or_flat(std::move(shape), values.size()), values.data(), values.empty());
}

void Hdf5Writer::dataset(const std::string& path, const std::vector<std::string>& values) {
  const Call call;
  std::vector<const char*> pointers;
  for (const std::string& value : values) pointers.push_back(c_text(value));
  state_->dataset(path, hdf5::text_type().get(), {values.size()}, pointers.data(), values.empty());
}

void Hdf5Writer::matrix(const std::string& path, ConstView values) {
  const Call call;
  const hsize_t rows = static_cast<hsize_t>(values.rows), columns = static_cast<hsize_t>(values.columns);
  const hid_t type = values.dtype == DType::float32 ? H5T_IEEE_F32LE : H5T_IEEE_F64LE;
  const bool empty = rows * columns == 0;
  const hsize_t held[2] = {rows, static_cast<hsize_t>(values.ld)}, start[2] = {0, 0}, used[2] = {rows, columns};
  const Handle memory(empty ? H5Screate(H5S_NULL) : H5Screate_simple(2, held, nullptr), H5Sclose);
  if (!empty) H5Sselect_hyperslab(memory.get(), H5S_SELECT_SET, start, nullptr, used, nullptr);
  state_->dataset(path, type, {rows, columns}, values.data, empty, memory.get());
}

void Hdf5Writer::table(const std::string& path, const ColumnTable& values) {
  const Call call;
  const std::size_t width = values.columns.size(), rows = values.rows();
  const Handle type(H5Tcreate(H5T_COMPOUND, 8 * width), H5Tclose);
  std::vector<std::uint64_t> slots(width * rows);  // an integer, a real or a pointer to a text each: all of eight bytes
  static_assert(sizeof(const char*) == 8);
  const Handle text = hdf5::text_type();
  for (std::size_t c = 0; c < width; ++c) {
    const ColumnTable::Column& column = values.columns[c];
    if (column.size() != rows) throw ShapeError("column " + column.name + " of " + path + " has another length");
    const auto put = [&](hid_t member, auto value_of) {
      state_->check(H5Tinsert(type.get(), column.name.c_str(), 8 * c, member), path);
      for (std::size_t r = 0; r < rows; ++r) {
        const auto value = value_of(r);
        static_assert(sizeof value == 8);
        std::memcpy(&slots[r * width + c], &value, 8);
      }
    };
    if (const auto* integers = std::get_if<ColumnTable::Integers>(&column.values))
      put(H5T_STD_I64LE, [&](std::size_t r) { return (*integers)[r]; });
    else if (const auto* reals = std::get_if<ColumnTable::Reals>(&column.values))
      put(H5T_IEEE_F64LE, [&](std::size_t r) { return (*reals)[r]; });
    else put(text.get(), [&](std::size_t r) { return c_text(std::get<ColumnTable::Texts>(column.values)[r]); });
  }
  state_->dataset(path, type.get(), {rows}, slots.data(), rows == 0);
}

void Hdf5Writer::ragged(const std::string& path, const std::vector<std::span<const float>>& rows) {
  const Call call;
  std::size_t longest = 0;
  for (const auto& row : rows) longest = std::max(longest, row.size());
  const Handle properties = State::without_times(H5P_DATASET_CREATE);
  const float missing = std::numeric_limits<float>::quiet_NaN();
  H5Pset_fill_value(properties.get(), H5T_IEEE_F32LE, &missing);
  const hsize_t chunk[2] = {1, std::min<hsize_t>(kRaggedChunk, std::max<hsize_t>(1, longest))};
  H5Pset_chunk(properties.get(), 2, chunk);
  const Handle made = state_->create(path, H5T_IEEE_F32LE, {rows.size(), longest}, properties.get());
  const Handle space(H5Dget_space(made.get()), H5Sclose);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (rows[r].empty()) continue;
    const hsize_t start[2] = {r, 0}, count[2] = {1, rows[r].size()};
    const Handle memory(H5Screate_simple(1, &count[1], nullptr), H5Sclose);
    H5Sselect_hyperslab(space.get(), H5S_SELECT_SET, start, nullptr, count, nullptr);
    state_->check(H5Dwrite(made.get(), H5T_IEEE_F32LE, memory.get(), space.get(), H5P_DEFAULT, rows[r].data()), path);
  }
}

void Hdf5Writer::close() {
  const Call call;
  if (!state_->file.is_open()) throw std::logic_error("Hdf5Writer closed twice");
  const bool closed = state_->file.close();
  state_->check_driver();
  if (!closed) throw std::runtime_error("cannot write " + state_->path);
  fail_point();
  begin_to_write(state_->durable->temporary());
  seal_user_block(state_->durable->temporary(), state_->kind);
  state_->durable->commit();
}

}  // namespace elastiform
